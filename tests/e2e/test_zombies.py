"""Machines that their cloud denies: real agents speak from them, and are told to stop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.messages import Event
from agent.wire import from_wire
from coordinator.clouds.process import continue_machine, machine_processes, stop_machine
from mgmt.teardown import Teardown, Wishes
from mgmt.teardown_record import Listing
from tests.denying_cloud import DenyingCloud

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

HEALTH = {"missing_timeout": 2, "really_missing_timeout": 1, "zombie_timeout": 1}


class Levels:
    """What is below the workers of a system that a test booted: it ends that by itself."""

    def services(self) -> list[str]:
        return ["coordinator"]

    def terminate(self, leave_workers: bool) -> None: ...

    def workers_are_gone(self) -> None: ...


@pytest.fixture
def denying(system_in: Any, tmp_path: Path) -> Iterator[Any]:
    found = system_in(tmp_path / "run", "denied")
    found.driver = "tests.denying_cloud:DenyingCloud"
    try:
        found.start()
        yield found
    finally:
        found.end()


def told(system: Any, node: str) -> list[Event]:
    """That a node was told to stop, by whomever."""
    found = [
        from_wire(Event, one)
        for source in ("provisioner", "registrar")
        for one in system.ask(source, "events", 0, 10_000)
    ]
    return [one for one in found if one.name == "zombie_told_to_stop" and one.node == node]


def test_agents_of_machines_that_their_cloud_denies_are_told_to_stop_and_end(
    denying: Any, tmp_path: Path
) -> None:
    system = denying
    cloud: DenyingCloud = system.cloud
    words = ["python3", "-c", "import time; time.sleep(1e6)"]
    section = {"programs": {"work": {"command": words}}, "heartbeat_interval": 0.5}
    with system.pool("denied", 2, health=HEALTH, **section) as pool:
        first, second = sorted(pool.wait_whole(2))

        # While it runs: it is silent, its cloud calls it gone; then it speaks again.
        stop_machine(cloud.root, first)
        cloud.deny(first)
        system.wait(lambda: first not in pool.records(), "both witnesses call it gone")
        continue_machine(cloud.root, first)

        def ended(node: str) -> bool:
            return not machine_processes(cloud.root, node)

        system.wait(lambda: ended(first), "its agent ends everything on it", 90)
        assert told(system, first)
        assert second in pool.wait_whole(2) and pool.launched() == 3

        # In a teardown: it was let drain, and its cloud does not end it.
        cloud.deny(second)
        assert not ended(second)
        teardown = Teardown(
            run="denied",
            directory=tmp_path / "teardown",
            base=Levels(),
            list_clouds=Listing,
            call=system.call,
        )
        receipt = teardown.perform(Wishes(timeout=60))
        assert [(one.node_id, one.silent) for one in receipt.denied] == [(second, True)]
        assert "told to stop" in receipt.steps["stop_denied"].detail
        system.wait(lambda: ended(second), "its agent has ended everything on it")
        assert told(system, second)
        assert system.alive() == []
        assert not system.call("provisioner", "live_nodes")
