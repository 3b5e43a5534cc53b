"""The controller as a real process, with an engine that hangs."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from agent.messages import BrokerAccess
from agent.rpc_client import CallFailed, RpcClient
from agent.wire import to_wire
from coordinator.config import CoordinatorConfig, write_config

pytestmark = pytest.mark.integration

STRANGE = "tests.unit.coordinator.controller.misbehaving:Engine"
DEADLINE = 10.0


class Coordinator:
    """Controller and provisioner, real, over a cloud in the provisioner's memory."""

    def __init__(self, access: BrokerAccess, directory: Path) -> None:
        accounts = self.accounts = directory / "accounts.json"
        accounts.touch(mode=0o600)
        accounts.write_text(json.dumps(to_wire(access)))
        config = CoordinatorConfig(
            run=f"run-{uuid.uuid4().hex[:6]}",
            accounts=str(accounts),
            state_dir=str(directory / "coordinator"),
            clouds={"here": {"driver": "in_memory"}},
            engine_deadline=DEADLINE,
        )
        self.file = write_config(config)
        self.client = RpcClient(access.amqp_url("coordinator"), timeout=30.0)
        self.log = (directory / "services.log").open("wb")
        self.others = [
            self.start("tests.integration.registrar_stub"),
            self.start("coordinator.provisioner.service"),
        ]
        self.controller = self.start("coordinator.controller.service")

    def start(self, module: str) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", module, "--config", str(self.file)]
        return subprocess.Popen(words, stderr=self.log)

    def call(self, service: str, method: str, *args: Any) -> Any:
        try:
            return self.client.call(service, method, *args)
        except CallFailed:
            return None

    def records(self, pool: str) -> int:
        return len((self.call("provisioner", "instances", pool) or {"instances": ()})["instances"])

    def failures(self) -> dict[str, str]:
        """Pool to what was said of its engine."""
        events = self.call("controller", "events") or []
        return {one["pool"]: one["reason"] for one in events if one["name"] == "engine_failed"}

    def engines(self) -> list[psutil.Process]:
        children = psutil.Process(self.controller.pid).children()
        return [one for one in children if one.status() != psutil.STATUS_ZOMBIE]

    def epu(self, *words: str) -> Any:
        """What a command of a person's answers as JSON."""
        command = [sys.executable, "-m", "mgmt.cli", *words, "--accounts", str(self.accounts)]
        return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)

    def end(self) -> None:
        for process in (self.controller, *self.others):
            process.kill()
            process.wait(10)
        self.client.close()
        self.log.close()


@pytest.fixture
def coordinator(broker: BrokerAccess, tmp_path: Path) -> Iterator[Coordinator]:
    found = Coordinator(broker, tmp_path)
    try:
        yield found
    finally:
        found.end()


def test_an_engine_that_hangs_in_c_stops_only_its_own_pool_and_is_killed(
    coordinator: Coordinator, eventually: Callable[..., Any], tmp_path: Path
) -> None:
    for service in ("controller", "provisioner", "registrar"):
        eventually(lambda s=service: coordinator.call(s, "status"), 40, f"no {service}")
    hangs = tmp_path / "hangs"
    engine = {"type": STRANGE, "how": "regex", "flag": str(hangs)}
    coordinator.client.call("controller", "add_pool", "stuck", {"engine": engine})
    eventually(hangs.exists, 30, "the engine was never asked")
    (stuck,) = coordinator.engines()
    well = {"engine": {"type": "n_preserving", "preserve_n": 2}}
    coordinator.client.call("controller", "add_pool", "well", well)
    eventually(lambda: coordinator.records("well") == 2, DEADLINE, "the other pool waits")
    coordinator.client.call("controller", "reconfigure", "well", {"engine.preserve_n": 3})
    eventually(lambda: coordinator.records("well") == 3, DEADLINE, "the other pool waits")
    assert not coordinator.failures(), "all of that happened while the engine hung"

    replayed = coordinator.epu("replay", "--json")
    assert replayed["replayed"] >= 2 and replayed["same"] == replayed["replayed"]

    eventually(lambda: "stuck" in coordinator.failures(), 2 * DEADLINE, "it was never told")
    assert "gave no answer within 10 s and was killed" in coordinator.failures()["stuck"]
    assert not stuck.is_running()
    pool = coordinator.client.call("controller", "pool", "stuck")
    assert pool["state"] == "HELD" and "gave no answer within 10 s" in pool["reason"]
    assert coordinator.records("stuck") == 0
    coordinator.client.call("controller", "remove_pool", "stuck")
    eventually(lambda: not coordinator.engines(), 10, "a removed pool's engine goes on")
