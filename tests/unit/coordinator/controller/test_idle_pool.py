"""A pool at rest writes nothing, and what was not written is not missed after a restart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from coordinator.controller.pool import PoolMemory, memory_from_dict, memory_to_dict
from coordinator.controller.pool_state import decision_signature, worth_storing

CYCLES = 60


def again(world: Any) -> Any:
    """A cycle that sees the measurement of the last one."""
    world.beats -= 1
    return world.cycle()


def stored_in(world: Any, cycles: int) -> int:
    """How many of the next cycles are stored; machines and measurements move on in each."""
    writes, signature = 0, None
    for number in range(cycles):
        before = world.memory
        # Cycles are woken by hints, too: each third sees the same measurement again.
        outcome = again(world) if number % 3 == 2 else world.cycle()
        now = decision_signature(outcome)
        writes += worth_storing(before, outcome.memory) or (number > 0 and now != signature)
        signature = now
        world.advance()
    return writes


@pytest.mark.parametrize(
    ("supply", "minimum", "section", "queue"),
    [
        (0, 0, {}, (0, 0)),
        (1, 1, {}, (0, 0)),
        (2, 0, {"min": 2}, (0, 0)),
        (5, 0, {}, (1000, 5)),
        (2, 0, {"max": 2}, (1000, 2)),
        (2, 0, {}, (20, 2)),
    ],
    ids=["nobody", "at its minimum", "at the pool's minimum", "at its maximum",
         "at the pool's maximum", "between the marks"],
)  # fmt: skip
def test_a_pool_at_rest_stores_nothing_in_60_cycles(
    elastic: Any, supply: int, minimum: int, section: dict[str, Any], queue: tuple[int, int]
) -> None:
    world = elastic(supply, minimum, **section)
    world.queue = queue
    stored_in(world, 5)
    assert stored_in(world, CYCLES) == 0


def test_a_restart_after_a_step_does_not_step_on_its_measurement_again(elastic: Any) -> None:
    world = elastic(4)
    world.queue = (0, 0)
    before = world.memory
    outcome = world.cycle()
    assert outcome.wanted == 3
    assert outcome.batch is not None or worth_storing(before, outcome.memory)
    stored = memory_from_dict(memory_to_dict(outcome.memory))
    world.memory = stored
    for _ in range(3):
        assert again(world).wanted == 3, "the same measurement"
    assert world.cycle().wanted == 2


def test_a_restart_after_a_step_that_changed_nothing_makes_it_once(elastic: Any) -> None:
    world = elastic(3, min=3)
    world.queue = (0, 0)
    for _ in range(2):
        world.cycle()  # until it is STABLE at its minimum
    stored: PoolMemory = world.cycle().memory
    for _ in range(5):
        outcome = world.cycle()
        assert not worth_storing(stored, outcome.memory)
    world.memory = stored  # all that a restarted controller knows
    world.spec = replace(world.spec, min=0)
    assert [again(world).wanted for _ in range(3)] == [2, 2, 2]


def test_a_restart_does_not_make_one_empty_measurement_two(elastic: Any) -> None:
    world = elastic(1)
    world.queue = (0, 0)
    first = world.cycle()
    assert first.wanted == 1
    world.memory = memory_from_dict(memory_to_dict(first.memory))
    assert again(world).wanted == 1, "the same measurement, seen after a restart"
    stored = world.memory
    world.queue = (1, 0)
    work = world.cycle()
    assert worth_storing(stored, work.memory), "that the queue was empty before must not outlive it"
    world.memory = memory_from_dict(memory_to_dict(work.memory))
    world.queue = (0, 0)
    assert world.cycle().wanted == 1
    assert world.cycle().wanted == 0
