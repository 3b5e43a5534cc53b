"""Defects that simulated histories found, each as small as it can be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agent.messages import InstanceState as S
from coordinator.controller.bounds import payable
from coordinator.controller.kept_pool import by_our_clock
from coordinator.controller.pool import PoolState


def test_a_pool_that_its_min_keeps_above_the_engines_wish_is_stable(world: Any) -> None:
    made = world({"preserve_n": 0}, min=2)
    made.add(S.RUNNING, 2)
    made.step(5)
    assert made.outcomes[-1].pool_state is PoolState.STABLE


def test_a_member_that_wants_fewer_does_not_keep_a_combined_pool_from_being_stable(
    world: Any,
) -> None:
    two, none = ({"type": "n_preserving", "preserve_n": n} for n in (2, 0))
    made = world({"type": "combined", "engines": {"two": two, "none": none}})
    made.add(S.RUNNING, 2)
    made.step(5)
    assert made.outcomes[-1].pool_state is PoolState.STABLE


def test_machines_above_the_budget_bring_no_further_one(world: Any) -> None:
    """Five are paid and one may be beside them; a seventh came for the sixth, and so on."""
    made = world({"preserve_n": 5}, budget=5.0, machine_price=1.0, max=20, max_surge=1)
    made.add(S.RUNNING, 3)
    made.add(S.TERMINATING, 3)
    outcome = made.cycle()
    assert payable(made.spec, outcome.observed.view) == -1
    assert outcome.batch is None or not outcome.batch.launches


def test_who_may_have_begun_to_work_is_not_ended_for_being_too_many(world: Any) -> None:
    made = world({"preserve_n": 1})
    made.add(S.RUNNING, 1)
    (starting,) = made.add(S.BOOTING, 1, start_step="enrolled")
    outcome = made.cycle()
    assert outcome.batch is None
    assert "are starting" in outcome.reason
    made.to(starting, S.RUNNING)
    assert len(made.cycle().batch.drains) == 1


def test_a_machine_that_has_not_enrolled_is_ended_at_once(world: Any) -> None:
    made = world({"preserve_n": 1})
    made.add(S.RUNNING, 1)
    (booting,) = made.add(S.BOOTING, 1)
    assert [one.node_id for one in made.cycle().batch.terminations] == [booting]


def test_times_of_a_provisioner_whose_clock_is_another_are_ages_all_the_same(world: Any) -> None:
    made = world({"preserve_n": 1})
    (node_id,) = made.add(S.RUNNING, 1)
    told = made.instances[node_id]
    shifted = by_our_clock(told, 3600.0)
    assert shifted.state_since == told.state_since + 3600.0
    assert shifted.wanted_at == told.wanted_at + 3600.0
    assert by_our_clock(told, 1.0) is told
    assert replace(shifted, wanted_at=0.0, state_since=0.0) == replace(
        told, wanted_at=0.0, state_since=0.0
    )
