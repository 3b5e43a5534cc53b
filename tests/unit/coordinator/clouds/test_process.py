"""Machines of the process cloud: started once, found wholly, ended wholly. Real processes."""

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from coordinator.clouds.base import MachineState
from coordinator.clouds.process import (
    ProcessCloud,
    continue_machine,
    kill_machine,
    machine_processes,
    stop_machine,
)
from coordinator.errors import ConfigProblem, LaunchRefused, NotFound, RetryLater
from coordinator.testing import eventually, make_request

RUN = "run-1"
NODE = "launch-1-0"


def listed(cloud):
    return [(m.index, m.state) for m in cloud.list_instances(RUN)]


def has_agent(root):
    """Waits until the machine's agent (whatever its command) runs beside its supervisord.

    Between fork and exec a child of supervisord still has supervisord's command.
    """

    def both():
        found = machine_processes(root, NODE)
        return len({process.command for process in found}) >= 2 and found

    return eventually(both)


def proc_state(pid):
    text = Path(f"/proc/{pid}/stat").read_text()
    return text[text.rindex(")") + 2]


def is_running(pid):
    try:
        return proc_state(pid) not in "ZX"
    except OSError:
        return False


# ------------------------------------------------------------------ what a machine is


def test_a_machine_is_nobodys_child_in_a_session_of_its_own(cloud, root):
    cloud.launch(make_request())
    supervisord = has_agent(root)[0]
    text = Path(f"/proc/{supervisord.pid}/stat").read_text()
    _, parent, _, session = text[text.rindex(")") + 2 :].split()[:4]
    assert int(session) == supervisord.pid
    assert int(parent) != os.getpid()
    for descriptor in Path(f"/proc/{supervisord.pid}/fd").iterdir():
        target = os.readlink(descriptor)
        assert target == "/dev/null" or target.startswith((str(root), "socket:", "pipe:"))


def test_a_machines_directory_has_what_its_agent_reads(cloud, root):
    cloud.launch(make_request(count=2, user_data="secret ü\n"))
    directory = root / "launch-1-1"
    assert (directory / "user-data").read_text() == "secret ü\n"
    identity = json.loads((directory / "instance-data.json").read_text())
    [_, second] = cloud.list_instances(RUN)
    assert identity == {"launch_index": 1, "cloud_id": second.cloud_id}
    assert (directory / "conf.d").is_dir()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / "user-data").stat().st_mode) == 0o600


def test_the_default_agent_is_the_one_of_this_installation(root):
    ProcessCloud.from_settings({}, root).launch(make_request())
    text = (root / NODE / "supervisord.conf").read_text()
    assert (
        f"{sys.executable} -m agent.service --config {root}/{NODE}/user-data"
        f" --instance-data {root}/{NODE}/instance-data.json --dir {root}/{NODE}\n" in text
    )


def test_a_machine_knows_who_it_is_and_nothing_of_our_credentials(cloud, root, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    cloud.launch(make_request(user_data="t0ken"))
    for process in has_agent(root):
        environment = Path(f"/proc/{process.pid}/environ").read_text()
        assert f"EPU_NODE_ID={NODE}\0" in environment
        assert f"EPU_NODE_DIR={root}/{NODE}\0" in environment
        assert "s3cret" not in environment
        assert "t0ken" not in environment + process.command


def test_an_agent_that_dies_is_started_again(cloud, root):
    cloud.launch(make_request())
    [agent] = [p for p in has_agent(root) if p.command == "/bin/sleep 600"]
    os.kill(agent.pid, signal.SIGKILL)
    eventually(
        lambda: any(
            p.command == "/bin/sleep 600" and p.pid != agent.pid
            for p in machine_processes(root, NODE)
        )
    )


def test_the_console_is_the_end_of_the_agents_log(make_cloud, python):
    cloud = make_cloud(*python("import time; print('hello'); print('w' * 99_999, flush=True)"))
    cloud.launch(make_request())
    [machine] = cloud.list_instances(RUN)
    said = eventually(
        lambda: "w" * 1000 in (text := cloud.console_output(machine.cloud_id)) and text
    )
    assert len(said) <= 16_384
    assert cloud.console_output("launch-9-0." + "0" * 24) is None


def test_a_path_too_long_for_a_socket_gets_one_elsewhere_and_it_is_cleaned(root, tmp_path):
    deep = tmp_path / ("d" * 100)
    cloud = ProcessCloud(deep, ["/bin/sleep", "600"])
    cloud.launch(make_request())
    [machine] = cloud.list_instances(RUN)
    socket = Path(json.loads((deep / NODE / "machine.json").read_text())["socket"])
    eventually(socket.is_socket)
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
    cloud.terminate([machine.cloud_id])
    assert not socket.parent.exists()


# ------------------------------------------------------------------ started once


def test_the_same_launch_from_several_processes_at_once_starts_each_machine_once(
    root, cloud, supervisords_of
):
    source = (
        "import sys, time; from pathlib import Path\n"
        "from coordinator.clouds.process import ProcessCloud\n"
        "from coordinator.testing import make_request\n"
        "cloud = ProcessCloud(Path(sys.argv[1]), ['/bin/sleep', '600'])\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "cloud.launch(make_request(count=3))\n"
    )
    callers = [
        subprocess.Popen(
            [sys.executable, "-c", source, str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(3)
    ]
    for caller in callers:
        caller.stdout.readline()
    for caller in callers:
        caller.stdin.write(b"\n")
        caller.stdin.flush()
    for caller in callers:
        caller.communicate(timeout=60)
        assert caller.returncode == 0
    assert listed(cloud) == [(i, MachineState.RUNNING) for i in range(3)]
    assert [supervisords_of(f"launch-1-{i}") for i in range(3)] == [1, 1, 1]


def test_a_machine_that_died_is_not_started_again_by_a_repeated_launch(cloud, root, processes_of):
    cloud.launch(make_request())
    kill_machine(root, NODE)
    cloud.launch(make_request())
    assert listed(cloud) == [(0, MachineState.GONE)]
    assert not processes_of(NODE)


def test_a_terminated_machine_is_not_started_again_even_when_it_never_ran(cloud, root):
    cloud.launch(make_request())
    [machine] = cloud.list_instances(RUN)
    cloud.terminate([machine.cloud_id])
    (root / NODE / "started").unlink()  # as if its launcher had been killed before the start
    cloud.launch(make_request())
    assert not listed(cloud)
    assert not (root / NODE / "user-data").exists()


def test_a_claimed_machine_is_not_listed_and_started_by_the_repeated_launch(cloud, root):
    cloud.launch(make_request())
    kill_machine(root, NODE)
    (root / NODE / "started").unlink()
    assert not listed(cloud)
    cloud.launch(make_request())
    assert listed(cloud) == [(0, MachineState.RUNNING)]


def test_a_record_damaged_by_a_power_failure_hides_one_machine_only(cloud, root):
    cloud.launch(make_request(count=2))
    kill_machine(root, NODE)
    (root / NODE / "machine.json").write_text("")
    assert [m.index for m in ProcessCloud(root).list_instances(RUN)] == [1]


# ------------------------------------------------------------------ found wholly, ended wholly

#: An agent that tries to get away: children without the mark, in sessions of their own,
#: orphans, and one that ignores SIGTERM. Their pids are written to the file ``pids``.
ESCAPIST = """
import os, subprocess, sys, time
words = [sys.executable, "-c", "import signal, time; signal.signal(15, 1); time.sleep(600)"]
pids = [subprocess.Popen(words, env={}).pid,
        subprocess.Popen(words, env={}, start_new_session=True).pid,
        subprocess.Popen(words, start_new_session=True).pid]
daemon = [sys.executable, "-c", "import subprocess, sys; print(subprocess.Popen("
          "sys.argv[1:], start_new_session=True, stdout=2).pid)", *words]
pids.append(int(subprocess.run(daemon, stdout=-1, text=True).stdout))
orphan = [sys.executable, "-c", "import subprocess, sys; print(subprocess.Popen("
          "sys.argv[1:], env={}, stdout=2).pid)", *words]
pids.insert(0, int(subprocess.run(orphan, stdout=-1, text=True).stdout))
open("pids.new", "w").write(" ".join(map(str, pids)))
os.rename("pids.new", "pids")
time.sleep(600)
"""


@pytest.fixture
def escapist(make_cloud, root, python):
    """A cloud with one machine of the escapist, and the pids of what got away."""
    cloud = make_cloud(*python(ESCAPIST))
    cloud.launch(make_request())
    file = eventually(lambda: (found := root / NODE / "pids").exists() and found)
    pids = [int(pid) for pid in file.read_text().split()]
    yield cloud, pids
    for pid in pids:
        if is_running(pid):
            os.kill(pid, signal.SIGKILL)


def test_every_process_of_a_machine_is_found(escapist, root):
    _, pids = escapist
    assert set(pids) <= {p.pid for p in machine_processes(root, NODE)}


def test_termination_leaves_no_process_and_no_secret_but_the_logs(escapist, root):
    cloud, pids = escapist
    [machine] = cloud.list_instances(RUN)
    (root / NODE / "broker.json").write_text("{}")
    cloud.terminate([machine.cloud_id])
    assert not [pid for pid in pids if is_running(pid)]
    assert not listed(cloud)
    left = {path.name for path in (root / NODE).iterdir()}
    assert left == {"logs", "machine.json", "lock", "started", "terminated"}
    assert (root / NODE / "logs" / "supervisord.log").stat().st_size


def test_a_killed_machine_is_gone_with_a_reason_until_it_is_terminated(escapist, root):
    cloud, pids = escapist
    kill_machine(root, NODE)
    assert not [pid for pid in pids if is_running(pid)]
    [machine] = cloud.list_instances(RUN)
    assert (machine.state, machine.problem) == (MachineState.GONE, "no process left")
    assert (root / NODE / "user-data").exists()
    cloud.terminate([machine.cloud_id])
    assert not listed(cloud)
    assert not (root / NODE / "user-data").exists()


def test_a_machine_lives_while_any_process_of_it_does(escapist, root):
    cloud, pids = escapist
    orphan = pids[-1]
    for process in machine_processes(root, NODE):
        if process.pid != orphan:
            os.kill(process.pid, signal.SIGKILL)
    eventually(lambda: [p.pid for p in machine_processes(root, NODE)] == [orphan])
    assert listed(cloud) == [(0, MachineState.RUNNING)]


def test_a_stopped_machine_is_there_and_silent_and_goes_on_when_continued(escapist, root):
    cloud, pids = escapist
    stop_machine(root, NODE)
    everything = [p.pid for p in machine_processes(root, NODE)]
    eventually(lambda: {proc_state(pid) for pid in everything} == {"T"})
    assert set(pids) <= set(everything)
    assert listed(cloud) == [(0, MachineState.RUNNING)]
    continue_machine(root, NODE)
    eventually(lambda: "T" not in {proc_state(pid) for pid in everything})


def test_a_stopped_machine_can_be_terminated(escapist, root):
    cloud, pids = escapist
    stop_machine(root, NODE)
    [machine] = cloud.list_instances(RUN)
    cloud.terminate([machine.cloud_id])
    assert not [pid for pid in pids if is_running(pid)]


def test_a_machine_whose_directory_was_removed_can_still_be_terminated(cloud, root, processes_of):
    cloud.launch(make_request())
    has_agent(root)
    [machine] = cloud.list_instances(RUN)
    subprocess.run(["rm", "-r", str(root / NODE)], check=True)
    assert processes_of(NODE)
    cloud.terminate([machine.cloud_id])
    assert not processes_of(NODE)


def test_a_process_with_a_mark_of_its_own_belongs_to_nobody_else(make_cloud, root, python):
    """Such is a machine that a machine launches, while it is still in the other's session."""
    # In a group of its own: the kernel hangs up stopped groups that are orphaned.
    cloud = make_cloud(
        *python(
            "import os, subprocess, time\n"
            "other = subprocess.Popen(['/bin/sleep', '600'], env={'EPU_MARK': 'another'},\n"
            "                         process_group=0)\n"
            "open('pid.new', 'w').write(str(other.pid)); os.rename('pid.new', 'pid')\n"
            "time.sleep(600)"
        )
    )
    cloud.launch(make_request())
    other = int(eventually(lambda: (f := root / NODE / "pid").exists() and f).read_text())
    try:
        [machine] = cloud.list_instances(RUN)
        cloud.terminate([machine.cloud_id])
        assert is_running(other)
    finally:
        os.kill(other, signal.SIGKILL)


def test_a_login_shell_that_has_the_mark_in_a_child_is_not_taken_along(cloud, root):
    cloud.launch(make_request())
    [machine] = cloud.list_instances(RUN)
    mark = machine.cloud_id.partition(".")[2]
    shell = subprocess.Popen(
        ["/bin/sh", "-c", f"EPU_MARK={mark} sleep 600 & sleep 600 & echo; wait"],
        start_new_session=True,
        stdout=subprocess.PIPE,
    )
    try:
        shell.stdout.readline()
        eventually(lambda: len(machine_processes(root, NODE)) >= 3)
        cloud.terminate([machine.cloud_id])
        assert shell.poll() is None
    finally:
        os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()


def test_a_machine_launched_from_a_machine_is_not_part_of_it(make_cloud, root, tmp_path, python):
    inner_root = root / "inner"
    source = (
        "import time; from pathlib import Path\n"
        "from coordinator.clouds.process import ProcessCloud\n"
        "from coordinator.testing import make_request\n"
        f"ProcessCloud(Path({str(inner_root)!r}), ['/bin/sleep', '600']).launch(\n"
        "    make_request('inner', run='run-2'))\n"
        "time.sleep(600)"
    )
    outer = make_cloud(*python(source))
    outer.launch(make_request())
    inner = ProcessCloud(inner_root)
    [worker] = eventually(lambda: inner.list_instances("run-2"))
    eventually(lambda: inner.list_instances("run-2")[0].state is MachineState.RUNNING)
    [base] = outer.list_instances(RUN)
    outer.terminate([base.cloud_id])
    assert [m.state for m in inner.list_instances("run-2")] == [MachineState.RUNNING]
    inner.terminate([worker.cloud_id])
    assert not inner.list_instances("run-2")


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize("launch_id", ["../x", "a/b", "", ".", "a.b", "-a", "a" * 200, "a\n"])
def test_a_launch_id_that_is_no_name_is_refused(cloud, root, launch_id):
    with pytest.raises(LaunchRefused):
        cloud.launch(make_request(launch_id))
    assert not root.exists()


def test_user_data_that_is_no_text_is_refused_without_being_shown(cloud):
    with pytest.raises(LaunchRefused) as problem:
        cloud.launch(make_request(user_data="s3cret \ud800"))
    assert "s3cret" not in str(problem.value)
    assert problem.value.__cause__ is None


def test_a_root_that_can_not_be_made_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LaunchRefused, match="launch-1 can't be launched: .*file.*: Not a dir"):
        ProcessCloud(tmp_path / "file" / "machines").launch(make_request())


def test_a_full_disk_is_tried_again_later_and_keeps_no_machine_alive(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(disk)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs root to mount a small file system")
    cloud = ProcessCloud(disk / "machines", ["/bin/sleep", "600"])
    try:
        cloud.launch(make_request("before"))
        filler = (disk / "filler").open("wb", buffering=0)
        with filler, pytest.raises(OSError, match="No space"):
            while True:
                filler.write(b"\0" * 4096)
        with pytest.raises(RetryLater, match="after can't be launched: .*No space"):
            cloud.launch(make_request("after"))
        [machine] = cloud.list_instances(RUN)
        assert machine.launch_id == "before"
        cloud.terminate([machine.cloud_id])
        (disk / "filler").unlink()
        cloud.launch(make_request("after"))
        assert [m.launch_id for m in cloud.list_instances(RUN)] == ["after"]
    finally:
        cloud.terminate([m.cloud_id for m in cloud.list_instances(RUN)])
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_wrong_settings_are_all_named(tmp_path):
    given = {"rot": "x", "root": "/srv/*", "agent_command": "sleep 600"}
    with pytest.raises(ConfigProblem) as problem:
        ProcessCloud.from_settings(given, tmp_path)
    assert {p.key for p in problem.value.problems} == {"rot", "root", "agent_command"}
    assert "did you mean 'root'?" in str(problem.value)


def test_an_unknown_machine_is_not_found(root):
    for ask in (machine_processes, kill_machine, stop_machine, continue_machine):
        with pytest.raises(NotFound):
            ask(root, NODE)
