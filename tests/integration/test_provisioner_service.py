"""The provisioner as a real process: on a broker, with the ``process`` cloud."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.messages import BrokerAccess, CommandBatch, LaunchInstances
from agent.rpc_client import CallFailed, RpcClient
from agent.wire import to_wire
from coordinator.clouds.base import MachineState
from coordinator.clouds.process import ProcessCloud, kill_machine
from coordinator.config import CoordinatorConfig, write_config

pytestmark = pytest.mark.integration

RUN = "provisioner-test"


class Service:
    """The process, its configuration and a client of it."""

    def __init__(self, access: BrokerAccess, directory: Path) -> None:
        accounts = directory / "accounts.json"
        accounts.touch(mode=0o600)
        accounts.write_text(json.dumps(to_wire(access)))
        settings = {
            "driver": "process",
            "root": str(directory / "machines"),
            "agent_command": json.dumps(["sleep", "600"]),
        }
        self.config = CoordinatorConfig(
            run=RUN,
            accounts=str(accounts),
            state_dir=str(directory / "coordinator"),
            clouds={"here": settings},
        )
        self.file = write_config(self.config)
        self.cloud = ProcessCloud.from_settings(
            {k: v for k, v in settings.items() if k != "driver"}, directory
        )
        self.client = RpcClient(access.amqp_url("coordinator"), timeout=10.0)
        self.log = (directory / "provisioner.log").open("wb")
        # Without one the provisioner holds all launches after half a minute.
        self.registrar = self._process("tests.integration.registrar_stub")
        self.start()

    def start(self) -> None:
        self.process = self._process("coordinator.provisioner.service")

    def _process(self, module: str) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", module, "--config", str(self.file)]
        return subprocess.Popen(words, stderr=self.log)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def call(self, method: str, *args: Any) -> Any:
        try:
            return self.client.call("provisioner", method, *args)
        except CallFailed:
            return None

    def launch(self, launch_id: str, count: int) -> dict[str, Any]:
        snapshot = self.call("instances", "sleeper")
        command = LaunchInstances(
            command_id=f"c-{launch_id}",
            launch_id=launch_id,
            count=count,
            cloud="here",
            template="worker",
            reason="wanted",
        )
        batch = CommandBatch(
            batch_id=f"b-{launch_id}",
            pool="sleeper",
            based_on=snapshot["version"],
            epoch=snapshot["epoch"],
            launches=(command,),
        )
        answer: dict[str, Any] = self.call("apply", to_wire(batch))
        return answer

    def states(self) -> dict[str, str]:
        snapshot = self.call("instances", "sleeper") or {"instances": []}
        return {view["node_id"]: view["state"] for view in snapshot["instances"]}

    def machines(self) -> list[str]:
        return sorted(
            f"{machine.launch_id}-{machine.index}"
            for machine in self.cloud.list_instances(RUN)
            if machine.state is not MachineState.GONE
        )


@pytest.fixture
def service(broker: BrokerAccess, tmp_path: Path) -> Iterator[Service]:
    found = Service(broker, tmp_path)
    try:
        yield found
    finally:
        found.kill()
        found.registrar.kill()
        found.registrar.wait(10)
        found.client.close()
        found.log.close()
        found.cloud.terminate([machine.cloud_id for machine in found.cloud.list_instances(RUN)])


def test_a_provisioner_killed_while_it_launches_ends_with_a_machine_per_record(
    service: Service, eventually: Callable[..., Any]
) -> None:
    eventually(lambda: service.call("status"), 30, "the provisioner never answered")
    assert service.launch("a", 3)["outcome"] == "applied"
    service.kill()
    service.start()
    wanted = ["a-0", "a-1", "a-2"]
    eventually(
        lambda: service.states() == dict.fromkeys(wanted, "BOOTING"),
        40,
        lambda: f"states: {service.states()}",
    )
    assert service.machines() == wanted
    assert service.launch("a", 3)["outcome"] == "repeated"

    progress = service.call("terminate_all", True)
    assert not progress["enabled"] and not progress["done"]
    eventually(lambda: (service.call("progress") or {}).get("done"), 40, "never done")
    assert service.machines() == []
    assert set(service.states().values()) == {"TERMINATED"}
    assert service.launch("b", 1)["outcome"] == "applied"
    assert service.states()["b-0"] == "REJECTED"


def test_a_machine_that_dies_while_it_boots_is_told_as_vanished(
    service: Service, eventually: Callable[..., Any]
) -> None:
    eventually(lambda: service.call("status"), 30, "the provisioner never answered")
    service.launch("a", 1)
    eventually(lambda: service.states() == {"a-0": "BOOTING"}, 30, "it never booted")
    kill_machine(service.cloud.root, "a-0")
    eventually(lambda: service.states() == {"a-0": "TERMINATED"}, 30, "nobody noticed")
    names = [event["name"] for event in service.call("events")]
    assert names == ["new_launch", "new_node", "node_terminated"]
    eventually(lambda: not service.cloud.list_instances(RUN), 30, "its remains were kept")
