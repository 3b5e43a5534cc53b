"""Virtual machines with networks of their own, as this host sees them; guests of no network.

That a machine is reached by its address is shown with real Debian in tests/vm.
"""

import base64
import json
import os
import signal
import subprocess
import sys
from ipaddress import ip_address

import pytest

from coordinator.clouds.base import MachineState
from coordinator.clouds.machine_directory import RECORD
from coordinator.clouds.machine_network import interface
from coordinator.clouds.process_table import ProcessTable
from coordinator.clouds.qemu import QemuCloud
from coordinator.clouds.qemu_command import Cable, machine_words, network_config
from coordinator.clouds.qemu_settings import QemuImage, QemuSettings
from coordinator.errors import ConfigProblem, RetryLater
from coordinator.testing import eventually, make_request
from tests.tiny_guest import guest_disk, need_qemu

RUN = "run-1"
CABLE = Cable(
    machine=ip_address("100.96.0.6"),
    host=ip_address("100.96.0.5"),
    prefix=30,
    hardware="52:54:00:00:00:06",
)


@pytest.fixture
def cloud(own_network, tmp_path):
    need_qemu()
    disk = guest_disk(tmp_path / "guest.img")
    settings = {"accel": "tcg", "memory": "128", "image": str(disk), "network": "private"}
    cloud = QemuCloud.from_settings(settings, tmp_path / "machines")
    yield cloud
    records = [json.loads(file.read_text()) for file in cloud.root.glob(f"*/{RECORD}")]
    ProcessTable().end([record["mark"] for record in records], timeout=20)


def cables():
    """Interface → address of this host on it."""
    said = subprocess.run(["ip", "-j", "-4", "address"], capture_output=True, check=True).stdout
    return {one["ifname"]: one["addr_info"][0]["local"] for one in json.loads(said)}


def mark_of(machine):
    return machine.cloud_id.rpartition(".")[2]


def told_in_seed(cloud, machine):
    seed = cloud.root / f"{machine.launch_id}-{machine.index}" / "seed.iso"
    words = ["isoinfo", "-i", str(seed), "-J", "-x", "/network-config"]
    said = subprocess.run(words, capture_output=True, check=True, timeout=60).stdout
    return json.loads(said)["ethernets"]["eth0"]


def test_each_machine_has_a_cable_that_is_there_as_long_as_its_qemu(cloud):
    before = cables()
    cloud.launch(make_request(count=2))
    first, second = cloud.list_instances(RUN)
    assert first.addresses != second.addresses
    for machine in (first, second):
        [own] = machine.addresses
        host = str(ip_address(own) - 1)
        assert cables()[interface(mark_of(machine))] == host
        told = told_in_seed(cloud, machine)
        assert told["addresses"] == [f"{own}/30"]
        assert told["routes"] == [{"to": "0.0.0.0/0", "via": host}]
    [qemu] = ProcessTable().of([mark_of(first)])
    os.kill(qemu.pid, signal.SIGKILL)
    eventually(lambda: interface(mark_of(first)) not in cables(), timeout=30)
    assert cloud.list_instances(RUN)[0].state is MachineState.GONE
    cloud.terminate([second.cloud_id])
    eventually(lambda: cables() == before, timeout=30)


def test_an_address_that_was_given_away_before_the_start_is_exchanged(cloud, tmp_path, monkeypatch):
    tools = tmp_path / "tools"
    tools.mkdir()
    disk = tools / "qemu-img"  # runs between the choice of the address and the start
    disk.write_text(
        "#!/bin/sh\n"
        f'read own < {cloud.root}/launch-1-0/address || [ -n "$own" ]\n'
        'ip address add "${own%.*}.$((${own##*.} - 1))/30" dev lo\n'
        'PATH=/usr/bin:/bin exec qemu-img "$@"\n'
    )
    disk.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
        with pytest.raises(RetryLater, match="was given away meanwhile"):
            cloud.launch(make_request())
    given_away = (cloud.root / "launch-1-0" / "address").read_text()
    assert not cloud.list_instances(RUN)
    cloud.launch(make_request())
    [machine] = cloud.list_instances(RUN)
    assert machine.addresses != (given_away,)
    assert told_in_seed(cloud, machine)["addresses"] == [f"{machine.addresses[0]}/30"]


def test_a_host_that_can_not_have_cables_says_so_and_what_to_do(own_network, tmp_path):
    code = (
        "from pathlib import Path\n"
        "from coordinator.clouds.qemu import QemuCloud\n"
        "cloud = QemuCloud.from_settings({'network': 'private', 'accel': 'tcg'}, Path('m'))\n"
        "print(*cloud.problems_of({}), sep='\\n')\n"
    )
    words = ["setpriv", "--bounding-set", "-net_admin", sys.executable, "-c", code]
    said = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert "takes root, or CAP_NET_ADMIN (network: user takes neither)" in said.stdout, said.stderr


def test_only_networks_that_there_are_can_be_chosen(tmp_path):
    with pytest.raises(ConfigProblem, match=r"network: must be user or private, not 'privat'.*did"):
        QemuCloud.from_settings({"network": "privat"}, tmp_path)


def test_a_loopback_address_is_known_only_where_machines_reach_the_loopback_interface(tmp_path):
    addresses = {
        network: QemuCloud.from_settings({"network": network}, tmp_path).loopback_address
        for network in ("user", "private")
    }
    assert addresses == {"user": "10.0.2.2", "private": ""}


def test_a_kernel_of_ours_is_told_of_the_network_on_its_command_line():
    files = {"disk": "/i/disk", "kernel": "/i/vmlinuz", "initrd": "/i/initrd"}
    image = QemuImage(**files, disk_format="qcow2", command_line="root=/dev/vda")
    words = machine_words("node-0", image, QemuSettings(), "tcg", CABLE)
    line = words[words.index("-append") + 1]
    [told] = [word for word in line.split() if word.startswith("network-config=")]
    assert base64.b64decode(told.partition("=")[2]).decode() == network_config(CABLE)
    assert "-nic" not in words
    alone = machine_words("node-0", image, QemuSettings(), "tcg")
    assert not [word for word in alone if "network-config" in word or "tap" in word]
