"""Failed boots that are kept for a look, and workers whose machines people booted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.messages import ADOPTED_CLOUD, InstanceState
from coordinator.controller.pool import PoolState
from coordinator.controller.pool_status import pool_status
from coordinator.errors import ConfigProblem

S = InstanceState


def failed(made, age: float) -> str:
    (node,) = made.add(S.BOOT_FAILED, reason="check failed", state_since=made.now - age)
    return node


# ------------------------------------------------------------------ retain_failed


def test_the_last_failed_boots_are_kept_and_older_ones_go(world):
    made = world({"preserve_n": 2}, retain_failed=2)
    old, middle, new = failed(made, 300), failed(made, 200), failed(made, 100)
    made.step(8)
    assert made.ids(S.BOOT_FAILED) == [middle, new]
    assert made.instances[old].state is S.TERMINATED
    assert len(made.running) == 2, "they are in nobody's way"


def test_a_pool_with_failed_boots_kept_for_a_look_is_stable_and_shows_them(world):
    made = world({"preserve_n": 1}, retain_failed=1)
    node = failed(made, 100)
    outcome = made.step(10)
    assert outcome.pool_state is PoolState.STABLE
    status = pool_status({}, 1, made.spec, outcome, made.memory, made.instances, "", made.now)
    shown = {one["node_id"]: one["kept_until"] for one in status["instances"]}
    assert status["kept"] == 1
    assert shown[node] == pytest.approx(made.instances[node].state_since + 3600)


def test_what_was_kept_goes_after_its_time(world):
    made = world({"preserve_n": 1}, retain_failed=3, retain_failed_for=120.0)
    node = failed(made, 100)
    made.step(10)
    assert made.instances[node].state is S.BOOT_FAILED
    made.step(15)
    assert made.instances[node].state is S.TERMINATED


@pytest.mark.parametrize("surge", [0, 1])
def test_work_goes_before_a_look_and_the_cap_holds(world, surge):
    made = world({"preserve_n": 3}, retain_failed=3, max=5, max_surge=surge)
    for age in (300, 200, 100):
        failed(made, age)
    most = 0
    for _ in range(12):
        made.step()
        most = max(most, made.machines)
    assert most <= 5 + surge
    assert len(made.running) == 3 and len(made.ids(S.BOOT_FAILED)) == 2
    made.spec = replace(made.spec, max=3)
    made.step(6)
    assert len(made.running) == 3 and made.ids(S.BOOT_FAILED) == []


def test_every_new_machine_failing_keeps_the_last_and_no_more(world):
    made = world({"preserve_n": 2}, retain_failed=2, changes={"boot_fails": True})
    for _ in range(200):
        made.step()
        assert len(made.ids(S.BOOT_FAILED)) <= 2 + 2
    assert len(made.ids(S.BOOT_FAILED)) >= 2


def test_without_the_setting_nothing_is_kept(world):
    made = world({"preserve_n": 1})
    node = failed(made, 1)
    made.step(4)
    assert made.instances[node].state is S.TERMINATED


@pytest.mark.parametrize("wrong", [{"retain_failed": -1}, {"retain_failed_for": 0}])
def test_an_absurd_wish_is_refused_by_name(pool_spec, wrong):
    with pytest.raises(ConfigProblem, match=next(iter(wrong))):
        pool_spec(None, **wrong)


# ------------------------------------------------------------------ adopted workers


def test_an_adopted_worker_counts_once_it_runs_and_a_launched_one_goes_for_it(world):
    made = world({"preserve_n": 2})
    made.step(6)
    launched = set(made.running)
    (guest,) = made.add(S.BOOTING, cloud=ADOPTED_CLOUD, state_since=made.now)
    outcome = made.cycle()
    assert outcome.batch is None, "while it boots it is in nobody's place"
    assert outcome.counts["supply"] == 2 and outcome.counts["pending"] == 0
    made.to(guest, S.RUNNING)
    made.step(8)
    assert guest in made.running and len(made.running) == 2
    assert len(launched & set(made.running)) == 1


def test_an_adopted_worker_that_is_too_many_goes_like_any_other(world):
    made = world({"preserve_n": 0})
    (guest,) = made.add(S.RUNNING, cloud=ADOPTED_CLOUD)
    made.cycle()
    assert made.instances[guest].state is S.DRAINING


def test_a_busy_launched_worker_stays_when_an_adopted_one_is_idle(world):
    made = world({"preserve_n": 1})
    (own,) = made.add(S.RUNNING)
    (guest,) = made.add(S.RUNNING, cloud=ADOPTED_CLOUD)
    made.signs = {own: {"busy": True}, guest: {"busy": False}}
    made.step(3)
    assert made.running == [own]


def test_an_adopted_machine_that_fails_holds_up_no_launches_and_is_not_kept(world):
    made = world({"preserve_n": 1}, retain_failed=3)
    guests = made.add(S.BOOT_FAILED, 3, cloud=ADOPTED_CLOUD, state_since=made.now)
    made.step(6)
    assert len(made.running) == 1
    assert {made.instances[guest].state for guest in guests} == {S.TERMINATED}
    assert not made.events("backoff")


def test_an_adopted_worker_that_falls_silent_is_replaced_by_a_launched_one(world):
    made = world({"preserve_n": 1})
    (guest,) = made.add(S.RUNNING, cloud=ADOPTED_CLOUD)
    made.step(3)
    made.silent[guest] = made.now - 140.0
    made.step(30)
    assert made.instances[guest].state is S.TERMINATED and len(made.running) == 1
