"""The sleeper with broker, provisioner, controller and workers on machines of their own."""

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
from pathlib import Path
from typing import Any

import pytest

from bootlevels.plans.sleeper.producer import job_ids, produce
from coordinator.clouds.base import MachineState
from coordinator.clouds.container import ContainerCloud
from coordinator.clouds.machine_directory import RECORD
from coordinator.clouds.process_table import ProcessTable
from coordinator.config import read_access
from coordinator.testing import eventually
from mgmt.broker_launch import server_script
from mgmt.wheelhouses.build import build_wheelhouse
from tests.hard_ec2 import HardEc2, Lag
from tests.hard_ec2.account import IMAGE
from tests.hard_ec2.boots import BootsOn, Ec2Containers

#: Five machines boot; the sample self-hosted is in every run.
pytestmark = [pytest.mark.soak, pytest.mark.timeout(1200)]

RUN = "vms"
SECRET = "never-in-user-data"
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


@pytest.fixture
def ec2(place: Path) -> Iterator[HardEc2]:
    """A cloud outside of every machine, whose machines are containers of this host."""
    boots = BootsOn(Ec2Containers.from_settings({}, place / "ec2"))
    with HardEc2() as found:
        found.world.boots = boots
        found.world.lag = Lag(seconds=1.0)
        yield found
        boots.close()


def epu(home: Path, *words: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "mgmt.cli", *words],
        env={**os.environ, "EPU_HOME": str(home)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == code, f"epu {words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def nodes(home: Path) -> dict[str, dict[str, Any]]:
    found = json.loads(epu(home, "nodes", "--run", RUN, "--json"))["nodes"]
    return {node["node_id"]: node for node in found}


@pytest.mark.parametrize("profile", ["burned", "unburned"])
def test_a_provisioner_on_a_machine_of_its_own_launches_workers_in_machines_of_theirs(
    profile: str, place: Path, ec2: HardEc2, wheelhouse: str, figure: Figure
) -> None:
    home = place / "home"
    unburned = profile == "unburned"
    cloud = {
        "driver": "ec2",
        "endpoint": ec2.url,
        "region": "us-east-1",
        **({"agent": "install", "wheelhouse": wheelhouse} if unburned else {"agent": "configure"}),
        "image": IMAGE,
        "type": "c5.large",
        "consistency_window": "2",
    }
    credentials = place / "credentials.env"
    credentials.write_text(f"AWS_ACCESS_KEY_ID=AKIATEST\nAWS_SECRET_ACCESS_KEY={SECRET}\n")
    credentials.chmod(0o600)
    began = time.monotonic()
    chosen = {"worker_clouds": json.dumps({"west": cloud}), "credentials": str(credentials)}
    chosen |= {"wheelhouse": wheelhouse} if unburned else {}
    given = [word for name, text in chosen.items() for word in ("-g", f"{name}={text}")]
    epu(home, "boot", "sleeper-vms", "-n", RUN, "-q", "--profile", profile, *given)
    took = time.monotonic() - began
    figure(f"sleeper-vms, {profile}: boot of three machines and a worker on EC2", took)
    run = home / "runs" / RUN
    boxes = ContainerCloud.from_settings({}, run / "clouds" / "boxes")
    base = [one for one in boxes.list_instances(RUN) if one.state is MachineState.RUNNING]
    assert sorted(one.pool for one in base) == ["base", "epu-sleeper", "rabbitmq"]
    [worker] = nodes(home).values()
    assert (worker["cloud"], worker["state"]) == ("west", "RUNNING")
    assert len(ec2.machines) == 1

    # What is installed lies on a machine's own disk; what is baked in is a link to our own.
    nodes_of = [f"{one.launch_id}-{one.index}" for one in base]
    disks = [boxes.root / node / "disk" / "upper" / "opt/epu" for node in nodes_of]
    assert all(disk.parent.is_dir() for disk in disks)
    assert all((disk / "installed.json").is_file() is unburned for disk in disks)

    # Each part is where the plan puts it.
    def commands(service: str) -> str:
        [machine] = [one for one in base if one.pool == service]
        command = boxes.exec_command(machine.cloud_id, ["ps", "-eo", "args"], {})
        return subprocess.run(
            command.words, env=command.environment, cwd=command.directory,
            capture_output=True, text=True, timeout=60, check=True,
        ).stdout  # fmt: skip

    said = {service: commands(service) for service in ("base", "epu-sleeper")}
    for name in ("provisioner", "registrar"):
        assert f"coordinator.{name}.service" in said["base"]
        assert f"coordinator.{name}.service" not in said["epu-sleeper"]
    assert "config-sleeper.yaml" in said["epu-sleeper"], "they are the pool's own"
    for name in ("controller", "sensors"):
        assert f"coordinator.{name}.service" in said["epu-sleeper"]
        assert f"coordinator.{name}.service" not in said["base"]

    # The cloud's credentials are in one file of one machine, and in no user-data.
    told = [one.user_data for one in ec2.machines]
    told += [file.read_bytes() for file in run.rglob("user-data*") if file.is_file()]
    assert not any(SECRET.encode() in text for text in told)
    assert SECRET not in "".join(said.values())

    # A copy of the record and of the accounts is enough to find the system from elsewhere.
    elsewhere = place / "elsewhere"
    copy = elsewhere / "runs" / RUN
    (copy / "broker").mkdir(parents=True)
    for name in ("run.db", "broker/accounts.json"):
        shutil.copy(run / name, copy / name)
    run.rename(run.with_name("away"))
    try:
        assert nodes(elsewhere).keys() == {worker["node_id"]}
        epu(elsewhere, "pool", "set-n", "sleeper", "2", "--run", RUN)
        access = read_access(copy / "broker" / "accounts.json")
        produce(access, "sleeper-work", job_ids(4, "job"), 0.2)
        eventually(lambda: len(ec2.machines) == 2, 120, 0.5, "a second machine of EC2")
        eventually(
            lambda: [one["state"] for one in nodes(elsewhere).values()] == ["RUNNING"] * 2,
            120, 1.0, "both run",
        )  # fmt: skip
    finally:
        run.with_name("away").rename(run)

    epu(home, "teardown", RUN)
    receipt = json.loads((run / "receipt.json").read_text())
    assert receipt["clean"] is True
    assert ec2.machines == []
    assert [one for one in boxes.list_instances(RUN) if one.state is MachineState.RUNNING] == []
