"""What an engine may believe of its queue, and when the last worker may go. PURE.

Shared by every engine that follows a queue, so that they all are equally careful: nobody
decides on a reading that is old, and the last worker is never taken from unfinished work.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from agent.messages import InstanceState
from coordinator.engines.base import UNHEALTHY, PoolView, ViewedReading

#: A reading older than this many polls is no reading.
STALE_POLLS = 3


@dataclass(frozen=True, kw_only=True)
class QueueSight:
    """The two readings of the queue, or why there is none. ``unacknowledged`` may be None."""

    ready: ViewedReading | None
    unacknowledged: ViewedReading | None
    problem: str = ""

    @property
    def is_empty(self) -> bool:
        """Both numbers are known and both are 0."""
        return (
            self.ready is not None
            and self.unacknowledged is not None
            and self.ready.value == 0
            and self.unacknowledged.value == 0
        )


def look(view: PoolView, queue: str) -> QueueSight:
    """The readings of ``queue`` that may be believed now."""
    oldest = STALE_POLLS * view.poll_interval
    found: dict[str, ViewedReading | None] = {}
    problem = ""
    for part in ("unacknowledged", "ready"):
        reading = view.readings.get(f"queue.{queue}.{part}")
        if reading is None:
            found[part], problem = None, f"no reading of {queue}"
        elif not (math.isfinite(reading.value) and reading.value >= 0):
            found[part], problem = None, f"the reading of {queue} is {reading.value}"
        elif not reading.age <= oldest:
            found[part] = None
            problem = f"the reading of {queue} is {reading.age:.0f} s old (limit {oldest:g} s)"
        else:
            found[part] = reading
    return QueueSight(ready=found["ready"], unacknowledged=found["unacknowledged"], problem=problem)


def emptied_in(view: PoolView, sight: QueueSight) -> dict[str, Any]:
    """What is known of 0/0: ``sample`` of the first such reading, ``twice`` if seen again.

    Both numbers must have been measured anew for the second one to count. Empty when the
    queue is not known to be empty now, or nobody is there who could be the last.
    """
    if not view.supply or not sight.is_empty or sight.ready is None or sight.unacknowledged is None:
        return {}
    now = [sight.ready.sample, sight.unacknowledged.sample]
    first = view.previous.memory.get("empty_sample") if view.previous else None
    if not isinstance(first, list) or len(first) != 2:
        return {"sample": now, "twice": False}
    twice = all(new and new != old for new, old in zip(now, first, strict=True))
    return {"sample": first, "twice": twice}


def kept_size(view: PoolView) -> int:
    """The size that changes nothing: what was wanted, and never fewer than there are.

    Workers that were lost since count, so keeping the size replaces them.
    """
    there = len(view.supply)
    if view.previous is not None:
        return max(view.previous.size, there)
    lost = sum(
        1
        for instance in view.instances
        if instance.state is InstanceState.RUNNING and instance.health in UNHEALTHY
    )
    return there + lost


def why_the_last_stays(view: PoolView, sight: QueueSight, emptied: dict[str, Any]) -> str:
    """Rule 3 in words; empty when the last worker may go."""
    if sight.ready is not None and sight.ready.value > 0:
        return "messages are ready"
    if sight.unacknowledged is None:
        return "it is not known whether messages are unacknowledged"
    if sight.unacknowledged.value > 0:
        return f"{sight.unacknowledged.value:g} messages are unacknowledged"
    busy = [instance.node_id for instance in view.supply if instance.busy]
    if busy:
        return f"{busy[0]} says it is busy"
    for instance in view.supply:
        if instance.busy_problem:
            return f"whether {instance.node_id} is busy is not known: {instance.busy_problem}"
    if not emptied.get("twice"):
        return "the queue was seen empty in one measurement only"
    return ""
