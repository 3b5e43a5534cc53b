"""The decision tables of the specification (QL-*, NP-*), through whole cycles."""

from __future__ import annotations

import pytest

from agent.messages import InstanceState as S
from coordinator.engines.base import Decision


def change(outcome) -> int:
    """Launched and taken back, less those that go."""
    batch = outcome.batch
    if batch is None:
        return 0
    gained = sum(launch.count for launch in batch.launches) + len(batch.cancels)
    return gained - len(batch.drains) - len(batch.terminations)


def gained_and_lost(outcome) -> tuple[int, int]:
    batch = outcome.batch
    if batch is None:
        return 0, 0
    return sum(launch.count for launch in batch.launches), len(batch.drains) + len(
        batch.terminations
    )


def changes(world, readings, *, run_at_once=False, unacknowledged=0):
    """The change of each cycle, one reading per cycle."""
    seen = []
    for ready in readings:
        world.queue = None if ready is None else (ready, unacknowledged)
        seen.append(change(world.cycle()))
        if run_at_once:
            for node_id in world.ids(S.REQUESTED):
                world.to(node_id, S.RUNNING)
        world.now += world.tick
    return seen


def test_ql1_no_reading_changes_nothing(elastic):
    assert changes(elastic(), [None]) == [0]


def test_ql3_work_without_a_worker_launches_one(elastic):
    assert changes(elastic(), [1]) == [+1]


def test_ql4_the_last_worker_stays_while_there_is_work(elastic):
    assert changes(elastic(supply=1), [5, 5, 5, 5]) == [0, 0, 0, 0]


def test_ql5_the_last_worker_goes_when_nothing_is_left(elastic):
    # Rule 3 wants two measurements of 0/0: the table's first row entry is the second one.
    world = elastic(supply=1)
    assert changes(world, [0]) == [0]
    assert changes(world, [0, 0]) == [-1, 0]


def test_ql7_the_minimum_stays(elastic):
    assert changes(elastic(supply=2, minimum=1), [0, 0]) == [-1, 0]


@pytest.mark.parametrize("ready", [10, 50], ids=["ql8 low water", "ql10 high water"])
def test_ql8_and_ql10_the_marks_themselves_change_nothing(elastic, ready):
    assert changes(elastic(supply=1), [ready]) == [0]


def test_ql11_above_high_water_one_more_each_time_until_the_maximum(elastic):
    world = elastic(supply=1, maximum=4)
    assert changes(world, [51] * 5, run_at_once=True) == [+1, +1, +1, 0, 0]


@pytest.mark.parametrize("ready", [0, 100], ids=["ql13", "ql14"])
def test_ql13_and_ql14_the_minimum_is_launched_whatever_the_queue_says(elastic, ready):
    assert changes(elastic(minimum=5), [ready]) == [+5]


@pytest.mark.parametrize("ready", [100, 0])
def test_ql17_nothing_is_scaled_while_one_is_pending(elastic, ready):
    world = elastic()
    world.add(S.REQUESTED)
    assert changes(world, [ready]) == [0]


def with_one_missing(world):
    lost = world.running[0]
    world.silent[lost] = world.now - 1000
    world.queue = (30, 0)
    world.frozen = "setting the scene"
    world.cycle()  # OUT_OF_CONTACT and asked for a sign of life; now it is MISSING
    world.frozen = None
    world.memory = type(world.memory)(health=world.memory.health)
    return lost


def test_ql21_the_unhealthy_one_goes_and_the_last_stays(elastic):
    world = elastic(supply=2)
    lost = with_one_missing(world)
    assert changes(world, [5]) == [-1]
    assert world.ids(S.TERMINATING) == [lost]


def test_ql22_the_unhealthy_one_is_replaced(elastic):
    world = elastic(supply=2)
    lost = with_one_missing(world)
    world.queue = (60, 0)
    outcome = world.cycle()
    assert gained_and_lost(outcome) == (1, 1)
    assert world.ids(S.TERMINATING) == [lost]


# ---------------------------------------------------------------------- n_preserving


@pytest.mark.parametrize("n", [0, 1, 5])
def test_np1_n_are_launched_at_once(world, n):
    assert change(world({"preserve_n": n}).cycle()) == n


def make_unhealthy(world, node_id, how):
    if how == "BOOT_FAILED":
        world.to(node_id, S.BOOT_FAILED, "check failed")
    elif how == "MISSING":
        world.silent[node_id] = world.now - 1000
        world.cycle()
    elif how == "PROCESS_ERROR":
        world.fail_program(node_id)
    elif how == "MONITOR_ERROR":
        world.signs[node_id] = {"supervisor_failures": 3}
    elif how == "ZOMBIE":
        world.to(node_id, S.TERMINATED, "terminated")
        world.signs[node_id] = {"heard_age": 1.0}
        world.now += 125


@pytest.mark.parametrize(
    "how", ["BOOT_FAILED", "MISSING", "PROCESS_ERROR", "MONITOR_ERROR", "ZOMBIE"]
)
def test_np4_one_that_failed_goes_and_another_comes_in_the_same_cycle(world, how):
    made = world({"preserve_n": 1})
    (node_id,) = made.add(S.RUNNING)
    make_unhealthy(made, node_id, how)
    outcome = made.cycle()
    assert gained_and_lost(outcome) == (1, 1)
    gone = {c.node_id for c in (*outcome.batch.terminations, *outcome.batch.drains)}
    assert gone == {node_id}


@pytest.mark.parametrize("state", [S.LAUNCH_FAILED, S.REJECTED])
def test_np6_a_refused_launch_is_repeated_with_back_off(world, state):
    made = world({"preserve_n": 1})
    made.add(state, wanted_at=made.now - 1, state_since=made.now)
    assert change(made.cycle()) == 0
    assert "wait 5 s" in made.outcomes[-1].reason
    made.now += 4.9
    assert change(made.cycle()) == 0
    made.now += 0.2
    assert change(made.cycle()) == +1


def test_np7_a_unique_worker_is_replaced_with_its_own_variables(world):
    engine = {"preserve_n": 2, "unique_instances": {"1": {"a": "x"}}}
    made = world(engine, variables={"a": "all", "b": "all"})
    made.step(5)
    (unique,) = [one for one in made.instances.values() if one.unique_id == "1"]
    (plain,) = [one for one in made.instances.values() if one.unique_id is None]
    assert unique.variables == {"a": "x", "b": "all"}
    made.fail_program(unique.node_id)
    outcome = made.cycle()
    assert [end.node_id for end in outcome.batch.terminations] == [unique.node_id]
    (launch,) = outcome.batch.launches
    assert (launch.count, launch.unique_id) == (1, "1")
    assert launch.variables == {"a": "x", "b": "all"}
    assert made.instances[plain.node_id].state is S.RUNNING


def test_np12_another_n_leaves_the_variables_alone(world, pool_spec):
    engine = {"preserve_n": 2, "unique_instances": {"1": {"a": "x"}}}
    made = world(engine)
    made.step(5)
    before = dict(made.instances)
    made.spec = pool_spec({**engine, "preserve_n": 3})
    outcome = made.cycle()
    assert gained_and_lost(outcome) == (1, 0)
    assert outcome.batch.launches[0].unique_id is None
    assert {n: made.instances[n] for n in before} == before


def test_np13_an_engine_that_raises_costs_its_pool_one_cycle(world):
    made = world({"preserve_n": 2})
    good = made.engine

    class Raises:
        Settings = dict

        def decide(self, view):
            raise RuntimeError("boom")

    made.engine = Raises()
    outcome = made.cycle()
    assert outcome.batch is None
    assert outcome.pool_state.value == "HELD"
    assert "boom" in outcome.reason
    assert [name for name, _ in outcome.events if name == "engine_failed"] == ["engine_failed"]
    made.cycle()
    assert len(made.events("engine_failed")) == 1, "said once"
    made.engine = good
    assert change(made.cycle()) == +2


@pytest.mark.parametrize(
    "wish",
    [
        *({"size": s} for s in (float("nan"), -1, 10**9, 1.5, "3", None, True, float("inf"))),
        {"victims": None},
        {"memory": None},
        {"memory": {"now": float("nan")}},
        {"memory": {"seen": {1, 2}}},
        {"unique_ids": None},
        {"unique_ids": {"1": {"port": 80}}},
    ],
    ids=str,
)
def test_an_absurd_wish_is_no_wish(world, wish):
    made = world({"preserve_n": 2})
    made.add(S.RUNNING, 2)
    good = made.engine

    class Absurd:
        Settings = dict

        def decide(self, view):
            return Decision(**{"size": 0, "reason": "absurd", **wish})

    made.engine = Absurd()
    outcome = made.cycle()
    assert outcome.batch is None
    assert outcome.decision.problem
    assert outcome.pool_state.value == "HELD"
    made.engine = good
    assert made.cycle().batch is None
