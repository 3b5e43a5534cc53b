"""Which of its ordered clouds a pool uses, and what moves from one to another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from agent.messages import CloudStatus, InstanceState
from coordinator.controller.cloud_choice import FIRST_CLOSED, LONGEST_CLOSED

S = InstanceState
CLOUDS = ["near", "far"]


@pytest.fixture
def pool(world: Callable[..., Any]) -> Any:
    """A pool of three on two clouds, nothing launched yet."""
    machine = {"size": "big", "clouds": {"far": {"image": "ami-1"}}}
    return world({"preserve_n": 3}, clouds=CLOUDS, machine=machine)


def full(pool: Any, *nodes: str) -> None:
    """The cloud of these nodes said that it has no room."""
    for node in nodes:
        pool.to(node, S.LAUNCHING, "no capacity: full")
        pool.instances[node] = replace(pool.instances[node], retryable=True)


def by_cloud(pool: Any, *states: InstanceState) -> dict[str, int]:
    """How many machines each cloud has or will have."""
    final = (S.TERMINATED, S.LAUNCH_FAILED, S.REJECTED, S.TERMINATING)
    counted: dict[str, int] = {}
    for one in pool.instances.values():
        if one.state in states if states else one.state not in final:
            counted[one.cloud] = counted.get(one.cloud, 0) + 1
    return counted


def test_the_first_cloud_takes_the_launches_with_its_own_settings(pool: Any) -> None:
    outcome = pool.cycle()
    assert [(one.cloud, one.settings) for one in outcome.batch.launches] == [
        ("near", {"size": "big"})
    ]
    assert outcome.explanation()["cloud"] == {"chosen": "near", "reason": "", "closed": {}}


def test_no_room_moves_the_deficit_to_the_next_cloud_in_the_same_cycle(pool: Any) -> None:
    pool.cycle()
    waiting = pool.ids(S.REQUESTED)
    full(pool, waiting[0])
    outcome = pool.cycle()
    assert by_cloud(pool) == {"far": 3}
    assert {pool.instances[node].state for node in waiting} == {S.TERMINATED}
    [launch] = outcome.batch.launches
    assert (launch.cloud, launch.settings) == ("far", {"size": "big", "image": "ami-1"})
    cloud = outcome.explanation()["cloud"]
    assert cloud["chosen"] == "far"
    assert cloud["reason"] == "instead of near (no capacity: full)"
    assert cloud["closed"]["near"]["seconds_left"] == FIRST_CLOSED
    assert pool.events("cloud_chosen")[-1]["cloud"] == "far"
    pool.step(10)
    assert by_cloud(pool, S.RUNNING) == {"far": 3}


def test_what_runs_or_boots_on_a_closed_cloud_stays_there(pool: Any) -> None:
    pool.add(S.RUNNING, cloud="near")
    pool.add(S.BOOTING, cloud="near")
    pool.cycle()
    full(pool, *pool.ids(S.REQUESTED))
    pool.cycle()
    assert by_cloud(pool) == {"near": 2, "far": 1}


@pytest.mark.parametrize(
    "status",
    [
        CloudStatus(rejected_for=50.0, problem="credentials rejected: expired"),
        CloudStatus(silent_for=31.0, problem="can't be listed: down"),
    ],
)
def test_a_cloud_that_rejects_us_or_does_not_answer_is_passed_over(
    pool: Any, status: CloudStatus
) -> None:
    pool.clouds = {"near": status}
    outcome = pool.cycle()
    assert by_cloud(pool) == {"far": 3}
    assert status.problem in outcome.explanation()["cloud"]["reason"]


def test_a_cloud_that_is_slow_for_a_moment_keeps_its_launches(pool: Any) -> None:
    pool.clouds = {"near": CloudStatus(silent_for=20.0)}
    pool.cycle()
    assert by_cloud(pool) == {"near": 3}


def test_an_intent_of_unknown_outcome_is_ended_before_its_place_is_launched_elsewhere(
    pool: Any,
) -> None:
    pool.cycle()
    for node in pool.ids(S.REQUESTED):
        pool.to(node, S.LAUNCHING, "asking the cloud")
    pool.clouds = {"near": CloudStatus(silent_for=40.0)}
    pool.cycle()
    assert by_cloud(pool) == {"near": 3}, "its machine may show at any moment"
    pool.now += 60
    outcome = pool.cycle()
    assert by_cloud(pool) == {"far": 3}
    assert by_cloud(pool, S.TERMINATING) == {"near": 3}
    assert len(outcome.batch.terminations) == 3


def test_uncertain_intents_move_only_as_far_as_cap_and_surge_have_room(
    world: Callable[..., Any],
) -> None:
    pool = world({"preserve_n": 3}, clouds=CLOUDS, max=3, max_surge=1)
    pool.cycle()
    for node in pool.ids(S.REQUESTED):
        pool.to(node, S.LAUNCHING, "asking the cloud")
    pool.clouds = {"near": CloudStatus(silent_for=100.0)}
    pool.now += 60
    pool.cycle()
    assert by_cloud(pool) == {"near": 2, "far": 1}
    assert by_cloud(pool, S.TERMINATING) == {"near": 1}


def test_proven_empty_intents_move_even_where_there_is_no_surge(
    world: Callable[..., Any],
) -> None:
    pool = world({"preserve_n": 3}, clouds=CLOUDS, max=3, max_surge=0)
    pool.cycle()
    full(pool, *pool.ids(S.REQUESTED))
    pool.cycle()
    assert by_cloud(pool) == {"far": 3}
    assert pool.machines == 3


def test_the_first_cloud_is_used_again_when_it_recovers(pool: Any) -> None:
    pool.cycle()
    full(pool, *pool.ids(S.REQUESTED))
    pool.step(20)
    assert by_cloud(pool, S.RUNNING) == {"far": 3}
    pool.now += FIRST_CLOSED
    pool.vanish(pool.running[0])
    pool.step(20)
    assert by_cloud(pool, S.RUNNING) == {"far": 2, "near": 1}
    assert pool.memory.clouds == {}, "a machine came up there"
    assert pool.events("cloud_chosen")[-1]["cloud"] == "near"


def test_each_closing_doubles_the_time_so_that_nothing_flaps(pool: Any) -> None:
    tried = []
    for _ in range(4000):
        pool.cycle()
        near = [n for n in pool.ids(S.REQUESTED) if pool.instances[n].cloud == "near"]
        if near:
            tried.append(pool.now)
            full(pool, *near)
        if len(pool.running) == 3:
            pool.vanish(pool.running[0])
        pool.advance()
    gaps = [round(b - a) for a, b in zip(tried, tried[1:], strict=False)]
    assert gaps[0] >= FIRST_CLOSED and len(tried) <= 7
    assert all(b >= 1.9 * a for a, b in zip(gaps, gaps[1:], strict=False) if b < LONGEST_CLOSED)


def test_with_every_cloud_closed_nothing_moves_and_the_reason_is_said(pool: Any) -> None:
    pool.cycle()
    full(pool, *pool.ids(S.REQUESTED))
    pool.cycle()
    far = pool.ids(S.REQUESTED)
    full(pool, *far)
    outcome = pool.cycle()
    assert outcome.batch is None
    assert by_cloud(pool) == {"far": 3}
    assert "every cloud of the pool is closed" in outcome.reason
    pool.step(100)
    assert by_cloud(pool) == {"near": 3}, "near opened first"


def test_a_unique_worker_moves_with_its_own_variables(world: Callable[..., Any]) -> None:
    engine = {"preserve_n": 1, "unique_instances": {"one": {"colour": "blue"}}}
    pool = world(engine, clouds=CLOUDS)
    pool.cycle()
    full(pool, *pool.ids(S.REQUESTED))
    [launch] = pool.cycle().batch.launches
    assert (launch.cloud, launch.unique_id) == ("far", "one")
    assert launch.variables["colour"] == "blue"


def test_a_replacement_that_moves_is_still_counted_by_the_brake(
    world: Callable[..., Any],
) -> None:
    pool = world({"preserve_n": 1}, clouds=CLOUDS)
    [sick] = pool.add(S.RUNNING, cloud="near")
    pool.fail_program(sick)
    pool.cycle()
    assert pool.memory.replacements
    full(pool, *pool.ids(S.REQUESTED))
    pool.step(2)
    assert [pool.instances[f"{launch}-0"].cloud for launch in pool.memory.replacements] == ["far"]


def test_launches_in_back_off_move_nothing(world: Callable[..., Any]) -> None:
    pool = world({"preserve_n": 2}, clouds=CLOUDS)
    pool.cycle()
    first, second = pool.ids(S.REQUESTED)
    pool.to(first, S.LAUNCH_FAILED, "no such image")
    full(pool, second)
    outcome = pool.cycle()
    assert outcome.batch is None
    assert by_cloud(pool) == {"near": 1}
    pool.now += 6
    pool.cycle()
    assert by_cloud(pool) == {"far": 2}


def test_a_pool_of_one_cloud_waits_for_it_as_ever(world: Callable[..., Any]) -> None:
    pool = world({"preserve_n": 2}, clouds=["near"])
    pool.cycle()
    full(pool, *pool.ids(S.REQUESTED))
    assert pool.cycle().batch is None
    assert by_cloud(pool) == {"near": 2}


@pytest.mark.parametrize(("limit", "counts"), [(1, [1] * 5), (2, [2, 2, 1]), (5, [5]), (100, [5])])
def test_launches_are_as_large_as_the_cloud_takes(
    world: Callable[..., Any], limit: int, counts: list[int]
) -> None:
    pool = world({"preserve_n": 5})
    pool.clouds = {"here": CloudStatus(batch_limit=limit)}
    launches = pool.cycle().batch.launches
    assert [one.count for one in launches] == counts
    assert len({one.launch_id for one in launches}) == len(counts)


def test_a_thousand_machines_are_at_most_twenty_launches(world: Callable[..., Any]) -> None:
    pool = world({"preserve_n": 1000})
    assert len(pool.cycle().batch.launches) <= 20
