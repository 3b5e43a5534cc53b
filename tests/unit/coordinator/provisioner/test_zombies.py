"""Machines that go on although their cloud calls them gone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agent.messages import ADOPTED_CLOUD, InstanceState
from coordinator.errors import RetryLater
from coordinator.provisioner.lifecycle import Record
from coordinator.provisioner.steps import CallStop, CallTerminate, next_step

NODE = "l1-0"


def vanished_unnamed(make_world: Callable[..., Any], claims: str = "") -> Any:
    """Its node enrolled, and it was gone before any listing told the cloud's name for it."""
    world = make_world(lag=5.0, gone_listed_for=0.0)
    world.clouds["cloud"].fail_next("list_instances", *[RetryLater("it is away")] * 5)
    world.apply(world.launch())
    world.tick()
    world.part.node_enrolled(NODE, ["10.1.1.1"], claims)
    world.clouds["cloud"].vanish("m-000001")
    world.hears(NODE, age=100.0)
    world.pass_time(60)
    assert world.state(NODE) is InstanceState.TERMINATED
    assert world.view(NODE).cloud_id is None
    return world


def test_a_zombie_without_a_name_in_its_cloud_is_told_to_stop(
    make_world: Callable[..., Any],
) -> None:
    world = vanished_unnamed(make_world, "i-77")
    world.agents[NODE] = {"stop": None}
    world.apply(world.terminate(NODE))
    world.pass_time(100)
    assert world.asked.count((f"agent-{NODE}", "stop")) == 1
    assert "terminate" not in world.clouds["cloud"].calls, "nobody trusts the name that it claims"
    (told,) = world.events("zombie_told_to_stop")
    assert told.node == NODE and "i-77" in told.reason and "costs" in told.reason


def test_a_zombie_that_was_not_reached_is_told_when_it_is_commanded_again(
    make_world: Callable[..., Any],
) -> None:
    world = vanished_unnamed(make_world)
    world.apply(world.terminate(NODE))
    world.pass_time(5)
    assert not world.events("zombie_told_to_stop")
    world.agents[NODE] = {"stop": None}
    world.apply(world.terminate(NODE))
    world.pass_time(5)
    assert len(world.events("zombie_told_to_stop")) == 1


def test_a_zombie_whose_cloud_was_asked_is_told_to_stop_as_well(world: Any) -> None:
    world.running(1)
    world.apply(world.terminate(NODE))
    world.pass_time(30)
    assert (f"agent-{NODE}", "stop") not in world.asked, "its cloud ends it"
    world.agents[NODE] = {"stop": None}
    world.apply(world.terminate(NODE))
    world.pass_time(5)
    assert world.asked.count((f"agent-{NODE}", "stop")) == 1
    assert world.clouds["cloud"].calls.count("terminate") == 2


def test_a_teardown_tells_everyone_who_speaks_after_its_end_and_says_so_once(world: Any) -> None:
    world.running(3)
    for number in range(3):
        world.agents[f"l1-{number}"] = {"stop": None}
    world.apply(world.terminate("l1-0"))
    world.pass_time(30)
    world.asked.clear()
    (told,) = world.part.stop_denied()
    assert (told["node_id"], told["cloud"], told["cloud_id"]) == ("l1-0", "cloud", "m-000001")
    assert told["drain_timeout"] == 100.0
    assert ("agent-l1-2", "stop") not in world.asked, "it runs, and is no zombie"
    assert world.part.stop_denied() and len(world.events("zombie_told_to_stop")) == 1
    world.pass_time(7200)
    assert world.part.stop_denied() == [], "whoever ended long ago has lost its account long ago"


def ended(cloud: str, **fields: Any) -> Record:
    return Record(
        node_id=NODE, launch_id="l1", index=0, pool="p", cloud=cloud, wanted_at=0.0,
        state=InstanceState.TERMINATED, state_since=0.0, **fields,
    )  # fmt: skip


def test_a_vanished_machine_that_nobody_heard_since_is_asked_of_its_cloud_alone() -> None:
    records = [ended("cloud", cloud_id="m-1", next_attempt_at=0.0)]
    asked = next_step(records, 1.0, enabled=True, window=0.0, listed_at=None)
    assert asked == [CallTerminate(node_ids=(NODE,), cloud_ids=("m-1",))]


def test_what_was_adopted_is_told_once() -> None:
    known = {"cloud_id": NODE, "next_attempt_at": 0.0, "terminate_called_at": 0.0}
    asked = next_step([ended(ADOPTED_CLOUD, **known)], 1.0, enabled=True, window=0.0, listed_at=0.0)
    assert not any(isinstance(one, CallStop) for one in asked) and len(asked) == 1
