"""Nodes die, fall silent, lose their agent or their connections: who is replaced, and how often."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator.clouds.base import MachineState
from coordinator.clouds.process import (
    continue_machine,
    kill_machine,
    machine_processes,
    stop_machine,
)

pytestmark = pytest.mark.e2e

QUICK: dict[str, Any] = {
    "heartbeat_interval": 0.5,
    "health": {"missing_timeout": 3, "really_missing_timeout": 1},
}
#: Silent for long before it counts as missing, so that it can come back in between.
PATIENT: dict[str, Any] = {
    "heartbeat_interval": 0.5,
    "health": {"missing_timeout": 2, "really_missing_timeout": 20},
}

Figure = Callable[[str, float], None]


def test_a_killed_node_is_replaced_once_at_default_settings(system: Any, figure: Figure) -> None:
    with system.pool("killed", 2) as pool:
        before = pool.wait_whole(2)
        victim = min(before)
        at = time.time()
        kill_machine(system.cloud.root, victim)
        system.wait(lambda: victim not in pool.records(), "the loss is noticed")
        after = pool.wait_whole(2)

        assert len(after - before) == 1
        assert pool.launched() == 3
        gone = next(x for x in pool.events("node_terminated") if x.node == victim)
        figure("SIGKILL to found gone", gone.time - at)
        figure("SIGKILL to replacement launched", pool.events("new_launch")[-1].time - at)


def test_a_node_killed_before_it_enrolled_is_replaced_once(system: Any, figure: Figure) -> None:
    with system.pool("killed-early", 1) as pool:
        # Not sooner: a launch that is killed half-way is taken up again, which is no loss.
        victim = min(
            system.wait(lambda: pool.machines(MachineState.RUNNING), "it runs", pause=0.01)
        )
        at = time.time()
        kill_machine(system.cloud.root, victim)
        assert not (system.cloud.root / victim / "enrolled.json").exists(), "killed too late"
        system.wait(lambda: victim not in pool.records(), "the loss is noticed")
        after = pool.wait_whole(1)

        assert after.isdisjoint({victim})
        assert pool.launched() == 2
        figure("SIGKILL before enrolment to launched", pool.events("new_launch")[-1].time - at)


def test_a_node_killed_while_it_verifies_itself_is_replaced_once(
    system: Any, figure: Figure, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    check = {"file": str(gate), "timeout": 60}
    with system.pool("killed-booting", 1, checks=[check]) as pool:
        victim = min(system.wait(pool.machines, "a machine is started"))
        enrolled = system.cloud.root / victim / "enrolled.json"
        system.wait(enrolled.exists, "its agent has enrolled")
        at = time.time()
        kill_machine(system.cloud.root, victim)
        gate.touch()
        system.wait(lambda: victim not in pool.records(), "the loss is noticed")
        after = pool.wait_whole(1)

        assert after.isdisjoint({victim})
        assert pool.launched() == 2
        figure("SIGKILL while booting to launched", pool.events("new_launch")[-1].time - at)


def test_the_only_node_of_a_pool_is_replaced_when_it_falls_silent(
    system: Any, figure: Figure
) -> None:
    with system.pool("silent", 1, **QUICK) as pool:
        (victim,) = pool.wait_whole(1)
        at = time.time()
        stop_machine(system.cloud.root, victim)
        system.wait(lambda: victim not in pool.records(), "the silent one is given up")
        after = pool.wait_whole(1)

        assert after.isdisjoint({victim})
        assert pool.launched() == 2
        assert machine_processes(system.cloud.root, victim) == []
        figure("SIGSTOP to replacement launched", pool.events("new_launch")[-1].time - at)


def test_a_node_that_speaks_again_in_time_stays(system: Any) -> None:
    with system.pool("silent-for-a-while", 1, **PATIENT) as pool:
        before = pool.wait_whole(1)
        (node,) = before
        stop_machine(system.cloud.root, node)
        system.wait(lambda: pool.health(node) == "OUT_OF_CONTACT", "its silence is noticed")
        continue_machine(system.cloud.root, node)
        system.wait(lambda: pool.health(node) == "OK", "it is heard again")

        assert pool.wait_whole(1) == before
        assert pool.launched() == 1


def test_an_agent_that_is_killed_comes_back_and_nobody_is_replaced(
    system: Any, figure: Figure
) -> None:
    with system.pool("agent-killed", 1, heartbeat_interval=0.5) as pool:
        before = pool.wait_whole(1)
        (node,) = before
        was = system.call(f"agent-{node}", "describe")["boot_id"]
        at = time.time()
        pool.kill_agent(node)
        # Nobody serves its queue for a moment: the loss of presence is seen, and is a hint.
        system.wait(
            lambda: system.call(f"agent-{node}", "describe", timeout=1)["boot_id"] != was,
            "a new agent serves the node",
        )
        figure("agent killed to agent back", time.time() - at)
        system.wait(lambda: pool.health(node) == "OK", "it is heard")

        assert pool.wait_whole(1) == before
        assert pool.launched() == 1


def test_connections_that_are_reset_replace_nobody(system: Any, figure: Figure) -> None:
    with system.pool("reset", 2, **QUICK) as pool:
        before = pool.wait_whole(2)
        users = {f"node-{node}" for node in before}
        old = system.wait(
            lambda: {name for name, user in system.connections().items() if user in users},
            "the management API lists the nodes' connections",
        )
        at = time.time()
        for name in old:
            system.reset(name)

        def reconnected() -> bool:
            now = {user for name, user in system.connections().items() if name not in old}
            return users <= now

        system.wait(reconnected, "both nodes have connected again")
        figure("connections reset to all back", time.time() - at)
        for node in before:
            system.wait(lambda node=node: pool.health(node) == "OK", "it is heard")

        assert pool.wait_whole(2) == before
        assert pool.launched() == 2
