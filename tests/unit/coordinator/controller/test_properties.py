"""What must hold whatever happens: bounds, settling, one for one, no exception."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from agent.messages import HealthStatus
from agent.messages import InstanceState as S
from coordinator.controller.backoff import BackOff
from coordinator.controller.brake import BrakeLevel
from coordinator.controller.health import HealthNote
from coordinator.controller.pool import (
    PoolMemory,
    PoolState,
    Replacement,
    memory_from_dict,
    memory_to_dict,
)
from coordinator.engines.base import Decision

# The same examples in every run: the search with new ones is the simulator's task, which
# prints the seed that fails.
lenient = hypothesis_settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=50,
)

times = st.floats(0, 2e9, allow_nan=False)
names = st.text("abc-019", min_size=1, max_size=8)
notes = st.builds(
    HealthNote,
    status=st.sampled_from(HealthStatus),
    since=times,
    heard=st.booleans(),
    exited=names,
)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=5,
)
memories = st.builds(
    PoolMemory,
    began=st.none() | times,
    wanted=st.none() | st.integers(0, 1000),
    reason=names,
    engine=names,
    engine_memory=st.dictionaries(names, plain, max_size=3),
    engine_seen=st.dictionaries(names, plain, max_size=3),
    health=st.dictionaries(names, notes, max_size=3),
    unhealthy=st.dictionaries(names, times, max_size=3),
    condemned=st.frozensets(names, max_size=3),
    replacements=st.dictionaries(
        names,
        st.builds(Replacement, based_on=st.integers(0, 99), count=st.integers(0, 99)),
        max_size=3,
    ),
    backoff=st.builds(
        BackOff,
        failures=st.integers(0, 99),
        waves=st.integers(0, 99),
        until=times,
        last_failure=times,
        wave_until=times,
        reason=names,
    ),
    counted=st.frozensets(names, max_size=3),
    pending=st.frozensets(names, max_size=3),
    zombies=st.dictionaries(names, times, max_size=3),
    rogues=st.frozensets(names, max_size=3),
    brake=st.sampled_from(BrakeLevel),
    meltdown_since=st.none() | times,
    braked=st.lists(times, max_size=3).map(tuple),
    ready_once=st.booleans(),
    calm=st.booleans(),
    state=st.sampled_from(PoolState),
    said=st.dictionaries(names, names, max_size=3),
)


@given(memories)
def test_a_memory_survives_being_stored_and_loaded(memory):
    assert memory_from_dict(json.loads(json.dumps(memory_to_dict(memory)))) == memory


def test_an_empty_store_is_a_fresh_memory():
    assert memory_from_dict({}) == PoolMemory()


def test_every_field_of_a_memory_is_stored():
    assert set(memory_to_dict(PoolMemory())) == set(vars(PoolMemory()))


anything: Any = st.one_of(
    st.none(),
    st.floats(),
    st.integers(),
    st.text(max_size=5),
    st.booleans(),
    st.builds(
        Decision,
        size=st.one_of(st.integers(-5, 20), st.integers(), st.floats(), st.text(), st.none()),
        reason=st.one_of(st.text(max_size=5), st.none(), st.integers()),
        victims=st.one_of(st.lists(st.text(max_size=5)).map(tuple), st.none(), st.integers()),
        held=st.booleans(),
        stable=st.booleans(),
        unique_ids=st.one_of(
            st.dictionaries(names, st.dictionaries(names, names, max_size=2), max_size=3),
            st.dictionaries(names, st.integers(), max_size=2),
            st.none(),
        ),
        memory=st.one_of(
            st.dictionaries(names, plain, max_size=2),
            st.dictionaries(names, st.floats(), max_size=2),
            st.just({"set": {1}}),
            st.none(),
        ),
    ),
)


@lenient
@given(answers=st.lists(anything, min_size=1, max_size=4), there=st.integers(0, 4))
def test_no_answer_of_an_engine_breaks_a_cycle_or_a_bound(world, answers, there):
    made = world({"preserve_n": 0}, min=1, max=5)
    made.add(S.RUNNING, there)
    waiting = iter(answers)

    class Strange:
        Settings = dict

        def decide(self, view):
            return next(waiting)

    made.engine = Strange()
    for _ in answers:
        outcome = made.step()
        json.dumps(outcome.explanation(), allow_nan=False)
        assert made.machines <= 5 + 1
        if outcome.decision.problem:
            assert outcome.batch is None
            assert outcome.pool_state is PoolState.HELD
        else:
            assert 1 <= outcome.wanted <= 5


@pytest.mark.parametrize("problem", [ValueError, KeyError, RecursionError, MemoryError])
def test_an_exception_of_an_engine_is_contained(world, problem):
    made = world({"preserve_n": 1})

    class Raises:
        Settings = dict

        def decide(self, view):
            raise problem("x")

    made.engine = Raises()
    assert made.cycle().pool_state is PoolState.HELD


trouble = st.sampled_from(
    ["vanish", "fatal", "side", "silent", "heard", "boot_fails", "boots", "deaf", "hears",
     "slow", "quick", "person"]
)  # fmt: skip


def befall(made, what, who):
    running = made.running
    victim = running[who % len(running)] if running else None
    if what == "boot_fails":
        made.boot_fails = True
    elif what == "boots":
        made.boot_fails = False
    elif what == "deaf":
        made.sensors = False
    elif what == "hears":
        made.sensors = True
    elif what == "slow":
        made.drains_take = 20
    elif what == "quick":
        made.drains_take = 1
    elif what == "heard":
        made.silent.clear()
    elif victim is None:
        return
    elif what == "vanish":
        made.vanish(victim)
    elif what == "fatal":
        made.fail_program(victim)
    elif what == "side":
        made.fail_program(victim, "side")
    elif what == "silent":
        made.silent[victim] = made.now
    elif what == "person":
        made.to(victim, S.TERMINATING, "a person wanted so")


@lenient
@given(
    n=st.integers(0, 6),
    surge=st.integers(0, 2),
    happenings=st.lists(st.tuples(trouble, st.integers(0, 9), st.integers(1, 60)), max_size=8),
)
def test_the_cap_holds_always_and_the_pool_comes_to_rest_at_its_size(world, n, surge, happenings):
    made = world({"preserve_n": n}, max=6, max_surge=surge)
    made.add(S.RUNNING, 2)

    def step():
        made.step()
        assert made.machines <= 6 + surge
        assert made.outcomes[-1].wanted in (None, n)

    for what, who, cycles in happenings:
        befall(made, what, who)
        for _ in range(cycles):
            step()
    made.boot_fails, made.sensors, made.drains_take = False, True, 1
    made.silent.clear()
    made.signs = {k: v for k, v in made.signs.items() if made.instances[k].state is not S.RUNNING}
    made.now += 3600  # past every back-off
    made.memory = memory_from_dict({**memory_to_dict(made.memory), "unhealthy": {}})
    for _ in range(100):
        step()
    assert len(made.running) == n
    assert made.outcomes[-1].pool_state is PoolState.STABLE
    assert all(outcome.batch is None for outcome in made.outcomes[-50:]), "and stays there"


@lenient
@given(
    n=st.integers(1, 5),
    how=st.sampled_from(["vanish", "fatal", "side", "silent"]),
    who=st.integers(0, 9),
    refused=st.integers(0, 3),
    drain=st.integers(1, 30),
)
def test_one_lost_worker_is_exactly_one_replacement(world, n, how, who, refused, drain):
    made = world({"preserve_n": n})
    made.add(S.RUNNING, n)
    made.drains_take = drain
    made.step(3)
    befall(made, how, who)
    for _ in range(refused):  # the provisioner answers conflict, and the pool changed
        made.cycle(apply=False)
        made.version += 1
    launches_refused = made.launched
    made.step(200)
    assert made.launched - launches_refused == 1
    assert len(made.running) == n


queues = st.tuples(st.integers(0, 120), st.integers(0, 3))


@lenient
@given(
    supply=st.integers(0, 4),
    minimum=st.integers(0, 2),
    seen=st.lists(queues, min_size=1, max_size=40),
    drain=st.integers(1, 10),
)
def test_work_keeps_the_last_worker_and_brings_the_first(elastic, supply, minimum, seen, drain):
    made = elastic(supply=supply, minimum=minimum, maximum=4)
    made.drains_take = drain
    for ready, unacknowledged in seen:
        made.queue = (ready, unacknowledged)
        before = made.outcomes[-1].counts["supply"] if made.outcomes else supply
        outcome = made.cycle()
        after = len(made.ids(S.REQUESTED, S.LAUNCHING, S.BOOTING, S.RUNNING))
        assert minimum <= outcome.wanted <= 4
        if ready > 0:
            assert after >= 1
        if before > 0 and unacknowledged > 0 and outcome.counts["supply"] > 0:
            assert after >= 1
        made.advance()


@lenient
@given(
    supply=st.integers(0, 5),
    reading=st.one_of(
        st.none(), st.tuples(st.integers(0, 200), st.integers(0, 9), st.floats(3.1, 1000))
    ),
    happenings=st.lists(st.tuples(trouble, st.integers(0, 9), st.integers(1, 9)), max_size=4),
)
def test_nobody_is_scaled_in_without_a_fresh_reading(elastic, supply, reading, happenings):
    made = elastic(supply=supply)
    if reading is not None:
        made.queue, made.stale_by = reading[:2], reading[2]
    for what, who, cycles in [("heard", 0, 3), *happenings]:
        if what not in ("fatal", "side", "silent"):
            befall(made, what, who)
        for _ in range(cycles):
            batch = made.cycle().batch
            if batch is not None:
                assert not batch.drains
                boot_failed = {n for n, one in made.instances.items() if "boot" in one.reason}
                assert {t.node_id for t in batch.terminations} <= boot_failed
            made.advance()


@lenient
@given(reading=queues, supply=st.integers(0, 5), drain=st.integers(1, 5))
def test_constant_input_comes_to_rest(elastic, reading, supply, drain):
    made = elastic(supply=supply, maximum=5)
    made.drains_take = drain
    made.queue = reading
    made.step(60)
    assert all(outcome.batch is None for outcome in made.outcomes[-20:])
    assert made.outcomes[-1].pool_state is PoolState.STABLE


@pytest.mark.parametrize(
    ("victims", "said"),
    [
        (("other-pool-0",), "it names other-pool-0 as a victim, which this pool has not"),
        (("n0", "n0"), "it names a victim twice"),
        ((None,), "its victims are not a list of node ids"),
    ],
)
def test_victims_that_can_not_be_cost_the_pool_its_cycle(world, victims, said):
    made = world({"preserve_n": 3}, min=1, max=5)
    made.add(S.RUNNING, 3)
    nodes = list(made.instances)

    class Strange:
        Settings = dict

        def decide(self, view):
            named = tuple(nodes[0] if name == "n0" else name for name in victims)
            return Decision(size=1, reason="fewer", victims=named)

    made.engine = Strange()
    outcome = made.step()
    assert outcome.decision.problem == said
    assert outcome.batch is None and outcome.pool_state is PoolState.HELD
    assert [fields["reason"] for name, fields in outcome.events if name == "engine_failed"] == [
        said
    ]
    assert said in outcome.explanation()["wish"]["reason"]


def test_a_protected_victim_stays_and_the_engine_is_told_so(world):
    made = world({"preserve_n": 3}, min=1, max=5)
    kept, gone = made.add(S.RUNNING, 2)
    made.add(S.RUNNING, 1)
    made.instances[kept] = replace(made.instances[kept], protected=True)

    class Forgetful:
        Settings = dict

        def decide(self, view):
            return Decision(size=2, reason="fewer", victims=(kept, gone))

    made.engine = Forgetful()
    outcome = made.step()
    assert [one.node_id for one in outcome.batch.drains] == [gone]
    assert f"{kept} are protected and no victims" in outcome.explanation()["wish"]["reason"]


@pytest.mark.parametrize("size", [float("nan"), float("inf"), -1, 10**9, 2.5, "3", True, None])
def test_a_size_that_can_not_be_cost_the_pool_its_cycle(world, size):
    made = world({"preserve_n": 3})
    made.add(S.RUNNING, 3)

    class Strange:
        Settings = dict

        def decide(self, view):
            return Decision(size=size, reason="strange")

    made.engine = Strange()
    outcome = made.step()
    assert outcome.decision.problem.startswith("it wants ")
    assert outcome.batch is None and made.machines == 3
