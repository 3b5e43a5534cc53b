"""The bounds between an engine's wish and a pool's size, one by one and together."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.messages import InstanceState as S
from coordinator.controller.bounds import wishes_after
from coordinator.controller.pool import PoolState
from coordinator.errors import ConfigProblem
from coordinator.pool_spec import parse_pool
from coordinator.pool_values import ScheduleEntry


@pytest.fixture
def keeps(world):
    """``keeps(5, max_step_up=2)``: a pool with 5 running workers that keeps 5."""

    def build(there, **section):
        made = world({"preserve_n": there}, **section)
        made.add(S.RUNNING, there)
        made.cycle()
        return made

    return build


def wants(world, size):
    world.spec = replace(
        world.spec, engine_settings=replace(world.spec.engine_settings, preserve_n=size)
    )
    return world.cycle()


def rules(world, **changes):
    world.spec = replace(world.spec, rules=replace(world.spec.rules, **changes))


def test_a_size_moves_by_the_largest_step_in_one_decision(keeps):
    made = keeps(5, max_step_up=2, max_step_down=3)
    outcome = wants(made, 20)
    assert outcome.wanted == 7
    assert "max_step_up is 2" in outcome.decision.reason
    made.step(9)
    assert wants(made, 0).wanted == 17


def test_growth_waits_for_its_cooldown_and_shrinking_does_not(keeps):
    made = keeps(5, cooldown_up=60)
    assert wants(made, 6).wanted == 6
    made.step(3)
    held = wants(made, 9)
    assert held.wanted == 6
    assert any("cooldown_up has 57 s left" in why for why in held.explanation()["why_not_more"])
    assert wants(made, 4).wanted == 4
    made.now += 60
    assert wants(made, 9).wanted == 9


def test_shrinking_waits_after_a_change_either_way(keeps):
    made = keeps(5, cooldown_down=60)
    assert wants(made, 6).wanted == 6
    made.step(3)
    assert wants(made, 3).wanted == 6
    made.now += 58
    assert wants(made, 5).wanted == 5
    made.now += 58
    assert wants(made, 4).wanted == 5
    made.now += 3
    assert wants(made, 4).wanted == 4


def test_a_lost_worker_is_replaced_whatever_steps_and_cooldowns_say(keeps):
    made = keeps(5, cooldown_up=600, cooldown_down=600, max_step_up=1)
    wants(made, 6)
    made.step(4)
    for node in made.running[:3]:
        made.vanish(node)
    before = made.launched
    made.cycle()
    assert made.launched - before == 3


def test_cooldowns_survive_a_restart_of_the_controller(keeps):
    made = keeps(5, cooldown_up=60)
    wants(made, 6)  # the world stores and reads the memory back after every cycle
    made.now += 59
    assert wants(made, 9).wanted == 6


def test_scale_in_goes_to_the_highest_wish_of_the_window(keeps):
    made = keeps(9, stabilization_window=100)
    made.now += 30
    assert wants(made, 7).wanted == 9
    made.now += 60
    assert wants(made, 2).wanted == 9
    made.now += 30  # 9 was wished 120 s ago
    assert wants(made, 2).wanted == 7
    made.now += 120
    assert wants(made, 2).wanted == 2


def test_a_clock_that_jumps_back_holds_no_size_for_an_hour(keeps):
    """A restart after the jump: what was stored is in the future (simulated history 2439)."""
    made = keeps(9, cooldown_down=60, cooldown_up=60, stabilization_window=100)
    assert wants(made, 12).wanted == 12
    made.step(3)
    made.now -= 3600
    assert wants(made, 8).wanted == 8
    made.now -= 3600
    assert wants(made, 9).wanted == 9


def test_a_cooldown_that_a_person_makes_shorter_is_over_sooner(keeps):
    made = keeps(5, cooldown_down=3600)
    assert wants(made, 6).wanted == 6
    made.step(1)
    assert wants(made, 3).wanted == 6
    rules(made, cooldown_down=5)
    assert wants(made, 3).wanted == 3


def test_growth_does_not_wait_for_the_window(keeps):
    made = keeps(3, stabilization_window=100)
    assert wants(made, 8).wanted == 8


@given(
    wishes=st.lists(st.tuples(st.floats(0, 50), st.integers(0, 20)), min_size=1, max_size=40),
    window=st.floats(1, 1000),
)
def test_the_remembered_wishes_keep_the_highest_of_the_window(wishes, window):
    now, kept, all_of_them = 1e6, (), []
    for pause, size in wishes:
        now += pause
        kept = wishes_after(kept, window, size, now)
        all_of_them.append((now, size))
        highest = max(size for at, size in all_of_them if at > now - window)
        longer = max(size for at, size in all_of_them if at > now - 1.1 * window - 1e-3)
        found = max(size for at, size in kept if at > now - window)
        assert highest <= found <= longer
        assert len(kept) <= 21


def test_an_override_is_the_size_until_it_expires(keeps):
    made = keeps(3, max=10, cooldown_up=600)
    section = {"override": {"size": 8, "until": made.now + 60, "reason": "launch day"}}
    rules(made, override=parse_pool("p", section).rules.override)
    outcome = made.cycle()
    assert outcome.wanted == 8
    assert "launch day" in outcome.decision.reason
    made.now += 60
    assert made.cycle().wanted == 3


def test_an_override_stays_within_min_and_max(keeps):
    made = keeps(3, max=10)
    rules(made, override=parse_pool("p", {"override": {"size": 99, "until": 1e10}}).rules.override)
    assert made.cycle().wanted == 10


def test_a_schedule_has_bounds_of_its_own(keeps):
    made = keeps(3, min=1, max=10)
    made.scheduled = ScheduleEntry(cron="0 8 * * *", duration=3600, min=20)
    outcome = made.cycle()
    assert outcome.wanted == 20
    assert "by schedule (0 8 * * *)" in outcome.decision.reason
    made.scheduled = ScheduleEntry(cron="0 8 * * *", duration=3600, max=2)
    assert made.cycle().wanted == 2


def test_a_budget_pays_no_more_than_it_says(keeps):
    made = keeps(2, budget=1.0, machine_price=0.25)
    outcome = wants(made, 9)
    assert outcome.wanted == 4
    assert "budget of 1 $/h pays 4" in outcome.decision.reason


def test_a_budget_counts_what_machines_really_cost_and_those_on_their_way_out(keeps):
    made = keeps(0, budget=1.0, machine_price=0.25, max_surge=0)
    made.add(S.RUNNING, 2, price=0.1)
    made.add(S.DRAINING, 1, price=0.5)
    # 0.2 for those that stay leave room for three more, once the 0.5 are gone.
    assert wants(made, 9).wanted == 5
    assert made.launched == 1


def test_a_budget_that_was_cut_lets_workers_go(keeps):
    made = keeps(4, budget=1.0, machine_price=0.25)
    rules(made, budget=0.5)
    assert made.cycle().wanted == 2


def test_replacement_may_cost_more_by_the_surge_only(keeps):
    made = keeps(4, budget=1.0, machine_price=0.25, max_surge=1)
    for node in made.running[:2]:
        made.to(node, S.TERMINATING)  # still there, still paid
    made.cycle()
    assert made.launched == 1


def test_what_is_suspended_is_not_done(keeps):
    made = keeps(4)
    section = {"hold": {"suspend": ["scale_in", "scale_out"], "reason": "audit"}}
    rules(made, hold=parse_pool("p", section).rules.hold)
    up = wants(made, 9)
    assert (up.wanted, made.launched) == (4, 0)
    assert "scale_out is suspended: audit" in up.decision.reason
    assert wants(made, 1).wanted == 4
    made.vanish(made.running[0])
    made.cycle()
    assert made.launched == 1  # replacing is not suspended


def test_with_replacing_suspended_the_lost_stay_lost_and_load_is_followed(keeps):
    made = keeps(4)
    rules(made, hold=parse_pool("p", {"hold": {"suspend": ["replace"]}}).rules.hold)
    made.vanish(made.running[0])
    made.fail_program(made.running[1])
    outcome = made.cycle()
    assert made.launched == 0
    assert not outcome.batch
    assert "replace is suspended" in outcome.sentence
    wants(made, 6)
    assert made.launched == 2


def test_recommend_only_says_what_it_would_do_and_does_nothing(keeps):
    made = keeps(4)
    rules(made, hold=parse_pool("p", {"hold": {"recommend_only": True}}).rules.hold)
    made.vanish(made.running[0])
    outcome = wants(made, 7)
    assert outcome.batch is None
    assert outcome.pool_state is PoolState.HELD
    assert "only recommends: launched 4" in outcome.sentence
    rules(made, hold=None)
    assert wants(made, 7).batch.launches[0].count == 4


RULES = st.fixed_dictionaries(
    {},
    optional={
        "max_step_up": st.integers(0, 5),
        "max_step_down": st.integers(0, 5),
        "cooldown_up": st.just(0.0) | st.floats(1, 20),
        "cooldown_down": st.just(0.0) | st.floats(1, 20),
        "stabilization_window": st.just(0.0) | st.floats(1, 30),
    },
)


@settings(max_examples=60, deadline=None)
@given(
    section=RULES,
    low=st.integers(0, 5),
    room=st.integers(0, 10),
    budget=st.none() | st.floats(1, 10),
    wishes=st.lists(st.integers(0, 30), min_size=1, max_size=25),
)
def test_bounds_are_never_broken_whatever_is_wished(section, low, room, budget, wishes, make_world):
    extra = {} if budget is None else {"budget": budget, "machine_price": 1.0}
    made = make_world({"preserve_n": 0}, min=low, max=low + room, **section, **extra)
    for wish in wishes:
        outcome = wants(made, wish)
        made.advance()
        assert outcome.wanted <= low + room
        assert outcome.wanted >= low or (budget is not None and outcome.wanted <= budget)
        assert made.machines <= low + room + made.spec.max_surge
        if budget is not None:
            assert made.machines <= budget + made.spec.max_surge
    settled = min(max(wishes[-1], low), low + room)
    if budget is not None:
        settled = min(settled, int(budget + 1e-9))
    for _ in range(200):  # a constant wish settles, whatever the rules, and stays so
        if outcome.wanted == settled == len(made.running):
            break
        outcome = wants(made, wishes[-1])
        made.advance()
    for _ in range(20):
        assert outcome.wanted == settled == len(made.running)
        outcome = wants(made, wishes[-1])
        made.advance()


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"max_step_up": -1}, "max_step_up"),
        ({"cooldown_down": 1e9}, "cooldown_down"),
        ({"budget": 1}, "machine_price"),
        ({"budget": 0, "machine_price": 1}, "budget"),
        ({"override": {"size": -1, "until": 1}}, "size"),
        ({"override": {"size": 1}}, "until"),
        ({"hold": {"suspend": ["scale"]}}, "suspend"),
        ({"cooldown_upp": 3}, "cooldown_up"),
    ],
)
def test_absurd_rules_are_refused_by_name(section, key):
    with pytest.raises(ConfigProblem, match=key):
        parse_pool("p", section)
