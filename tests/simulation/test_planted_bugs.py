"""The test of the test: bugs that are planted on purpose are found within 200 seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from coordinator.controller import bounds, decision, health
from coordinator.engines import node_figures, queue_sight, time_to_drain
from coordinator.simulation.living import Outcome, live, live_seed
from coordinator.simulation.minimise import minimised
from coordinator.simulation.world import World

SEEDS = 200


def first_found(known: int, of: Callable[[Outcome], bool] = lambda outcome: True) -> Outcome:
    """A history that finds it: the first that did when this was written, or any of the 200."""
    for seed in (known, *range(SEEDS)):
        outcome = live_seed(seed)
        if outcome.broken and of(outcome):
            return outcome
    pytest.fail(f"not found within {SEEDS} seeds")


def drop_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clouds that take each launch call for a new one."""
    original = World.__init__

    def without(self: World, *args: Any, **options: Any) -> None:
        original(self, *args, **options)
        for cloud in self.clouds.values():
            cloud.misbehave(honours_launch_id=False)

    monkeypatch.setattr(World, "__init__", without)


def test_a_dropped_idempotency_token_is_found_and_cut_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drop_the_token(monkeypatch)
    found = first_found(31, lambda outcome: "I4" in outcome.kinds)
    smallest = minimised(found, tries=15)
    assert "I4" in smallest.kinds
    assert len(smallest.history.happenings) <= len(found.history.happenings)
    assert "made" in "\n".join(smallest.lines) and live(smallest.history).digest == smallest.digest


def test_silence_that_is_believed_while_blind_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    sight = health.sight_of

    def believes_everything(report: Any) -> Any:
        seen = sight(report)
        return replace(seen, blind=False, observing_age=1e9)

    monkeypatch.setattr("coordinator.controller.view.sight_of", believes_everything)
    assert "blindness" in first_found(35, lambda one: "blindness" in one.kinds).kinds


def test_an_off_by_one_in_the_floor_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def one_short(size: int, wish: Any, limits: bounds.Limits) -> bounds.Verdict:
        if size < limits.least - 1:
            return bounds.Verdict(limits.least - 1, "min, nearly")
        return bounds.Verdict(size)

    changed = tuple((name, one_short if name == "min" else one) for name, one in bounds.BOUNDS)
    monkeypatch.setattr(decision, "BOUNDS", changed)
    of = {"bounds", "I10"}
    assert first_found(1, lambda one: bool(one.kinds & of)).kinds & of


def test_staleness_that_is_ignored_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines that believe readings of any age: the simulator knows when each was taken."""
    for module, limit in (
        (queue_sight, "STALE_POLLS"),
        (time_to_drain, "STALE_POLLS"),
        (node_figures, "STALE_BEATS"),
    ):
        monkeypatch.setattr(module, limit, 10**9)
    assert "staleness" in first_found(112, lambda one: "staleness" in one.kinds).kinds
