"""Follow the length of a work queue between two water marks. PURE.

The original's elastic engine (``queuelen``). As in the original, the *queue length* that is
compared with the water marks is the number of messages **ready** in the queue: those that
wait for a worker. Messages that a worker holds (unacknowledged) are work as well, but not
work that a further worker could take; they count where the question is whether any work
*remains* (rule 3), so that the last worker is never taken from an unfinished job.

One step is made per measurement: a cycle that sees the same sample again (cycles are also
woken by hints) does not step again on it. Where the step changed nothing, because minimum,
maximum or a bound of the pool forbade it, it is said again in the same words: an idle pool
says the same in every cycle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from coordinator.engines.base import Decision, PoolView
from coordinator.engines.queue_sight import (
    QueueSight,
    emptied_in,
    kept_size,
    look,
    why_the_last_stays,
)

MOST = 100_000


@dataclass(frozen=True, kw_only=True)
class QueueLengthSettings:
    """Water marks in messages, sizes in workers. Raises ValueError for absurd values."""

    queue: str
    queuelen_high_water: int
    queuelen_low_water: int
    max_instances: int
    min_instances: int = 0
    step: int = 1

    def __post_init__(self) -> None:
        problems = []
        if not self.queue.strip():
            problems.append("queue must name a queue")
        if self.queuelen_low_water < 0:
            problems.append(f"queuelen_low_water must be 0 or more, not {self.queuelen_low_water}")
        if self.queuelen_low_water > self.queuelen_high_water:
            problems.append(
                f"queuelen_low_water ({self.queuelen_low_water}) must not be above "
                f"queuelen_high_water ({self.queuelen_high_water})"
            )
        if self.min_instances < 0:
            problems.append(f"min_instances must be 0 or more, not {self.min_instances}")
        if not 1 <= self.max_instances <= MOST:
            problems.append(f"max_instances must be 1 to {MOST}, not {self.max_instances}")
        if self.min_instances > self.max_instances:
            problems.append(
                f"min_instances ({self.min_instances}) must not be above "
                f"max_instances ({self.max_instances})"
            )
        if not 1 <= self.step <= MOST:
            problems.append(f"step must be 1 to {MOST}, not {self.step}")
        if problems:
            raise ValueError("; ".join(problems))


class QueueLength:
    """See the module's docstring; the rules are numbered as in ``decide``."""

    Settings = QueueLengthSettings

    def decide(self, view: PoolView) -> Decision:
        """One step at most for one measurement of the queue.

        1. more ready than high water: ``step`` more · 2. fewer than low water: one fewer ·
        3. the last worker stays while work remains or might · 4. the minimum holds, and
        with work waiting there is one worker · 5. no step while a worker is pending ·
        6. no or stale reading: hold.
        """
        settings: QueueLengthSettings = view.settings
        sight = look(view, settings.queue)
        emptied = emptied_in(view, sight)
        decision = self._wish(view, settings, sight, emptied)
        memory: dict[str, Any] = {"empty_sample": emptied["sample"]} if emptied else {}
        return _bounded(decision, memory, view, settings)

    def _wish(
        self,
        view: PoolView,
        settings: QueueLengthSettings,
        sight: QueueSight,
        emptied: dict[str, Any],
    ) -> Decision:
        """The wish before minimum and maximum; ``seen`` has the sample of the last step."""
        there = len(view.supply)
        keep = kept_size(view)
        seen = dict(view.previous.seen) if view.previous else {}
        ready = sight.ready
        if ready is None:
            return Decision(
                size=keep, reason=f"hold: {sight.problem}", held=True, stable=False, seen=seen
            )
        waiting = f"{ready.value:g} messages ready in {settings.queue}"
        pending = len(view.pending)
        if there == 0 and ready.value > 0:
            return Decision(
                size=max(1, keep), reason=f"{waiting} and no worker", stable=False, seen=seen
            )
        if pending:
            return Decision(
                size=keep,
                reason=f"{waiting}; no step while {pending} pending",
                stable=False,
                seen=seen,
            )
        if ready.sample and ready.sample == seen.get("stepped_on") and _was_carried_out(view, seen):
            return Decision(
                size=keep, reason=f"{waiting}; waiting for a new measurement", seen=seen
            )
        stepped = {"stepped_on": ready.sample, "stepped_from": there}
        if ready.value > settings.queuelen_high_water:
            return Decision(
                size=max(keep, there + settings.step),
                reason=f"{waiting}, above high water {settings.queuelen_high_water}",
                seen=stepped,
            )
        if ready.value < settings.queuelen_low_water:
            # Workers that were just lost are the shrinking: no replacement, nobody else goes.
            fewer = max(0, min(keep - 1, there))
            reason = f"{waiting}, below low water {settings.queuelen_low_water}"
            if fewer == 0 and there > 0:
                why = why_the_last_stays(view, sight, emptied)
                if why:
                    return Decision(size=1, reason=f"{reason}; last stays: {why}", seen=seen)
            return Decision(size=fewer, reason=reason, seen=stepped)
        marks = f"{settings.queuelen_low_water} to {settings.queuelen_high_water}"
        return Decision(size=keep, reason=f"{waiting}, within {marks}", seen=seen)


def _was_carried_out(view: PoolView, seen: dict[str, Any]) -> bool:
    """Whether the last step may have changed the pool: its size, or the size it is to have."""
    there = len(view.supply)
    return not (
        view.previous is not None and seen.get("stepped_from") == there == view.previous.size
    )


def _bounded(
    decision: Decision, memory: dict[str, Any], view: PoolView, settings: QueueLengthSettings
) -> Decision:
    """The engine's own minimum and maximum, which hold whatever the queue says."""
    size, reason = decision.size, decision.reason
    if size < settings.min_instances:
        size = settings.min_instances
        reason = f"{decision.reason}; min_instances is {settings.min_instances}"
    if size > settings.max_instances:
        size = settings.max_instances
        reason = f"{decision.reason}; max_instances is {settings.max_instances}"
    stable = decision.stable and size == len(view.supply)
    return Decision(
        size=size,
        reason=reason,
        stable=stable,
        held=decision.held,
        memory=memory,
        seen=decision.seen,
    )
