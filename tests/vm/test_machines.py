"""Virtual machines with a kernel, systemd and cloud-init of their own become workers and go."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from agent.messages import agent_service
from coordinator.clouds.base import MachineState
from coordinator.clouds.qemu import QemuCloud
from coordinator.testing import make_request
from tests.e2e.conftest import processes_naming
from tests.hard_ec2 import Fault, HardEc2, Lag
from tests.hard_ec2.account import IMAGE
from tests.hard_ec2.boots import RUN, BootsOn, Ec2VirtualMachines
from tests.vm.conftest import BOOT_WITHIN, system_of

pytestmark = [pytest.mark.vm, pytest.mark.timeout(3600)]

Figure = Callable[[str, float], None]


def test_an_image_with_the_agent_only_registers(
    image_with_agent: str, tmp_path: Path, figure: Figure
) -> None:
    settings = {"image": image_with_agent, "agent": "configure"}
    with system_of(tmp_path / "system", "qemu", **settings) as system:
        live_through(system, system.cloud, system.run, figure)


def test_a_machine_of_ec2_installs_the_agent_from_a_wheelhouse(
    plain_image: str, wheels_by_http: int, tmp_path: Path, figure: Figure
) -> None:
    """EC2 driver, EC2's API, user-data, kernel, cloud-init, pip, agent, ready, RPC, and back."""
    machines = Ec2VirtualMachines.from_settings({"image": plain_image}, tmp_path / "machines")
    settings = {
        "region": "us-east-1",
        "access_key": "AKIATEST",
        "secret_key": "never-in-user-data",
        "image": IMAGE,
        "type": "c5.large",
        "consistency_window": "2",
        "agent": "install",
        "wheelhouse": f"http://10.0.2.2:{wheels_by_http}",
        "broker_host": "10.0.2.2",
    }
    with HardEc2() as ec2:
        boots = ec2.world.boots = BootsOn(machines)
        ec2.world.lag = Lag(seconds=1.0)
        ec2.fail_next("RunInstances", Fault.lost_reply())
        ec2.fail_next("TerminateInstances", Fault.lost_reply())
        try:
            settings["endpoint"] = ec2.url
            with system_of(tmp_path / "system", "ec2", **settings) as system:
                live_through(system, machines, RUN, figure)
            assert not ec2.machines
            [only] = ec2.world.history
            assert b"never-in-user-data" not in only.user_data
        finally:
            boots.close()
        assert not boots.problems


def test_a_failing_boot_is_told_by_cloud_init_itself_and_looked_into_by_ssh(
    plain_image: str, own_network: str, key: tuple[Path, str], tmp_path: Path
) -> None:
    """The machine has a network of its own: it reaches this host, and is reached."""
    settings = {"image": plain_image, "network": "private"}
    cloud = QemuCloud.from_settings(settings, tmp_path / "machines")
    private, public = key
    told_to_do = {
        "disable_root": False,
        "ssh_authorized_keys": [public],
        "runcmd": [["sh", "-c", "echo no room at the inn; exit 7"]],
    }
    cloud.launch(make_request(user_data=f"#cloud-config\n{json.dumps(told_to_do)}\n"))
    [machine] = cloud.list_instances("run-1")
    deadline = time.monotonic() + BOOT_WITHIN
    try:
        while "status: error" not in (told := cloud.boot_status(machine.cloud_id) or ""):
            assert time.monotonic() < deadline, (told, cloud.console_output(machine.cloud_id))
            time.sleep(0.5)
        assert "scripts-user" in told
        assert "no room at the inn" in (cloud.console_output(machine.cloud_id) or "")
        [address] = machine.addresses
        said = by_ssh(private, address, "grep WARN /var/log/cloud-init.log; echo $SSH_CONNECTION")
        assert "scripts-user" in said
        assert said.split()[-2:] == [address, "22"]
        with socket.create_server((own_network, 0)) as server:
            server.settimeout(60)
            port = server.getsockname()[1]
            by_ssh(private, address, f"bash -c 'exec 3<>/dev/tcp/{own_network}/{port}'")
            assert server.accept()[1][0] == address
        # Nothing of the boot waited for what is not in this network.
        assert by_ssh(private, address, "cat /etc/resolv.conf") == ""
        online = "systemctl is-active systemd-networkd-wait-online"
        assert by_ssh(private, address, online) == "active\n"
    finally:
        cloud.terminate([machine.cloud_id])
    assert not cloud.list_instances("run-1")
    assert [name for _, name in socket.if_nameindex()] == ["lo"]


# ------------------------------------------------------------------ a person's key


@pytest.fixture
def key(tmp_path: Path) -> tuple[Path, str]:
    """The file of a private key, and the line that lets it in."""
    file = tmp_path / "key"
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(file)]
    subprocess.run(words, check=True, timeout=60)
    return file, file.with_suffix(".pub").read_text().strip()


def by_ssh(key: Path, address: str, command: str) -> str:
    """What the command says on the machine, as its root."""
    options = ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null"]
    words = ["ssh", "-q", "-i", str(key), *(word for one in options for word in ("-o", one))]
    done = subprocess.run(
        [*words, f"root@{address}", command],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout


# ------------------------------------------------------------------ a worker's life


def live_through(system: Any, machines: QemuCloud, run: str, figure: Figure) -> None:
    """One worker comes, enrols, answers, and goes with its machine."""
    began, patience = time.monotonic(), {"boot_timeout": BOOT_WITHIN}
    with system.pool("voyagers", 1, heartbeat_interval=1, health=patience) as pool:
        try:
            [node] = system.wait(pool.nodes, "a worker runs", BOOT_WITHIN, pause=0.5)
        except pytest.fail.Exception as failure:
            pytest.fail(f"{failure}\n{what_became_of(system, machines, run)}")
        figure("wanted to RUNNING", time.monotonic() - began)
        figure("of it processor time of QEMU", processor_time(machines))
        [machine] = machines.list_instances(run)
        assert machine.state is MachineState.RUNNING
        told = system.call(agent_service(node), "describe", timeout=60)
        assert told["node_id"] == node
        system.wait(
            lambda: "status: done" in (machines.boot_status(machine.cloud_id) or ""),
            "cloud-init says that it is done",
            BOOT_WITHIN,
        )
        console = machines.console_output(machine.cloud_id) or ""
        accounts = json.loads(system.accounts.read_text())["accounts"]
        assert not [who for who, one in accounts.items() if one["password"] in console]
        pool.set_size(0)
        system.wait(lambda: not machines.list_instances(run), "the machine ends", 120)
        system.wait(lambda: not pool.records(), "its record ends", 120)
    assert not [words for words in processes_naming(str(machines.root)) if "qemu-system" in words]
    assert not list(machines.root.glob("*/disk.qcow2"))


def processor_time(machines: QemuCloud) -> float:
    """Seconds that this host's processors worked for the machines: the same when it is busy."""
    times = [
        process.cpu_times()
        for process in psutil.process_iter()
        if process.name().startswith("qemu-system") and process.cwd().startswith(str(machines.root))
    ]
    return sum(one.user + one.system for one in times)


def what_became_of(system: Any, machines: QemuCloud, run: str) -> str:
    """For whoever reads a failure: states, and the end of the console."""
    said = [str(one) for one in system.ask("provisioner", "live_nodes")]
    for one in machines.list_instances(run):
        said += [str(one), machines.boot_status(one.cloud_id) or "no status"]
        said += (machines.console_output(one.cloud_id) or "").splitlines()[-40:]
    return "\n".join(said)
