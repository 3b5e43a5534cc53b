"""Rollouts through whole cycles: who goes when, and what stops it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from agent.messages import ADOPTED_CLOUD, HealthStatus
from agent.messages import InstanceState as S
from coordinator.controller.pool import PoolState
from coordinator.controller.rollout_memory import Rollout, RolloutState

SETTLE = 5.0


@pytest.fixture
def fleet(world):
    """A pool that runs what it was launched with; ``n`` workers, all OK, nothing to do."""

    def build(n=3, engine=None, **section):
        section = {"settle_time": SETTLE, **section}
        made = world(engine or {"preserve_n": n}, **section)
        made.sources = {"here": "text 1"}
        made.step(12)
        assert len(made.running) == n
        assert made.outcomes[-1].pool_state is PoolState.STABLE
        return made

    return build


def change_template(made):
    made.sources = {"here": made.sources["here"] + "+"}


def begin(made, max_surge=None):
    made.memory = replace(made.memory, rollout=Rollout(started_at=made.now, max_surge=max_surge))


def old_ones(made):
    return made.outcomes[-1].old


def state(made):
    return made.memory.rollout.state


def finish(made, cycles=300):
    for _ in range(cycles):
        made.step()
        if not made.memory.rollout.active:
            return
    raise AssertionError(f"not finished: {made.memory.rollout}")


def until(made, condition, cycles=100):
    """Cycles up to the one whose outcome is as ``condition`` says."""
    for _ in range(cycles):
        outcome = made.step()
        if condition(outcome):
            return outcome
    raise AssertionError(f"not within {cycles} cycles: {made.memory.rollout}")


def somebody_goes(outcome):
    return outcome.batch is not None and bool(outcome.batch.drains)


def well(made):
    """Nodes that run and are judged OK in the last cycle."""
    health = made.outcomes[-1].health
    return {n for n in made.running if n in health and health[n].status is HealthStatus.OK}


# ---------------------------------------------------------------------- who is old


def test_a_changed_template_variable_machine_or_program_makes_workers_old(fleet, pool_spec):
    made = fleet(2, machine={"image": "one"})
    assert old_ones(made) == frozenset()
    same = {"machine": {"image": "one"}, "settle_time": SETTLE}
    for changed in (
        {"machine": {"image": "two"}},
        {"variables": {"colour": "blue"}},
        {"template": "other"},
        {"programs": {"worker": {"command": ["/bin/other"]}}},
        {"heartbeat_interval": 5.0},
    ):
        made.spec = pool_spec({"preserve_n": 2}, **{**same, **changed})
        made.cycle()
        assert len(old_ones(made)) == 2, changed
    for unchanged in ({"drain_timeout": 5.0}, {"max": 7}, {"cooldown_up": 60}, {}):
        made.spec = pool_spec({"preserve_n": 2}, **{**same, **unchanged})
        made.cycle()
        assert not old_ones(made), unchanged
    change_template(made)
    assert made.cycle().batch is None, "nobody goes before somebody asks for it"
    assert len(old_ones(made)) == 2


def test_workers_on_a_cloud_that_the_pool_left_are_old(fleet, pool_spec):
    made = fleet(2)
    made.spec = pool_spec({"preserve_n": 2}, settle_time=SETTLE, clouds=["there"])
    made.cycle()
    assert len(old_ones(made)) == 2


def test_an_adopted_worker_is_never_old(fleet):
    made = fleet(2)
    (mine,) = made.add(S.RUNNING, cloud=ADOPTED_CLOUD)
    made.cycle()
    assert mine not in old_ones(made)


# ---------------------------------------------------------------------- how it goes


@pytest.mark.parametrize("surge", [1, 2, 5])
def test_all_are_replaced_and_the_size_is_never_missed(fleet, surge):
    made = fleet(4, max=4, max_surge=surge)
    before = set(made.running)
    change_template(made)
    begin(made)
    while made.memory.rollout.active:
        made.step()
        assert len(well(made)) >= 4
        assert made.machines <= 4 + surge
        assert made.outcomes[-1].wanted == 4
    assert not before & set(made.running) and len(made.running) == 4
    made.step(3)
    assert made.outcomes[-1].pool_state is PoolState.STABLE
    assert made.memory.rollout.replaced == 4
    assert [e["replaced"] for e in made.events("rollout_finished")] == [4]
    assert len(made.events("rollout_step")) >= 2


def test_it_launches_one_waits_until_it_has_settled_and_then_drains_one(fleet):
    made = fleet(2)
    change_template(made)
    begin(made)
    batch = made.step().batch
    assert sum(launch.count for launch in batch.launches) == 1 and not batch.drains
    until(made, lambda outcome: len(made.running) == 3)
    came = made.now
    assert "1 beyond 2" in made.outcomes[-1].reason
    until(made, somebody_goes)
    assert made.now - came >= SETTLE
    assert made.outcomes[-1].explanation()["rollout"]["replaced"] == 1


def test_idle_workers_go_before_busy_ones_and_drain_is_not_taken_back(fleet):
    made = fleet(2)
    busy, idle = made.running
    made.signs = {busy: {"busy": True}, idle: {"busy": False}}
    made.drains_take = 30
    change_template(made)
    begin(made)
    until(made, somebody_goes)
    assert made.ids(S.DRAINING) == [idle]
    made.vanish(busy)  # a place is free now: the draining one must not fill it
    outcome = made.step()
    assert not outcome.batch.cancels
    assert sum(launch.count for launch in outcome.batch.launches) == 1


def test_protected_workers_stay_and_it_says_so(fleet):
    made = fleet(3)
    kept = made.running[0]
    made.instances[kept] = replace(made.instances[kept], protected=True)
    change_template(made)
    begin(made)
    finish(made)
    assert kept in made.running and len(made.running) == 3
    assert "1 protected" in made.memory.rollout.reason
    assert state(made) is RolloutState.FINISHED


def test_with_nothing_old_it_is_done_at_once(fleet):
    made = fleet(2)
    begin(made)
    made.step()
    assert state(made) is RolloutState.FINISHED
    assert made.launched == 2


# ---------------------------------------------------------------------- without surge


@pytest.mark.parametrize("section, asked", [({"max_surge": 0}, None), ({"max_surge": 2}, 0)])
def test_without_surge_one_goes_first_and_no_machine_is_beyond_the_size(fleet, section, asked):
    made = fleet(3, min=2, **section)
    before = set(made.running)
    change_template(made)
    begin(made, asked)
    while made.memory.rollout.active:
        made.step()
        assert made.machines <= 3
        assert len(well(made)) >= 2
    assert not before & set(made.running) and len(made.running) == 3


def test_without_surge_and_with_a_minimum_of_the_size_it_pauses_and_says_why(fleet):
    made = fleet(2, min=2, max_surge=0)
    change_template(made)
    begin(made)
    made.step(30)
    assert state(made) is RolloutState.PAUSED
    assert "min is 2" in made.outcomes[-1].reason
    assert made.launched == 2 and len(made.events("rollout_paused")) == 1


# ---------------------------------------------------------------------- unique ids


def test_there_are_never_two_of_one_id_and_variables_stay(fleet):
    engine = {"preserve_n": 3, "unique_instances": {"a": {"port": "1"}, "b": {"port": "2"}}}
    made = fleet(3, engine)
    before = set(made.running)
    made.drains_take = 4
    change_template(made)
    begin(made)
    final = (S.TERMINATED, S.LAUNCH_FAILED, S.REJECTED)
    while made.memory.rollout.active:
        made.step()
        ids = [o.unique_id for o in made.instances.values() if o.unique_id and o.state not in final]
        assert len(ids) == len(set(ids)), "two of one id"
        assert len(well(made)) >= 2
    assert not before & set(made.running)
    now = {one.unique_id: one.variables for one in map(made.instances.get, made.running)}
    assert now == {"a": {"port": "1"}, "b": {"port": "2"}, None: {}}


def test_a_stopped_rollout_does_not_launch_an_id_whose_old_machine_is_still_there(fleet):
    made = fleet(1, {"preserve_n": 1, "unique_instances": {"a": {"port": "1"}}})
    made.drains_take = 10
    change_template(made)
    begin(made)
    until(made, somebody_goes)
    made.memory = replace(
        made.memory, rollout=replace(made.memory.rollout, state=RolloutState.STOPPED)
    )
    for _ in range(30):
        made.step()
        assert made.machines <= 1, "two of one id"
    assert len(made.running) == 1 and made.launched == 2


def test_other_variables_of_one_id_make_only_that_worker_old(fleet, pool_spec):
    made = fleet(2, {"preserve_n": 2, "unique_instances": {"a": {"port": "1"}}})
    (plain,) = [n for n in made.running if made.instances[n].unique_id is None]
    engine = {"preserve_n": 2, "unique_instances": {"a": {"port": "9"}}}
    made.spec = pool_spec(engine, settle_time=SETTLE)
    begin(made)
    finish(made)
    assert plain in made.running
    (unique,) = [o for o in map(made.instances.get, made.running) if o.unique_id]
    assert unique.variables == {"port": "9"}


# ---------------------------------------------------------------------- what stops it


def test_a_new_worker_that_does_not_boot_pauses_it_with_back_off(fleet):
    made = fleet(2)
    before = set(made.running)
    change_template(made)
    made.boot_fails = True
    begin(made)
    until(made, lambda outcome: state(made) is RolloutState.PAUSED, 10)
    assert "BOOT_FAILED: check failed" in made.outcomes[-1].reason
    launched = []
    for _ in range(1800):
        made.step()
        launched.append(made.launched)
        assert set(made.running) == before, "nobody went"
        assert made.machines <= 3
    # 5, 10, 20 … 640 s and what a boot takes: no more than a handful of tries in half an hour.
    assert 3 <= made.launched - 2 <= 12
    assert made.memory.rollout.failures >= 5
    made.boot_fails = False
    finish(made, 2000)
    assert not before & set(made.running)


def test_a_new_worker_that_becomes_unhealthy_pauses_it_and_is_replaced_first(fleet):
    made = fleet(3)
    before = set(made.running)
    change_template(made)
    begin(made)
    until(made, lambda outcome: len(made.running) == 4)
    (new,) = set(made.running) - before
    made.fail_program(new)
    made.step()
    assert state(made) is RolloutState.PAUSED
    assert "PROCESS_ERROR" in made.memory.rollout.reason
    assert len(set(made.running) & before) == 3
    finish(made)
    assert not before & set(made.running)


def test_what_workers_are_made_from_is_mended_and_it_goes_on_at_once(fleet):
    made = fleet(2)
    change_template(made)
    made.boot_fails = True
    begin(made)
    made.step(400)
    assert made.memory.rollout.seconds_left(made.now) > 60 or made.memory.rollout.failures > 4
    made.boot_fails = False
    made.memory = replace(made.memory, backoff=type(made.memory.backoff)())
    change_template(made)
    made.step()
    assert state(made) is RolloutState.RUNNING and made.memory.rollout.failures == 0
    finish(made)


def test_unhealthy_old_workers_are_replaced_first_and_by_new_ones(fleet):
    made = fleet(3)
    begin(made)
    change_template(made)
    victim = made.running[0]
    made.fail_program(victim)
    batch = made.step().batch
    gone = [*batch.terminations, *batch.drains]
    assert [one.node_id for one in gone] == [victim]
    assert sum(launch.count for launch in batch.launches) == 1, "its successor, and no more"
    finish(made)
    assert len(made.running) == 3 and made.launched == 3 + 3


def test_a_meltdown_and_a_hold_pause_it_and_their_end_lets_it_go_on(fleet, pool_spec):
    made = fleet(2)
    change_template(made)
    begin(made)
    section = {"settle_time": SETTLE}
    made.spec = pool_spec({"preserve_n": 2}, **section, hold={"suspend": ["replace"]})
    made.step(20)
    assert made.launched == 2 and state(made) is RolloutState.PAUSED
    assert "replace is suspended" in made.outcomes[-1].reason
    made.spec = pool_spec({"preserve_n": 2}, **section, hold={"recommend_only": True})
    made.step(20)
    assert made.launched == 2
    made.spec = pool_spec({"preserve_n": 2}, **section)
    finish(made)
    assert made.launched == 4


def test_while_nobodys_health_is_known_nobody_goes_and_nothing_is_launched(fleet):
    made = fleet(2)
    change_template(made)
    made.sensors = False
    begin(made)
    made.step(60)
    assert made.launched == 2 and len(made.running) == 2
    made.sensors = True
    finish(made)


def test_a_stopped_one_leaves_both_kinds_and_no_machine_too_many(fleet):
    made = fleet(3)
    change_template(made)
    begin(made)
    until(made, somebody_goes)
    made.step(4)
    made.memory = replace(
        made.memory, rollout=replace(made.memory.rollout, state=RolloutState.STOPPED)
    )
    made.step(30)
    assert len(made.running) == 3 == made.machines
    assert 1 <= len(old_ones(made)) <= 2
    assert made.outcomes[-1].pool_state is PoolState.STABLE
    assert made.outcomes[-1].wanted == 3


def test_the_budget_holds_and_is_named_when_nothing_more_can_be_paid(fleet):
    made = fleet(2, budget=2.0, machine_price=1.0, max_surge=1)
    change_template(made)
    begin(made)
    while made.memory.rollout.active:
        made.step()
        assert made.machines <= 3, "one beyond the budget, as max_surge says"
    assert len(made.running) == 2


# ---------------------------------------------------------------------- size meanwhile


def test_growing_and_shrinking_meanwhile_end_at_the_last_size(fleet, pool_spec):
    made = fleet(3)
    before = set(made.running)
    change_template(made)
    begin(made)
    for n in (5, 2, 4, 1):
        made.spec = pool_spec({"preserve_n": n}, settle_time=SETTLE)
        made.step(7)
    finish(made)
    made.step(10)
    assert len(made.running) == 1 == made.machines
    assert not before & set(made.running)


def test_shrinking_works_while_it_is_paused(fleet, pool_spec):
    made = fleet(4)
    change_template(made)
    made.boot_fails = True
    begin(made)
    made.step(200)
    assert state(made) is RolloutState.PAUSED
    made.spec = pool_spec({"preserve_n": 2}, settle_time=SETTLE)
    made.step(10)
    assert len(made.running) == 2


def test_an_elastic_pool_keeps_its_size_while_its_workers_are_replaced(elastic):
    made = elastic(supply=3, maximum=9, settle_time=SETTLE)
    made.queue = (30, 1)  # between the marks: an engine that steps from what is there
    made.step(3)
    begin(made)
    finish(made)
    made.step(20)
    assert {outcome.wanted for outcome in made.outcomes} == {3}
    assert len(made.running) == 3 == made.machines and not old_ones(made)


def test_what_a_stopped_one_had_beyond_the_size_does_not_become_the_size(elastic):
    made = elastic(supply=3, maximum=9, settle_time=1000)
    made.queue = (30, 1)
    made.step(3)
    begin(made)
    made.step(10)
    assert len(made.running) == 4
    made.memory = replace(
        made.memory, rollout=replace(made.memory.rollout, state=RolloutState.STOPPED)
    )
    made.cycle(apply=False)  # refused: the pool changed meanwhile
    made.version += 1
    made.step(20)
    assert made.outcomes[-1].wanted == 3 and len(made.running) == 3


# ---------------------------------------------------------------------- any history

lenient = hypothesis_settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=25,
    phases=(Phase.explicit, Phase.generate),
)

happening = st.sampled_from(
    ["vanish", "fatal", "silent", "heard", "boot_fails", "boots", "deaf", "hears", "slow",
     "grow", "shrink", "template", "refused", "again", "person"]
)  # fmt: skip


@lenient
@given(
    n=st.integers(1, 5),
    surge=st.integers(0, 2),
    asked=st.sampled_from([None, 0, 1, 3]),
    least=st.integers(0, 2),
    ids=st.integers(0, 2),
    happenings=st.lists(st.tuples(happening, st.integers(0, 9), st.integers(1, 30)), max_size=5),
)
def test_whatever_happens_it_costs_no_worker_and_no_money_and_it_ends(
    world, pool_spec, n, surge, asked, least, ids, happenings
):
    names = {f"u{i}": {"port": str(i)} for i in range(min(ids, n))}
    section = {"settle_time": SETTLE, "max": 6, "max_surge": surge, "min": min(least, n)}
    engine = {"preserve_n": n, "unique_instances": names}
    made = world(engine, **section)
    made.sources = {"here": "1"}
    made.step(10)
    size = n
    refuse = False
    change_template(made)
    begin(made, asked if surge else None)

    def step():
        nonlocal refuse
        running = list(made.running)
        outcome = made.cycle(apply=not refuse)
        if refuse and outcome.batch is not None:
            made.version += 1
        refuse = False
        rollout = made.memory.rollout
        sent = (
            {d.node_id for d in outcome.batch.drains if d.reason.startswith("rollout")}
            if (outcome.batch)
            else set()
        )
        if sent:
            gone = {d.node_id for d in (*outcome.batch.drains, *outcome.batch.terminations)}
            ok = {x for x in running if outcome.health[x].status is HealthStatus.OK}
            promised = section["min"]
            uniques = any(made.instances[x].unique_id for x in sent)
            if rollout.surge(made.spec) > 0 and not uniques:
                promised = outcome.wanted
            assert len(ok - gone) >= promised, sent
        assert made.machines <= 6 + surge
        alive = [
            one.unique_id
            for one in made.instances.values()
            if one.unique_id and one.state in (S.REQUESTED, S.LAUNCHING, S.BOOTING, S.RUNNING)
        ]
        assert len(alive) <= len(set(alive)) + len(made.silent) + len(made.signs)
        made.advance()

    for what, who, cycles in happenings:
        victim = made.running[who % len(made.running)] if made.running else None
        if what == "boot_fails":
            made.boot_fails = True
        elif what == "boots":
            made.boot_fails = False
        elif what == "deaf":
            made.sensors = False
        elif what == "hears":
            made.sensors = True
        elif what == "slow":
            made.drains_take = 15
        elif what == "heard":
            made.silent.clear()
        elif what in ("grow", "shrink"):
            size = min(6, size + 1) if what == "grow" else max(len(names), section["min"], size - 1)
            made.spec = pool_spec({**engine, "preserve_n": size}, **section)
        elif what == "template":
            change_template(made)
        elif what == "refused":
            refuse = True
        elif what == "again":
            begin(made, asked if surge else None)
        elif victim is not None and what == "vanish":
            made.vanish(victim)
        elif victim is not None and what == "fatal":
            made.fail_program(victim)
        elif victim is not None and what == "silent":
            made.silent[victim] = made.now
        elif victim is not None and what == "person":
            made.to(victim, S.TERMINATING, "a person wanted so")
        for _ in range(cycles):
            step()

    # The world heals: then it ends by itself, unless the minimum forbids that anybody goes.
    made.boot_fails, made.sensors, made.drains_take = False, True, 1
    made.silent.clear()
    made.signs = {k: v for k, v in made.signs.items() if made.instances[k].state is not S.RUNNING}
    made.now += 3600  # past every back-off
    for _ in range(700):
        if not made.memory.rollout.active:
            if not old_ones(made):
                break
            begin(made, asked if surge else None)  # the template was changed after its end
        step()
    else:
        rollout = made.memory.rollout
        first = rollout.surge(made.spec) == 0 or names
        assert first and size - 1 < section["min"], rollout
        return
    assert not old_ones(made)
    for _ in range(40):
        step()
    assert len(made.running) == size == made.machines
    assert all(outcome.batch is None for outcome in made.outcomes[-10:]), "and stays there"
