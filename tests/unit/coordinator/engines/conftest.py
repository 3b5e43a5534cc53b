"""Views for engines, in few words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from agent.messages import HealthStatus, InstanceState
from coordinator.engines.base import Decision, PoolView, ViewedInstance, ViewedReading


@pytest.fixture
def view() -> Callable[..., PoolView]:
    """``view(settings, running=2, pending=1, missing=1, ready=5, unacknowledged=0)``."""

    def build(
        settings: Any,
        *,
        running: int = 0,
        pending: int = 0,
        missing: int = 0,
        busy: Sequence[bool | None] = (),
        figures: Sequence[dict[str, float] | None] = (),
        heard_age: float = 1.0,
        now: float = 0.0,
        rates: tuple[float, float] | None = None,
        ready: float | None = None,
        unacknowledged: float | None = None,
        age: float = 0.0,
        sample: str = "1",
        previous: Decision | None = None,
    ) -> PoolView:
        ok, bad = HealthStatus.OK, HealthStatus.MISSING
        kinds = [(InstanceState.RUNNING, ok)] * running
        kinds += [(InstanceState.REQUESTED, HealthStatus.UNKNOWN)] * pending
        kinds += [(InstanceState.RUNNING, bad)] * missing
        instances = tuple(
            ViewedInstance(
                node_id=f"n{index}",
                state=state,
                health=health,
                busy=busy[index] if index < len(busy) else None,
                figures=(figures[index] or {}) if index < len(figures) else {},
                heard_age=heard_age if index < len(figures) and figures[index] else None,
            )
            for index, (state, health) in enumerate(kinds)
        )
        readings = {}
        for part, value in (("ready", ready), ("unacknowledged", unacknowledged)):
            if value is not None:
                readings[f"queue.jobs.{part}"] = ViewedReading(value=value, age=age, sample=sample)
        for part, value in zip(("arrivals", "departures"), rates or (), strict=False):
            readings[f"queue.jobs.{part}"] = ViewedReading(value=value, age=age, sample=sample)
        return PoolView(
            pool="workers",
            now=now,
            instances=instances,
            readings=readings,
            settings=settings,
            previous=previous,
        )

    return build
