"""Keep a metric at its target, by proportion. PURE.

Two kinds of metric. A *backlog* is shared by all workers: the messages of a queue, ready
and in hand; so many workers are wanted that each has ``target`` of them. A *utilisation*
is a figure of each worker's heartbeat, such as ``cpu_percent``; so many are wanted that
their average is ``target``.

The wanted size is always rounded up: what is added is rounded up by that, what is removed
down. A metric within ``tolerance`` of its target changes nothing. Workers that give no
figure count as idle when the others ask for more and as busy as the target when they ask
for fewer, so that a blind spot alone moves nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from coordinator.engines.base import Decision, PoolView
from coordinator.engines.node_figures import figure_of
from coordinator.engines.queue_sight import emptied_in, kept_size, look, why_the_last_stays

KINDS = ("backlog", "utilisation")


@dataclass(frozen=True, kw_only=True)
class TargetTrackingSettings:
    """``target`` in messages per worker, or in the figure's own unit.

    ``queue`` names the backlog, ``metric`` the figure; which of them is used is
    ``metric_kind``. Raises ValueError for absurd values.
    """

    target: float
    metric_kind: str = "backlog"
    queue: str = ""
    metric: str = ""
    tolerance: float = 0.1

    def __post_init__(self) -> None:
        problems = []
        if self.metric_kind not in KINDS:
            problems.append(f"metric_kind must be one of {', '.join(KINDS)}")
        if not (math.isfinite(self.target) and self.target > 0):
            problems.append(f"target must be above 0, not {self.target:g}")
        if not 0 <= self.tolerance < 1:
            problems.append(f"tolerance must be 0 or more and below 1, not {self.tolerance:g}")
        if self.metric_kind == "backlog" and (not self.queue.strip() or self.metric):
            problems.append("a backlog needs queue, and no metric")
        if self.metric_kind == "utilisation" and (not self.metric.strip() or self.queue):
            problems.append("a utilisation needs metric, and no queue")
        if problems:
            raise ValueError("; ".join(problems))


class TargetTracking:
    """See the module's docstring."""

    Settings = TargetTrackingSettings

    def decide(self, view: PoolView) -> Decision:
        """The size at which the metric meets its target; holds without a fresh metric."""
        settings: TargetTrackingSettings = view.settings
        if settings.metric_kind == "backlog":
            return _by_backlog(view, settings)
        return _by_utilisation(view, settings)


def wanted_for(load: float, target: float, there: int, tolerance: float) -> int:
    """Workers for ``load`` at ``target`` each; ``there`` while it is near enough. PURE."""
    if there > 0 and abs(load / (target * there) - 1) <= tolerance:
        return there
    # 21 / 0.7 is 30.000000000000004: a worker more for nothing.
    return math.ceil(round(load / target, 9))


def _by_backlog(view: PoolView, settings: TargetTrackingSettings) -> Decision:
    sight = look(view, settings.queue)
    emptied = emptied_in(view, sight)
    memory: dict[str, Any] = {"empty_sample": emptied["sample"]} if emptied else {}
    keep = kept_size(view)
    if sight.ready is None or sight.unacknowledged is None:
        why = sight.problem or f"it is not known what is in hand of {settings.queue}"
        return Decision(size=keep, reason=f"hold: {why}", held=True, stable=False, memory=memory)
    there = len(view.supply)
    backlog = sight.ready.value + sight.unacknowledged.value
    wanted = wanted_for(backlog, settings.target, there, settings.tolerance)
    reason = (
        f"{backlog:g} messages in {settings.queue} at {settings.target:g} per worker "
        f"are {wanted} workers"
    )
    if wanted == 0 and there > 0:
        stays = why_the_last_stays(view, sight, emptied)
        if stays:
            wanted, reason = 1, f"{reason}; last stays: {stays}"
    return Decision(size=wanted, reason=reason, stable=wanted == there, memory=memory)


def _by_utilisation(view: PoolView, settings: TargetTrackingSettings) -> Decision:
    figures = figure_of(view, settings.metric)
    there = len(view.supply)
    if not figures.values:
        reason = f"hold: no worker that runs has said its {settings.metric} lately"
        return Decision(size=kept_size(view), reason=reason, held=True, stable=False)
    load = sum(figures.values.values())
    average = load / len(figures.values)
    heard = len(figures.values)
    wanted = wanted_for(load, settings.target, heard, settings.tolerance)
    reason = f"{settings.metric} is {average:.1f} on average, target {settings.target:g}"
    if figures.missing:
        unheard = len(figures.missing)
        if wanted > heard:
            wanted = max(there, wanted_for(load, settings.target, there, settings.tolerance))
            reason += f"; {unheard} without it count as idle"
        elif wanted < heard:
            assumed = load + settings.target * unheard
            wanted = min(there, wanted_for(assumed, settings.target, there, settings.tolerance))
            reason += f"; {unheard} without it count as busy as the target"
        else:
            wanted = there
            reason += f"; {unheard} without it change nothing"
    decision = Decision(size=max(1, wanted), reason=reason)
    return replace(decision, stable=decision.size == there)
