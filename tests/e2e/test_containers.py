"""A pool of containers: the coordinator's own user-data, real cloud-init, agents that enrol."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.messages import agent_service
from coordinator.clouds.machine_directory import RECORD
from coordinator.clouds.process import kill_machine
from coordinator.clouds.process_table import ProcessTable
from mgmt.broker_launch import server_script

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

Figure = Callable[[str, float], None]


@pytest.fixture(scope="module")
def contained(
    tmp_path_factory: pytest.TempPathFactory, system_in: Callable[..., Any]
) -> Iterator[Any]:
    """A system whose workers are containers over this host's root, the agent baked in."""
    missing = [name for name in ("cloud-init", "unshare") if shutil.which(name) is None]
    if os.geteuid() != 0 or missing or server_script() is None:
        reason = "takes root, cloud-init and rabbitmq-server"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    system = system_in(tmp_path_factory.mktemp("contained"), "contained", "container")
    try:
        system.start({"agent": "configure"})
        yield system
        system.wait(lambda: not system.alive(), "every pool's machines are gone at the end")
    finally:
        system.end()


def test_a_pool_of_containers_is_booted_by_cloud_init_replaced_and_sent_away(
    contained: Any, figure: Figure
) -> None:
    began = time.time()
    with contained.pool("boxes", 2) as pool:
        nodes = pool.wait_whole(2, timeout=110)
        figure("two containers: pool added to both ready", time.time() - began)
        for node in nodes:
            told = contained.ask(agent_service(node), "describe")
            assert told["node_id"] == node
            console = (contained.cloud.root / node / "logs" / "console.log").read_text()
            assert "agent.start_log: [enrolment]" in console
        # One launch, one user-data: which of the two a machine is it learned from its seed.
        assert pool.launched() == 2

        victim = min(nodes)
        kill_machine(contained.cloud.root, victim)
        contained.wait(lambda: victim not in pool.records(), "the loss is noticed")
        after = pool.wait_whole(2, timeout=110)
        assert len(after - nodes) == 1
        marks = [marks_of(contained.cloud.root / node) for node in nodes | after]

        pool.set_size(0)
        pool.wait_whole(0, timeout=60)
        assert ProcessTable().of(marks) == []
        for node in nodes | after:
            left = {path.name for path in (contained.cloud.root / node).iterdir()}
            assert left <= {"machine.json", "lock", "started", "terminated", "logs"}
    assert str(contained.directory) not in Path("/proc/self/mountinfo").read_text()


def marks_of(directory: Path) -> str:
    mark: str = json.loads((directory / RECORD).read_text())["mark"]
    return mark
