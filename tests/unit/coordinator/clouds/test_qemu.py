"""The qemu cloud with guests of a few instructions; real Debian boots in tests/vm."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from coordinator.clouds.base import MachineState
from coordinator.clouds.qemu import QemuCloud
from coordinator.clouds.qemu_acceleration import runs_guest
from coordinator.clouds.qemu_image import DESCRIPTION, DISK, INITRD, KERNEL, find_image, image_store
from coordinator.errors import ConfigProblem, LaunchRefused, NotFound
from coordinator.testing import eventually, make_request
from tests.tiny_guest import GREETING, guest_disk, need_qemu

USER_DATA = "#cloud-config\nruncmd: [[echo, 'Grüße, 世界']]\n"


@pytest.fixture
def cloud(tmp_path):
    need_qemu()
    disk = guest_disk(tmp_path / "guest.img")
    settings = {"accel": "tcg", "memory": "128", "image": str(disk)}
    cloud = QemuCloud.from_settings(settings, tmp_path / "machines")
    yield cloud
    cloud.terminate([m.cloud_id for m in cloud.list_instances("run-1")])


def the_machine(cloud):
    [machine] = cloud.list_instances("run-1")
    return machine


# ------------------------------------------------------------------ machines


def test_a_machine_runs_its_own_code_and_its_console_is_read(cloud):
    cloud.launch(make_request(user_data=USER_DATA))
    machine = the_machine(cloud)
    assert machine.state is MachineState.RUNNING
    console = eventually(lambda: cloud.console_output(machine.cloud_id), timeout=60)
    assert GREETING in eventually(
        lambda: GREETING in (text := cloud.console_output(machine.cloud_id)) and text, timeout=60
    ), console


def test_a_machine_that_powers_off_is_gone_and_stays_gone(cloud, tmp_path):
    disk = guest_disk(tmp_path / "off.img", powers_off=True)
    request = make_request(settings={"image": str(disk)})
    cloud.launch(request)
    eventually(lambda: the_machine(cloud).state is MachineState.GONE, timeout=60)
    cloud.launch(request)
    assert the_machine(cloud).state is MachineState.GONE


def test_each_machine_of_a_batch_has_a_seed_with_its_own_index(cloud):
    cloud.launch(make_request(count=2, user_data=USER_DATA))
    for machine in cloud.list_instances("run-1"):
        seed = cloud.root / f"launch-1-{machine.index}" / "seed.iso"
        assert "Volume id: cidata" in _isoinfo(seed, "-d")
        told = json.loads(_isoinfo(seed, "-J", "-x", "/meta-data"))
        assert told["instance-id"] == machine.cloud_id
        assert told["ami-launch-index"] == machine.index
        assert _isoinfo(seed, "-J", "-x", "/user-data") == USER_DATA
        assert seed.stat().st_mode & 0o077 == 0


def test_user_data_is_neither_on_a_command_line_nor_left_beside_the_seed(cloud):
    cloud.launch(make_request(user_data="#cloud-config\n# a-token-for-enrolment\n"))
    directory = cloud.root / "launch-1-0"
    left = [p for p in directory.rglob("*") if p.is_file() and p.name != "seed.iso"]
    assert not [p for p in left if b"a-token-for-enrolment" in p.read_bytes()]


def test_a_terminated_machine_leaves_what_it_printed_and_nothing_else(cloud):
    cloud.launch(make_request())
    machine = the_machine(cloud)
    eventually(lambda: cloud.console_output(machine.cloud_id), timeout=60)
    cloud.terminate([machine.cloud_id])
    directory = cloud.root / "launch-1-0"
    assert not {p.name for p in directory.iterdir()} & {"disk.qcow2", "seed.iso", "command.json"}
    assert GREETING in cloud.console_output(machine.cloud_id)


def test_a_machine_outlives_whoever_launched_it(cloud, tmp_path):
    code = f"""
from pathlib import Path
from coordinator.clouds.qemu import QemuCloud
from coordinator.testing import make_request
settings = {{"accel": "tcg", "memory": "128", "image": {str(tmp_path / "guest.img")!r}}}
QemuCloud.from_settings(settings, Path({str(cloud.root)!r})).launch(make_request())
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert the_machine(cloud).state is MachineState.RUNNING


def test_a_launch_that_was_killed_while_it_prepared_is_completed_by_its_repeat(cloud, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    deadly = tools / "qemu-img"  # ends its caller, as a kill -9 at that moment would
    deadly.write_text("#!/bin/sh\nkill -9 $PPID\n")
    deadly.chmod(0o755)
    code = f"""
from pathlib import Path
from coordinator.clouds.qemu import QemuCloud
from coordinator.testing import make_request
settings = {{"accel": "tcg", "memory": "128", "image": {str(tmp_path / "guest.img")!r}}}
QemuCloud.from_settings(settings, Path({str(cloud.root)!r})).launch(make_request())
"""
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    killed = subprocess.run([sys.executable, "-c", code], env=environment, timeout=60)
    assert killed.returncode == -9
    assert not cloud.list_instances("run-1")
    cloud.launch(make_request())
    assert the_machine(cloud).state is MachineState.RUNNING


# ------------------------------------------------------------------ what can't be launched


def test_an_image_that_is_not_there_is_refused_with_the_command_that_makes_it(
    cloud, tmp_path, monkeypatch
):
    monkeypatch.setenv("EPU_IMAGES", str(tmp_path / "images"))
    with pytest.raises(LaunchRefused, match="epu image build nowhere"):
        cloud.launch(make_request(settings={"image": "nowhere"}))
    with pytest.raises(LaunchRefused, match="does not exist"):
        cloud.launch(make_request(settings={"image": str(tmp_path / "nowhere")}))
    assert not cloud.list_instances("run-1")


def test_a_template_may_set_what_is_a_machines_and_nothing_else(cloud):
    with pytest.raises(LaunchRefused, match=r"memry.*did you mean 'memory'"):
        cloud.launch(make_request(settings={"memry": "256"}))
    with pytest.raises(LaunchRefused, match="root: unknown key"):
        cloud.launch(make_request(settings={"root": "/"}))
    assert not cloud.list_instances("run-1")


def test_what_can_not_be_launched_is_known_beforehand(cloud):
    assert not cloud.problems_of({})
    [image] = cloud.problems_of({"image": "nowhere"})
    assert "epu image build nowhere" in image
    [memory] = cloud.problems_of({"memory": "0"})
    assert "whole number" in memory


def test_every_wrong_setting_is_named_at_once(tmp_path):
    wrong = {"acel": "kvm", "accel": "vkm", "memory": "1G", "cpus": "0", "image": "a,b"}
    with pytest.raises(ConfigProblem) as caught:
        QemuCloud.from_settings(wrong, tmp_path)
    keys = [problem.key for problem in caught.value.problems]
    assert keys == sorted(wrong)


def test_kvm_that_was_asked_for_and_does_not_work_is_refused(tmp_path):
    broken = tmp_path / "qemu"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    disk = guest_disk(tmp_path / "guest.img")
    settings = {"accel": "kvm", "qemu": str(broken), "image": str(disk)}
    cloud = QemuCloud.from_settings(settings, tmp_path / "machines")
    with pytest.raises(LaunchRefused, match="kvm does not work on this host"):
        cloud.launch(make_request())
    assert not cloud.list_instances("run-1")


def test_a_host_without_qemu_says_what_to_install(tmp_path):
    disk = guest_disk(tmp_path / "guest.img")
    settings = {"qemu": "qemu-system-none", "image": str(disk)}
    cloud = QemuCloud.from_settings(settings, tmp_path / "machines")
    with pytest.raises(LaunchRefused, match="apt-get install .*qemu-system-x86"):
        cloud.launch(make_request())


# ------------------------------------------------------------------ the trial of KVM


def test_the_guest_of_the_trial_gets_through_on_an_emulated_processor():
    need_qemu()
    assert runs_guest("qemu-system-x86_64", "tcg", timeout=60)


def test_a_guest_that_hangs_or_can_not_begin_fails_the_trial(tmp_path):
    for script in ("exec sleep 600", "exit 1"):
        program = tmp_path / "qemu"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        assert not runs_guest(str(program), "kvm", timeout=0.5)


# ------------------------------------------------------------------ images


def test_an_image_is_found_by_name_and_path_and_a_name_is_followed_to_what_it_means_now(tmp_path):
    _image(tmp_path / "0123456789abcdef")
    (tmp_path / "debian").symlink_to("0123456789abcdef")
    found = find_image("debian", tmp_path)
    assert found.disk == str(tmp_path / "0123456789abcdef" / DISK)
    assert found.command_line == "root=/dev/vda"
    assert find_image(str(tmp_path / "debian"), tmp_path) == found


def test_an_image_that_is_not_whole_is_none(tmp_path):
    _image(tmp_path / "half")
    (tmp_path / "half" / INITRD).unlink()
    with pytest.raises(NotFound, match="initrd missing"):
        find_image("half", tmp_path)
    with pytest.raises(NotFound, match="no image of epu image build"):
        find_image(f"{tmp_path}/", tmp_path)


def test_the_format_of_a_disk_is_read_from_the_disk(tmp_path):
    (tmp_path / "a").write_bytes(b"QFI\xfb and more")
    (tmp_path / "b").write_bytes(b"")
    assert find_image(str(tmp_path / "a"), tmp_path).disk_format == "qcow2"
    assert find_image(str(tmp_path / "b"), tmp_path).disk_format == "raw"


def test_a_name_leads_out_of_the_store_by_no_trick(tmp_path):
    for name in ("..", ".hidden", "", "a b"):
        with pytest.raises(NotFound):
            find_image(name, tmp_path)


def test_the_store_is_where_the_environment_says():
    assert image_store({"EPU_IMAGES": "/srv/images"}) == Path("/srv/images")
    assert image_store({"XDG_CACHE_HOME": "/c"}) == Path("/c/epu/images")
    assert image_store({}) == Path.home() / ".cache/epu/images"


def _image(directory):
    directory.mkdir()
    for name in (DISK, KERNEL, INITRD):
        (directory / name).touch()
    about = {"digest": directory.name, "command_line": "root=/dev/vda", "suite": "bookworm"}
    about |= {"kernel": "6.1", "packages": 1, "built_at": 0.0}
    (directory / DESCRIPTION).write_text(json.dumps(about))


def _isoinfo(disk, *words):
    done = subprocess.run(["isoinfo", "-i", str(disk), *words], capture_output=True, timeout=60)
    return done.stdout.decode()
