"""Broker and coordinator boot on machines of their own, and a third machine joins them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.messages import agent_service
from agent.rpc_client import CallFailed, RpcClient
from coordinator.clouds.base import LaunchRequest, MachineState
from coordinator.clouds.container import ContainerCloud
from coordinator.clouds.machine_directory import RECORD
from coordinator.clouds.process_table import ProcessTable
from coordinator.config import read_access
from coordinator.testing import eventually
from mgmt.broker_launch import server_script
from userdata_templates.render import render

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

RUN = "home"
POOL = "epu-workers"
SOON = 120.0

Figure = Callable[[str, float], None]


class Home:
    """A place for runs, and the machines below it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.own = directory / "own"

    @property
    def run(self) -> Path:
        return self.directory / "runs" / RUN

    def epu(self, *words: str, timeout: float = 300) -> str:
        """What the command prints; it must succeed."""
        done = subprocess.run(
            [sys.executable, "-m", "mgmt.cli", *words],
            env={**os.environ, "EPU_HOME": str(self.directory)},
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert done.returncode == 0, f"epu {words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def nodes(self) -> dict[str, dict[str, Any]]:
        """What the coordinator says of its nodes, by node id."""
        found = json.loads(self.epu("nodes", "--run", RUN, "--json"))
        return {node["node_id"]: node for node in found["nodes"]}

    def marks(self) -> list[str]:
        """Of every machine that was booted from here."""
        found = [*self.directory.glob(f"runs/*/clouds/*/*/{RECORD}"), *self.own.glob(f"*/{RECORD}")]
        return [json.loads(file.read_text())["mark"] for file in found]

    def files(self) -> Iterator[Path]:
        """Every file here but what is on machines' own disks."""
        for place, directories, names in os.walk(self.directory):
            if "disk" in directories:
                directories.remove("disk")
            yield from (Path(place, name) for name in names)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    missing = [name for name in ("cloud-init",) if shutil.which(name) is None]
    if os.geteuid() != 0 or missing or server_script() is None:
        reason = "takes root, cloud-init and rabbitmq-server"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    found = Home(tmp_path / "home")
    yield found
    ProcessTable().end(found.marks(), timeout=20)


def test_a_broker_and_a_coordinator_on_machines_of_their_own_take_in_a_third(
    home: Home, figure: Figure
) -> None:
    began = time.monotonic()
    home.epu("boot", "self-hosted", "-n", RUN, "-q")
    figure("self-hosted: boot of everything", time.monotonic() - began)
    accounts = home.run / "broker" / "accounts.json"
    assert accounts.stat().st_mode & 0o777 == 0o600
    access = read_access(accounts)
    # With the account "enrol" a machine may ask to be taken in, no more: user-data holds it.
    secret = [a.password.encode() for name, a in access.accounts.items() if name != "enrol"]

    home.epu("token", "create", "--run", RUN, "--pool", POOL, "-o", str(home.directory / "a.json"))
    told = json.loads((home.directory / "a.json").read_text())
    node = f"{told['launch_id']}-0"
    user_data = render("worker", "cloud-init", {**told, "agent": "configure", "variables": {}})
    cloud = ContainerCloud.from_settings({}, home.own)
    began = time.monotonic()
    cloud.launch(
        LaunchRequest(
            launch_id=told["launch_id"], run="own", pool=POOL, count=1, user_data=user_data
        )
    )
    [machine] = cloud.list_instances("own")
    try:
        eventually(
            lambda: home.nodes().get(node, {}).get("state") == "RUNNING", SOON, 0.2, "it joins"
        )
    except AssertionError:
        pytest.fail(f"not taken in: {home.nodes()}\n{cloud.console_output(machine.cloud_id)}")
    figure("a third machine: launched to RUNNING", time.monotonic() - began)
    with RpcClient(access.amqp_url("coordinator")) as client:
        described = eventually(lambda: described_by(client, node), SOON, 0.2)
    assert described["node_id"] == node

    for file in home.files():
        if file.is_file() and file != accounts:
            content = file.read_bytes()
            assert not any(password in content for password in secret), file

    home.epu("teardown", RUN)
    receipt = json.loads((home.run / "receipt.json").read_text())
    assert receipt["clean"] is True
    assert receipt["adopted"] == [node]
    # Its owner ends the machine of an adopted worker.
    assert [m.state for m in cloud.list_instances("own")] == [MachineState.RUNNING]
    cloud.terminate([machine.cloud_id])
    assert ProcessTable().of(home.marks()) == []
    assert str(home.directory) not in Path("/proc/self/mountinfo").read_text()


def described_by(client: RpcClient, node: str) -> Any:
    try:
        return client.call(agent_service(node), "describe", timeout=5.0)
    except CallFailed:
        return None
