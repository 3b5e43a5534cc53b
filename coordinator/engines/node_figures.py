"""What the heartbeats of a pool's workers say of one figure. PURE."""

from __future__ import annotations

import math
from dataclasses import dataclass

from agent.messages import HealthStatus, InstanceState
from coordinator.engines.base import PoolView, ViewedInstance

#: A beat older than this many heartbeat intervals says nothing of now.
STALE_BEATS = 3


@dataclass(frozen=True, kw_only=True)
class FigureSight:
    """Fresh values by node id, and the supply that gives none: silent, pending, without it.

    Ages count from the measurement: a node's own sensor may measure more seldom than it beats.
    """

    values: dict[str, float]
    missing: tuple[ViewedInstance, ...]
    newest_age: float = math.inf
    oldest_age: float = math.inf


def figure_of(view: PoolView, name: str) -> FigureSight:
    """The figure ``name`` of every running, healthy worker that was heard lately."""
    oldest = STALE_BEATS * view.heartbeat_interval
    values: dict[str, float] = {}
    ages: list[float] = []
    missing: list[ViewedInstance] = []
    for one in view.supply:
        value = one.figures.get(name)
        heard = one.heard_age
        running = one.state is InstanceState.RUNNING and one.health is HealthStatus.OK
        usable = value is not None and math.isfinite(value)
        if running and usable and value is not None and heard is not None and heard <= oldest:
            values[one.node_id] = value
            ages.append(heard + one.figure_ages.get(name, 0.0))
        else:
            missing.append(one)
    return FigureSight(
        values=values,
        missing=tuple(missing),
        newest_age=min(ages, default=math.inf),
        oldest_age=max(ages, default=math.inf),
    )
