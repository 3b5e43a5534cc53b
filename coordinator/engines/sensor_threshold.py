"""Steps by what the workers' heartbeats say. PURE.

One figure of every worker that was heard lately is summed up by ``function``; above one
threshold the pool grows by a step, below the other it shrinks by one. A silent worker is
missing, never zero. A step waits until every worker has beaten anew since the last one, and
while a worker is pending: what the last step changed must be seen before the next.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from types import MappingProxyType

from coordinator.engines.base import Decision, PoolView
from coordinator.engines.node_figures import FigureSight, figure_of
from coordinator.engines.queue_sight import kept_size

FUNCTIONS: Mapping[str, Callable[[Iterable[float]], float]] = MappingProxyType(
    {"average": fmean, "sum": math.fsum, "min": min, "max": max}
)


@dataclass(frozen=True, kw_only=True)
class SensorThresholdSettings:
    """Thresholds in the figure's own unit, steps in workers. ValueError for absurd values."""

    metric: str
    scale_up_threshold: float
    scale_down_threshold: float
    function: str = "average"
    scale_up_by: int = 1
    scale_down_by: int = 1

    def __post_init__(self) -> None:
        problems = []
        if not self.metric.strip():
            problems.append("metric must name a figure of the heartbeats")
        if self.function not in FUNCTIONS:
            problems.append(f"function must be one of {', '.join(FUNCTIONS)}")
        bounds = (self.scale_up_threshold, self.scale_down_threshold)
        if not all(math.isfinite(bound) for bound in bounds):
            problems.append("thresholds must be numbers")
        elif self.scale_down_threshold >= self.scale_up_threshold:
            problems.append(
                f"scale_down_threshold ({self.scale_down_threshold:g}) must be below "
                f"scale_up_threshold ({self.scale_up_threshold:g})"
            )
        for name in ("scale_up_by", "scale_down_by"):
            if not 1 <= getattr(self, name) <= 100_000:
                problems.append(f"{name} must be 1 to 100000, not {getattr(self, name)}")
        if problems:
            raise ValueError("; ".join(problems))


class SensorThreshold:
    """See the module's docstring."""

    Settings = SensorThresholdSettings

    def decide(self, view: PoolView) -> Decision:
        """One step at most for one round of heartbeats; holds without any."""
        settings: SensorThresholdSettings = view.settings
        figures = figure_of(view, settings.metric)
        keep, there = kept_size(view), len(view.supply)
        last = _last_step(view)
        memory = last.memory
        if not figures.values:
            reason = f"hold: no worker that runs has said its {settings.metric} lately"
            return Decision(size=keep, reason=reason, held=True, stable=False, memory=memory)
        value = FUNCTIONS[settings.function](figures.values.values())
        said = f"{settings.function} {settings.metric} is {value:.4g}"
        if figures.missing:
            said += f" ({len(figures.missing)} workers don't say)"
        step, why = _step(settings, value)
        if step == 0:
            return Decision(size=keep, reason=f"{said}, {why}", memory=memory)
        waits = _waits(view, figures, None if last.undone else last.at)
        if waits:
            reason = f"{said}, {why}; {waits}"
            return Decision(size=keep, reason=reason, stable=False, memory=memory)
        # The last stays whatever it says: without a worker there is no figure any more.
        size = max(keep, there + step) if step > 0 else max(1, min(keep, there) + step)
        if size == keep:
            return Decision(size=keep, reason=f"{said}, {why}; the last stays", memory=memory)
        if not last.undone:  # the same wish again must be the same memory again
            memory = {"stepped_at": view.now, "stepped_from": keep}
        return Decision(size=size, reason=f"{said}, {why}", stable=False, memory=memory)


@dataclass(frozen=True)
class _LastStep:
    """When the last step was made; ``undone``: a bound of the pool forbade it until now.

    A step that is undone is wished again in every cycle, as if it were the first time: were
    the size kept in between, ``stabilization_window`` would find a higher wish for ever.
    """

    at: float | None = None
    undone: bool = False
    memory: dict[str, float] = field(default_factory=dict)


def _last_step(view: PoolView) -> _LastStep:
    remembered = view.previous.memory if view.previous else {}
    at, origin = remembered.get("stepped_at"), remembered.get("stepped_from")
    if not isinstance(at, int | float) or view.previous is None:
        return _LastStep()
    if not isinstance(origin, int | float):
        return _LastStep(float(at), False, {"stepped_at": float(at)})
    if view.previous.size == origin:
        memory = {"stepped_at": float(at), "stepped_from": origin}
        return _LastStep(float(at), True, memory)
    return _LastStep(view.now, False, {"stepped_at": view.now})  # done since the last cycle


def _step(settings: SensorThresholdSettings, value: float) -> tuple[int, str]:
    if value > settings.scale_up_threshold:
        return settings.scale_up_by, f"above {settings.scale_up_threshold:g}"
    if value < settings.scale_down_threshold:
        return -settings.scale_down_by, f"below {settings.scale_down_threshold:g}"
    low, high = settings.scale_down_threshold, settings.scale_up_threshold
    return 0, f"within {low:g} to {high:g}"


def _waits(view: PoolView, figures: FigureSight, stepped_at: float | None) -> str:
    if view.pending:
        return f"no step while {len(view.pending)} pending"
    if stepped_at is not None and view.now - figures.oldest_age <= stepped_at:
        return "waiting for new heartbeats since the last step"
    return ""
