from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.messages import FINAL_STATES, InstanceState, ReadyReport
from coordinator.errors import InsufficientCapacity, InvalidTransition, LaunchRefused, RetryLater
from coordinator.provisioner.lifecycle import FIRST_STATES, NEXT_STATES, transition

S = InstanceState
#: The edges of the specification, written out a second time on purpose.
SPECIFIED = {
    S.REQUESTED: {S.LAUNCHING, S.LAUNCH_FAILED, S.TERMINATED, S.REJECTED},
    S.LAUNCHING: {S.BOOTING, S.LAUNCH_FAILED, S.TERMINATING, S.TERMINATED},
    S.BOOTING: {S.RUNNING, S.BOOT_FAILED, S.TERMINATING, S.TERMINATED},
    S.RUNNING: {S.DRAINING, S.TERMINATING, S.TERMINATED},
    S.DRAINING: {S.RUNNING, S.TERMINATING, S.TERMINATED},
    S.BOOT_FAILED: {S.TERMINATING, S.TERMINATED},
    S.TERMINATING: {S.TERMINATED},
    S.TERMINATED: set(),
    S.LAUNCH_FAILED: set(),
    S.REJECTED: set(),
}


def test_the_table_has_exactly_the_edges_of_the_specification() -> None:
    assert {state: set(following) for state, following in NEXT_STATES.items()} == SPECIFIED


def test_exactly_the_final_states_have_no_next_state() -> None:
    assert {state for state, following in NEXT_STATES.items() if not following} == FINAL_STATES


@pytest.mark.parametrize("before", [None, *InstanceState])
@pytest.mark.parametrize("to", list(InstanceState))
def test_anything_outside_the_table_raises(before: InstanceState | None, to: InstanceState) -> None:
    allowed = FIRST_STATES if before is None else SPECIFIED[before]
    if to in allowed:
        assert transition(before, to) is to
    else:
        with pytest.raises(InvalidTransition):
            transition(before, to)


ONE_WORLD_EACH = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture],
}


@settings(max_examples=4, **ONE_WORLD_EACH)
@given(seed=st.integers(0, 10_000))
def test_every_transition_of_some_histories_is_in_the_table(
    make_world: Callable[..., Any], seed: int
) -> None:
    live_through(make_world, seed)


@pytest.mark.soak
@settings(max_examples=200, **ONE_WORLD_EACH)
@given(seed=st.integers(0, 1_000_000))
def test_every_transition_of_any_history_is_in_the_table(
    make_world: Callable[..., Any], seed: int
) -> None:
    live_through(make_world, seed)


def live_through(make_world: Callable[..., Any], seed: int) -> None:
    """Commands, reports, lost presences, faults and restarts in any order, on a bad cloud."""
    dice = random.Random(seed)
    world = make_world(
        in_memory=True,
        lag=6.0,
        backwards=True,
        blink=0.2,
        lose_replies=0.2,
        capacity=6,
        seed=seed,
    )
    cloud = world.clouds["cloud"]
    for number in range(30):
        nodes = list(world.states()) or ["none-0"]
        node = dice.choice(nodes)
        match dice.randrange(12):
            case 0 | 1 | 2:
                launch_id = f"s{seed}n{number}"
                timeouts = {"boot_timeout": dice.choice([5.0, 50.0]), "launch_timeout": 20.0}
                world.apply(world.launch(launch_id, dice.randint(1, 3), **timeouts))
            case 3:
                world.apply(world.terminate(node))
            case 4:
                world.apply(world.drain(node, dice.choice([0.0, 10.0])))
            case 5 if node != "none-0":
                world.part.node_ready(ReadyReport(node_id=node, ok=dice.random() < 0.7))
            case 6 if node != "none-0":
                world.part.node_enrolled(node, [])
            case 7:
                world.part.presence_lost([node])
            case 8 if cloud.machines:
                cloud.vanish(dice.choice(cloud.machines).cloud_id)
            case 9:
                error = dice.choice([RetryLater, InsufficientCapacity, LaunchRefused])("no")
                cloud.fail_next(dice.choice(["launch", "terminate"]), error)
            case 10:
                world.hears(*nodes, age=dice.choice([1.0, 100.0]))
            case 11:
                world.part = world.new_provisioner()
        world.pass_time(dice.choice([0.5, 3.0, 20.0]), step=1.0)
    with world.engine.connect() as connection:
        for row in connection.exec_driver_sql("select from_state, to_state from transitions"):
            before = None if row.from_state is None else InstanceState(row.from_state)
            transition(before, InstanceState(row.to_state))
    world.part.terminate_all(now=True)
    world.pass_time(600, step=5.0)
    assert world.machines() == []
    assert world.part.progress()["remaining"] == []
