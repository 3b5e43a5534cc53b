"""The sleeper with broker, provisioner, controller and workers on machines of their own.

Base machines are containers (burned and unburned), reached by their driver's own way, or
machines of hard-mode EC2 or of QEMU, reached by ssh; workers are always machines of
hard-mode EC2. Whatever has addresses of its own is in a network of the test's own.
"""

from __future__ import annotations

import functools
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bootlevels.api import Run
from bootlevels.machine_record import MachineLife, MachineRecord
from bootlevels.plans.sleeper.producer import job_ids, produce
from bootlevels.transports.program import Limit
from coordinator.clouds.machine_directory import RECORD
from coordinator.clouds.process_table import ProcessTable
from coordinator.config import read_access
from coordinator.testing import eventually
from mgmt.broker_launch import server_script
from mgmt.wheelhouses.build import build_wheelhouse
from tests.hard_ec2 import HardEc2, Lag
from tests.hard_ec2.account import IMAGE
from tests.hard_ec2.boots import BootsOn, Ec2Containers
from tests.own_network import own_network as own_network

#: Five machines boot; the sample self-hosted is in every run.
pytestmark = [pytest.mark.soak, pytest.mark.timeout(1200)]

RUN = "vms"
SECRET = "never-in-user-data"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": SECRET}
Figure = Callable[[str, float], None]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Where machines are; at the end none of them has a process."""
    if os.geteuid() != 0 or shutil.which("cloud-init") is None or server_script() is None:
        reason = "takes root, cloud-init and rabbitmq-server"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    yield tmp_path
    records = [json.loads(file.read_text()) for file in tmp_path.rglob(RECORD)]
    # Machines have a file of that name on their disks.
    ProcessTable().end([one["mark"] for one in records if "mark" in one], timeout=30)


@pytest.fixture
def wheelhouse(tmp_path: Path) -> Iterator[str]:
    """The URL at which this installation's wheels are."""
    build_wheelhouse(tmp_path / "wheels", lambda _: None)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    serve = functools.partial(Quiet, directory=str(tmp_path / "wheels"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@contextmanager
def ec2_of(place: Path, host: str = "") -> Iterator[HardEc2]:
    """A cloud outside of every machine, whose machines are containers of this host.

    With ``host``, this host's address in a network of their own, they have one each.
    """
    settings = {"network": "private"} if host else {}
    boots = BootsOn(Ec2Containers.from_settings(settings, place / "ec2"))
    with HardEc2(host=host or "127.0.0.1") as found:
        found.world.boots = boots
        found.world.lag = Lag(seconds=1.0)
        yield found
        boots.close()
    assert not boots.problems


def epu(home: Path, *words: str, code: int = 0, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "mgmt.cli", *words],
        env={**os.environ, **KEYS, "EPU_HOME": str(home), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=3600,
    )
    assert done.returncode == code, f"epu {words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def nodes(home: Path) -> dict[str, dict[str, Any]]:
    found = json.loads(epu(home, "nodes", "--run", RUN, "--json"))["nodes"]
    return {node["node_id"]: node for node in found}


def cloud_of_workers(ec2: HardEc2, **more: str) -> dict[str, str]:
    return {
        "driver": "ec2",
        "endpoint": ec2.url,
        "region": "us-east-1",
        "image": IMAGE,
        "type": "c5.large",
        "consistency_window": "2",
        **more,
    }


def accounts_of(run: Path) -> str:
    return (run / "broker" / "accounts.json").read_text()


class Base:
    """The run's base machines, by whatever way they are reached."""

    def __init__(self, home: Path) -> None:
        self.run = Run(RUN, home)

    def machines(self) -> dict[str, MachineRecord]:
        return {one.service: one for one in self.run.machines() if one.life is MachineLife.LISTED}

    def said(self, service: str, *words: str) -> str:
        """What a program on the machine of ``service`` prints."""
        calls = self.run.files(service).machine
        code, text = calls.call(words, None, Limit.seconds(60))
        assert code == 0, text
        return str(text.decode())


@pytest.mark.parametrize("profile", ["burned", "unburned"])
def test_base_machines_are_containers(
    profile: str, place: Path, wheelhouse: str, figure: Figure
) -> None:
    unburned = profile == "unburned"
    agent = {"agent": "install", "wheelhouse": wheelhouse} if unburned else {"agent": "configure"}
    given = {"wheelhouse": wheelhouse} if unburned else {}
    with ec2_of(place) as ec2:
        cloud = cloud_of_workers(ec2, **agent)
        base = booted(place, profile, cloud, given, figure)
        live_through(place, base, ec2)
        # What is installed lies on a machine's own disk; what is baked in is a link to our own.
        nodes_of = [f"{one.launch_id}-0" for one in base.machines().values()]
        boxes = base.run.directory / "clouds" / "boxes"
        disks = [boxes / node / "disk" / "upper" / "opt/epu" for node in nodes_of]
        assert all(disk.parent.is_dir() for disk in disks)
        assert all((disk / "installed.json").is_file() is unburned for disk in disks)
        ends(place, base, ec2)


def test_base_machines_are_those_of_ec2(place: Path, own_network: str, figure: Figure) -> None:
    with ec2_of(place, own_network) as ec2:
        cloud = cloud_of_workers(ec2, agent="configure")
        given = {"endpoint": ec2.url, "image": IMAGE, "type": "c5.large"}
        base = booted(place, "ec2,burned", cloud, given, figure)
        assert read_access(base.run.directory / "broker" / "accounts.json").tls
        assert len(ec2.machines) == 4
        live_through(place, base, ec2)
        ends(place, base, ec2)


@pytest.fixture(scope="module")
def base_image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of an image with EPU, sshd and RabbitMQ; made before the network is the test's."""
    if sys.version_info[:2] != (3, 11):
        pytest.skip(f"wheels of Python {sys.version_info[:2]} do not fit the image's 3.11")
    wheels = tmp_path_factory.mktemp("wheels")
    build_wheelhouse(wheels, lambda _: None)
    packages = ["--package", "openssh-server", "--package", "rabbitmq-server"]
    epu(wheels, "image", "build", "test-base", "--with-agent", str(wheels), *packages)
    return "test-base"


@pytest.mark.vm
@pytest.mark.timeout(7200)
def test_base_machines_are_virtual_machines(
    base_image: str, place: Path, own_network: str, figure: Figure
) -> None:
    with ec2_of(place, own_network) as ec2:
        cloud = cloud_of_workers(ec2, agent="configure")
        base = booted(place, "qemu,burned", cloud, {"image": base_image}, figure)
        live_through(place, base, ec2)
        ends(place, base, ec2)
    assert not list((base.run.directory / "clouds" / "boxes").glob("*/disk.qcow2"))


# ------------------------------------------------------------------ the life of a system


def booted(
    place: Path, profile: str, cloud: dict[str, str], given: dict[str, str], figure: Figure
) -> Base:
    """The plan is booted; what its machines are told has no secret."""
    home, credentials = place / "home", place / "credentials.env"
    credentials.write_text("".join(f"{name}={value}\n" for name, value in KEYS.items()))
    credentials.chmod(0o600)
    began = time.monotonic()
    chosen = {"worker_clouds": json.dumps({"west": cloud}), "credentials": str(credentials)}
    words = [w for name, text in (chosen | given).items() for w in ("-g", f"{name}={text}")]
    epu(home, "boot", "sleeper-vms", "-n", RUN, "-q", "--profile", profile, *words)
    took = time.monotonic() - began
    figure(f"sleeper-vms, {profile}: boot of three machines and a worker on EC2", took)
    return Base(home)


def live_through(place: Path, base: Base, ec2: HardEc2) -> None:
    """Each part is where the plan puts it, secrets are where they belong, the pool grows."""
    home, run = place / "home", base.run.directory
    assert sorted(base.machines()) == ["base", "epu-sleeper", "rabbitmq"]
    [worker] = nodes(home).values()
    assert (worker["cloud"], worker["state"]) == ("west", "RUNNING")
    workers = [one for one in ec2.machines if one.tags["epu:pool"] == "sleeper"]
    assert len(workers) == 1

    said = {service: base.said(service, "ps", "-eo", "args") for service in base.machines()}
    for name in ("provisioner", "registrar"):
        assert f"coordinator.{name}.service" in said["base"]
        assert f"coordinator.{name}.service" not in said["epu-sleeper"]
    assert "config-sleeper.yaml" in said["epu-sleeper"], "they are the pool's own"
    for name in ("controller", "sensors"):
        assert f"coordinator.{name}.service" in said["epu-sleeper"]
        assert f"coordinator.{name}.service" not in said["base"]

    # The cloud's credentials are in one file of one machine, and in no user-data, nor is the
    # run's private key.
    private = (run / "ssh" / "key").read_text().splitlines()[1]
    told = [one.user_data for one in ec2.machines]
    told += [file.read_bytes() for file in run.rglob("user-data*") if file.is_file()]
    assert told
    assert not any(word.encode() in text for text in told for word in (SECRET, private))
    assert SECRET not in "".join(said.values())
    held = {s: base.said(s, "cat", "/etc/epu/coordinator.env") for s in ("base", "epu-sleeper")}
    assert (SECRET in held["base"], held["epu-sleeper"]) == (True, "")
    for service, name in (("base", "coordinator.env"), ("epu-sleeper", "accounts.json")):
        assert base.said(service, "stat", "-c", "%a %U", f"/etc/epu/{name}") == "600 root\n"

    # Logs come from base machines by the same ways, and are without secrets too.
    epu(home, "logs", "fetch", RUN, "-o", str(place / "logs"))
    logs = {str(one.relative_to(place / "logs")): one for one in (place / "logs").rglob("*.log")}
    assert {
        "base/base/coordinator/provisioner.log",
        "base/epu-sleeper/coordinator/controller-sleeper.log",
        "base/rabbitmq/machine/broker.log",
        f"machines/{worker['node_id']}/agent-answer.log",
    } <= logs.keys()
    passwords = {one["password"] for one in json.loads(accounts_of(run))["accounts"].values()}
    for log in logs.values():
        assert not [
            word for word in {SECRET, *passwords} if word in log.read_text("utf-8", "replace")
        ]
    # The doctor has no complaint.
    assert json.loads(epu(home, "doctor", RUN, "--json"))["findings"] == []

    # A copy of the record and of the accounts is enough to find the system from elsewhere.
    elsewhere = place / "elsewhere"
    copy = elsewhere / "runs" / RUN
    (copy / "broker").mkdir(parents=True)
    for name in ("run.db", "broker/accounts.json"):
        shutil.copy(run / name, copy / name)
    run.rename(run.with_name("away"))
    try:
        assert nodes(elsewhere).keys() == {worker["node_id"]}
        access = read_access(copy / "broker" / "accounts.json")
        # So is the broker's address, with a password, and its authority where it has one.
        shutil.copytree(run.with_name("away") / "broker", place / "copied")
        address = access.public_url.replace("://", "://coordinator@")
        told = {
            "EPU_BROKER_PASSWORD": access.accounts["coordinator"].password,
            "EPU_BROKER_CA": str(place / "copied" / "ca.pem") if access.tls else "",
        }
        said = epu(place / "nothing", "nodes", "--broker", address, "--json", **told)
        assert [one["node_id"] for one in json.loads(said)["nodes"]] == [worker["node_id"]]
        before = len(ec2.machines)
        epu(elsewhere, "pool", "set-n", "sleeper", "2", "--run", RUN)
        produce(access, "sleeper-work", job_ids(4, "job"), 0.2)
        eventually(lambda: len(ec2.machines) == before + 1, 240, 0.5, "a second machine of EC2")
        eventually(
            lambda: [one["state"] for one in nodes(elsewhere).values()] == ["RUNNING"] * 2,
            240, 1.0, "both run",
        )  # fmt: skip
    finally:
        run.with_name("away").rename(run)


def ends(place: Path, base: Base, ec2: HardEc2) -> None:
    """The teardown leaves no machine anywhere."""
    epu(place / "home", "teardown", RUN)
    receipt = json.loads((base.run.directory / "receipt.json").read_text())
    assert receipt["clean"] is True
    assert ec2.machines == []
    assert base.machines() == {}
