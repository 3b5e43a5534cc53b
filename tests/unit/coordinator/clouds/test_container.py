"""Machines of the container cloud: real namespaces, real disks, real cloud-init, this host."""

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import uuid
from ipaddress import ip_address
from pathlib import Path

import pytest

from coordinator.clouds.base import MachineState
from coordinator.clouds.container import ContainerCloud
from coordinator.clouds.container_start import installation
from coordinator.clouds.machine_directory import RECORD
from coordinator.clouds.machine_network import interface
from coordinator.clouds.process_table import ProcessTable
from coordinator.errors import ConfigProblem, LaunchRefused, NotFound
from coordinator.testing import eventually, make_request

RUN = "run-1"
NODE = "launch-1-0"
QUICK = {"boot_command": '["/bin/true"]'}


def need(program):
    """Skip, or fail in CI, where this host lacks what the test is about."""
    if os.geteuid() != 0 or shutil.which(program) is None:
        why = f"takes root and {program}"
        pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)


@pytest.fixture
def root(tmp_path):
    """A directory for machines; whatever runs in one is ended, and no mount may be left."""
    need("python3")
    path = tmp_path / "machines, with: odd\\names"
    yield path
    records = [json.loads(file.read_text()) for file in path.glob(f"*/{RECORD}")]
    ProcessTable().end([record["mark"] for record in records], timeout=20)
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


@pytest.fixture
def make_cloud(root):
    return lambda **settings: ContainerCloud.from_settings({"root": str(root), **settings}, root)


@pytest.fixture
def quick(make_cloud):
    """Machines with a real init, and nothing in cloud-init's place."""
    return make_cloud(**QUICK)


@pytest.fixture
def cloud(make_cloud):
    need("cloud-init")
    return make_cloud()


def launch(cloud, **changes):
    cloud.launch(make_request(**changes))
    return cloud.list_instances(RUN)


def booted(cloud, **changes):
    """The one machine, once its boot has ended."""
    [machine] = launch(cloud, **changes)
    eventually(lambda: "the boot " in cloud.console_output(machine.cloud_id), timeout=90)
    return machine


def said(cloud, machine, *words, environment=None):
    """What a program on the machine prints."""
    command = cloud.exec_command(machine.cloud_id, words, environment or {})
    return subprocess.run(
        command.words,
        env=command.environment,
        cwd=command.directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout


# ------------------------------------------------------------------ cloud-init


def test_real_cloud_init_does_what_user_data_says_on_the_machine_and_not_on_the_host(cloud):
    name = f"/etc/epu-test-{uuid.uuid4().hex}"
    user_data = "#cloud-config\n" + json.dumps(
        {
            "write_files": [{"path": name, "content": "written\n", "permissions": "0600"}],
            "runcmd": [["sh", "-c", f"echo ran >>{name}; ( setsid sleep 987 & )"]],
        }
    )
    cloud.launch(make_request(count=2, user_data=user_data))
    machines = cloud.list_instances(RUN)
    for machine in machines:
        eventually(lambda m=machine: "the boot " in cloud.console_output(m.cloud_id), timeout=90)
        assert said(cloud, machine, "cat", name) == "written\nran\n"
        data = json.loads(said(cloud, machine, "cat", "/run/cloud-init/instance-data.json"))
        assert data["ds"]["meta_data"]["ami-launch-index"] == machine.index
        assert data["v1"]["instance_id"] == machine.cloud_id
        assert cloud.boot_status(machine.cloud_id).startswith("status: done\n")
        assert "warnings:" not in cloud.boot_status(machine.cloud_id)
        assert "status: done" in said(cloud, machine, "cloud-init", "status", "--long")
        assert "sleep 987" in said(cloud, machine, "ps", "ax")
    assert not Path(name).exists()
    assert not Path("/run/cloud-init").exists() or not Path("/run/cloud-init/result.json").exists()


@pytest.mark.parametrize(
    ("user_data", "told"),
    [
        ("#cloud-config\nruncmd: [[/bin/false]]\n", "status: error"),
        ("#cloud-config\nruncmd: [\n", "Failed loading yaml blob"),
    ],
)
def test_user_data_that_fails_is_told_by_boot_status_and_console(cloud, user_data, told):
    machine = booted(cloud, user_data=user_data)
    assert told in cloud.boot_status(machine.cloud_id)
    assert "WARNING" in cloud.console_output(machine.cloud_id)
    assert cloud.list_instances(RUN)[0].state is MachineState.RUNNING  # kept, for a look


def test_boot_status_reads_nothing_of_the_host_through_a_link_of_the_machines(quick, root):
    machine = booted(quick)
    place = "/var/lib/cloud/data"
    said(quick, machine, "sh", "-c", f"mkdir -p {place}; ln -s /etc/hostname {place}/status.json")
    honest = ContainerCloud.from_settings({"root": str(root)}, root)
    assert honest.boot_status(machine.cloud_id).startswith("status: not run")
    assert honest.boot_status("nonsense") is None


# ------------------------------------------------------------------ what a machine sees


def test_a_machine_has_a_name_pids_and_file_system_of_its_own(quick):
    machine = booted(quick)
    script = "hostname; cat /etc/hostname; echo $$; touch /etc/mine /usr/bin/mine /tmp/mine; pwd"
    name, same, pid, where = said(quick, machine, "sh", "-c", script).split()
    assert name == same == NODE
    assert int(pid) < 100
    assert where == "/root"
    for path in ("/etc/mine", "/usr/bin/mine", "/tmp/mine"):
        assert not Path(path).exists()


def test_a_machine_sees_none_of_the_hosts_files_services_and_processes(quick, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    machine = booted(quick)
    listing = said(quick, machine, "sh", "-c", "ls -A /home /run /var/tmp /root /srv; ps ax")
    assert "pytest" not in listing
    assert "sshd" not in listing
    for path in (secret, "/run/postgresql", "/run/dbus", "/dev/vda", f"/proc/1/root{secret}"):
        found = said(quick, machine, "sh", "-c", 'test -e "$0" && echo there || echo none', path)
        assert found == "none\n", path
    assert ":*:" in said(quick, machine, "grep", "^root:", "/etc/shadow")
    readable = "find /etc -type f ! -perm -004 ! -name shadow ! -name gshadow ! -name 'sudoers*'"
    host = subprocess.run(["sh", "-c", readable], capture_output=True, text=True).stdout.split()
    script = 'for path; do if test -e "$path"; then echo "$path"; fi; done'
    assert said(quick, machine, "sh", "-c", script, "sh", *host) == ""


def test_the_rights_of_a_machines_root_end_at_the_machine(quick):
    machine = booted(quick)
    for words in (
        ["mount", "-t", "tmpfs", "none", "/mnt"],
        ["mknod", "/dev/disk", "b", "254", "0"],
        ["sh", "-c", "echo 1 >/proc/sys/kernel/printk"],
        ["sh", "-c", "echo b >/proc/sysrq-trigger"],
        ["hostname", "other"],
        ["date", "-s", "2001-01-01"],
    ):
        command = quick.exec_command(machine.cloud_id, words, {})
        done = subprocess.run(command.words, env=command.environment, capture_output=True)
        assert done.returncode != 0, words


def test_the_installation_is_baked_in_and_can_not_be_changed(quick):
    machine = booted(quick)
    print_it = "import agent.messages, msgspec, sys; print(sys.prefix)"
    assert said(quick, machine, "/opt/epu/bin/python", "-c", print_it)
    assert said(quick, machine, sys.executable, "-c", print_it).strip() == sys.prefix
    script = 'for place; do ls "$place" >&2; touch "$place/x" 2>/dev/null && echo changed; done; :'
    assert said(quick, machine, "sh", "-c", script, "sh", *installation()) == ""


def test_nothing_of_our_environment_reaches_a_machine(make_cloud, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    cloud = make_cloud(boot_command='["/bin/sh", "-c", "env"]')
    machine = booted(cloud)
    assert "AWS_" not in cloud.console_output(machine.cloud_id)
    assert f"EPU_NODE_ID={NODE}" in cloud.console_output(machine.cloud_id)
    assert "secret" not in said(cloud, machine, "env")


def test_what_is_written_to_dev_console_is_on_the_console(quick):
    machine = booted(quick)
    said(quick, machine, "sh", "-c", "for n in $(seq 3000); do echo told-$n; done >/dev/console")
    eventually(lambda: "told-2999\ntold-3000\n" in quick.console_output(machine.cloud_id))


def test_orphans_are_buried(quick):
    machine = booted(quick)
    said(quick, machine, "sh", "-c", "(sh -c 'sleep 0.1' &) ; true")
    eventually(lambda: "sleep" not in said(quick, machine, "ps", "ax", "-o", "stat,comm"))
    assert "Z" not in said(quick, machine, "ps", "ax", "-o", "stat=").split()


# ------------------------------------------------------------------ its end


def test_termination_ends_every_process_and_keeps_only_the_logs(quick, root):
    machine = booted(quick)
    said(quick, machine, "sh", "-c", "(setsid env -i sleep 986 </dev/null >/dev/null 2>&1 &)")
    mark = machine.cloud_id.rpartition(".")[2]
    assert len(ProcessTable().of([mark])) == 2
    quick.terminate([machine.cloud_id])
    assert ProcessTable().of([mark]) == []
    assert quick.list_instances(RUN) == []
    left = {path.name for path in (root / NODE).iterdir()}
    assert left == {"machine.json", "lock", "started", "terminated", "logs"}
    assert "the machine is up" in quick.console_output(machine.cloud_id)
    assert quick.boot_status(machine.cloud_id) is None
    with pytest.raises(NotFound):
        quick.exec_command(machine.cloud_id, ["true"], {})


def test_a_machine_whose_init_is_killed_is_gone_with_all_its_processes(quick):
    machine = booted(quick)
    said(quick, machine, "sh", "-c", "(setsid sleep 985 </dev/null >/dev/null 2>&1 &)")
    mark = machine.cloud_id.rpartition(".")[2]
    [first] = [p for p in ProcessTable().of([mark]) if "init.py" in command_of(p.pid)]
    os.kill(first.pid, 9)
    eventually(lambda: quick.list_instances(RUN)[0].state is MachineState.GONE)
    assert ProcessTable().of([mark]) == []
    with pytest.raises(NotFound, match="is gone"):
        quick.exec_command(machine.cloud_id, ["true"], {})


def test_sigterm_to_the_init_shuts_the_machine_down_in_good_order(quick):
    machine = booted(quick)
    script = "trap 'echo told >/proc/1/fd/1; exit' TERM; echo ready; while :; do sleep 0.1; done"
    command = quick.exec_command(machine.cloud_id, ["sh", "-c", script], {})
    with subprocess.Popen(
        command.words, env=command.environment, stdout=subprocess.PIPE
    ) as program:
        assert program.stdout.readline() == b"ready\n"
        mark = machine.cloud_id.rpartition(".")[2]
        [first] = [p for p in ProcessTable().of([mark]) if "init.py" in command_of(p.pid)]
        os.kill(first.pid, 15)
        eventually(lambda: quick.list_instances(RUN)[0].state is MachineState.GONE, timeout=30)
    console = quick.console_output(machine.cloud_id)
    assert "told" in console
    assert console.rstrip().endswith("the machine ends")


# ------------------------------------------------------------------ programs from outside


def test_a_program_gets_words_and_environment_untouched_and_gives_its_exit_code(quick):
    machine = booted(quick)
    command = quick.exec_command(
        machine.cloud_id, ["sh", "-c", 'echo "$0|$X|$EPU_NODE_ID"; exit 7', "$A 'b"],
        {"X": "s3cret `id`", "EPU_NODE_ID": "forged"},
    )  # fmt: skip
    assert not any("s3cret" in word for word in command.words)
    done = subprocess.run(
        command.words, env=command.environment, cwd=command.directory, capture_output=True
    )
    assert done.stdout.decode() == f"$A 'b|s3cret `id`|{NODE}\n"
    assert done.returncode == 7


def test_a_program_takes_input_and_ends_with_its_group_and_with_its_machine(quick):
    machine = booted(quick)
    mark = machine.cloud_id.rpartition(".")[2]
    before = len(ProcessTable().of([mark]))

    def start():
        command = quick.exec_command(machine.cloud_id, ["sh", "-c", "cat; sleep 984"], {})
        return subprocess.Popen(
            command.words, env=command.environment, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    with start() as program:
        program.stdin.write(b"given\n")
        program.stdin.close()
        assert program.stdout.readline() == b"given\n"
        os.killpg(program.pid, 9)
    eventually(lambda: len(ProcessTable().of([mark])) == before)
    with start() as program:
        program.stdin.write(b"again\n")
        program.stdin.flush()
        assert program.stdout.readline() == b"again\n"
        quick.terminate([machine.cloud_id])
        assert program.wait(10) != 0


def test_a_program_that_is_not_there_is_said(quick):
    machine = booted(quick)
    command = quick.exec_command(machine.cloud_id, ["no-such-program"], {})
    done = subprocess.run(command.words, env=command.environment, capture_output=True)
    assert done.returncode == 127
    assert done.stderr == b"no-such-program: not found on the machine\n"


# ------------------------------------------------------------------ networks


def test_a_private_network_is_a_cable_to_the_host_that_ends_with_the_machine(make_cloud):
    need("ip")
    cloud = make_cloud(network="private", **QUICK)
    cloud.launch(make_request(count=2))
    first, second = cloud.list_instances(RUN)
    assert first.addresses != second.addresses
    [address] = first.addresses
    with socket.create_server(("0.0.0.0", 0)) as server:
        server.settimeout(20)
        source = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)"
        host = str(ip_address(address) - 1)
        words = ["python3", "-c", source, host, str(server.getsockname()[1])]
        said(cloud, first, *words)
        assert server.accept()[1][0] == address
        cable = interface(first.cloud_id.rpartition(".")[2])
        assert cable in os.listdir("/sys/class/net")
        subprocess.run(["ip", "link", "set", cable, "down"], check=True)
        with pytest.raises(subprocess.CalledProcessError):
            said(cloud, first, *words)
    assert "eth0" in said(cloud, second, "ip", "-br", "address")
    assert said(cloud, second, "ls", "/sys/class/net").split() == ["eth0", "lo"]
    cloud.terminate([first.cloud_id])
    eventually(lambda: cable not in os.listdir("/sys/class/net"))


# ------------------------------------------------------------------ settings


def test_settings_that_are_wrong_are_all_told(root, tmp_path):
    settings = {
        "rootfz": "/", "rootfs": str(tmp_path), "network": "hots", "boot_command": "true",
    }  # fmt: skip
    with pytest.raises(ConfigProblem) as caught:
        ContainerCloud.from_settings(settings, tmp_path)
    text = str(caught.value)
    assert "rootfz: unknown key (did you mean 'rootfs'?)" in text
    assert "network: there is no network 'hots' (did you mean 'host'?)" in text
    assert "boot_command: must be a JSON list of words" in text
    assert "has no /usr/bin/python3" in text


def test_whoever_is_not_root_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ConfigProblem, match=r"take root .*use the process cloud"):
        ContainerCloud.from_settings(QUICK, tmp_path)


def test_a_root_on_an_overlay_is_told_before_anything_is_launched(root, tmp_path):
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    source = (
        "import sys; from pathlib import Path\n"
        "from coordinator.clouds.container import ContainerCloud\n"
        "ContainerCloud.from_settings({'boot_command': '[\"true\"]'}, Path('merged/state'))"
    )
    options = "lowerdir=lower,upperdir=upper,workdir=work"
    words = 'mount -t overlay o -o "$0" merged && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", words, options, sys.executable, "-c", source],
        cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    assert "is on overlay, which can't carry machines' disks" in done.stderr


def test_a_machine_that_can_not_be_made_is_refused_with_the_reason(make_cloud, tmp_path):
    image = tmp_path / "image"
    for name in ("etc", "usr/bin"):
        (image / name).mkdir(parents=True)
    (image / "usr/bin/python3").write_text("not to be executed")
    cloud = make_cloud(rootfs=str(image), **QUICK)
    with pytest.raises(LaunchRefused, match=f"{NODE} not started: Permission denied"):
        cloud.launch(make_request())
    assert cloud.list_instances(RUN) == []
    (image / "usr/bin/python3").unlink()
    with pytest.raises(LaunchRefused, match="No such file"):  # tried again, and told again
        cloud.launch(make_request())


def test_an_unpacked_image_is_a_root_file_system_too(make_cloud, tmp_path):
    image = tmp_path / "image"
    for name in ("etc", "usr/bin", "usr/lib", "var/lib/cloud", "lib64", "proc", "sys", "dev"):
        (image / name).mkdir(parents=True)
    (image / "var/lib/cloud/memory").write_text("of another machine")
    (image / "etc/secret").write_text("the image's own")
    python = Path("/usr/bin/python3").resolve()
    libraries = subprocess.run(["ldd", str(python)], capture_output=True, text=True).stdout
    for word in libraries.split():
        if word.startswith("/"):
            target = image / word.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(word, target)
    shutil.copy(python, image / "usr/bin/python3")
    library = f"/usr/lib/{python.name}"
    (image / library.lstrip("/")).symlink_to(library)
    shutil.rmtree(image / library.lstrip("/"), ignore_errors=True)
    (image / library.lstrip("/")).unlink(missing_ok=True)
    shutil.copytree(
        library, image / library.lstrip("/"),
        ignore=shutil.ignore_patterns("test", "__pycache__", "idlelib", "config-*", "ensurepip"),
    )  # fmt: skip
    show = "import os; print(sorted(os.listdir('/')), os.listdir('/var/lib/cloud'), flush=True)"
    words = json.dumps(["/usr/bin/python3", "-I", "-S", "-c", show])
    cloud = make_cloud(boot_command=words)
    with pytest.raises(LaunchRefused, match=f"'{tmp_path}' has no /usr/bin/python3"):
        cloud.launch(make_request(settings={"rootfs": str(tmp_path)}))
    machine = booted(cloud, settings={"rootfs": str(image), "type": "m1.small"})
    console = cloud.console_output(machine.cloud_id)
    assert "'etc', 'lib'" in console
    assert "'work'" not in console
    assert "memory" not in console
    assert stat.S_ISREG((image / "var/lib/cloud/memory").stat().st_mode)
    assert not (image / "usr/lib/epu").exists()


def command_of(pid):
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
