"""As many workers as clear the backlog in time. PURE.

``workers = backlog x service_time / T + arrival_rate x service_time``, where T is
``drain_time``, less ``boot_time`` when workers have to be added first. Service time and
arrival rate are measured: the queue's own rates give what arrives each second, and by
Little's law the messages in hand divided by the rate at which they are done are the time
that one takes. A setting overrules the measured service time. Where nothing was measured
(nothing was done lately) the backlog per worker decides, and the reason says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from coordinator.engines.base import Decision, PoolView
from coordinator.engines.queue_sight import (
    STALE_POLLS,
    QueueSight,
    emptied_in,
    kept_size,
    look,
    why_the_last_stays,
)


@dataclass(frozen=True, kw_only=True)
class TimeToDrainSettings:
    """Times in seconds. ``messages_per_worker`` is the backlog that one worker is given while
    nothing is measured. Raises ValueError for absurd values.
    """

    queue: str
    drain_time: float
    boot_time: float = 0.0
    service_time: float | None = None
    messages_per_worker: float = 10.0

    def __post_init__(self) -> None:
        problems = []
        if not self.queue.strip():
            problems.append("queue must name a queue")
        if not (math.isfinite(self.drain_time) and self.drain_time > 0):
            problems.append(f"drain_time must be above 0 s, not {self.drain_time:g}")
        if not 0 <= self.boot_time < self.drain_time:
            problems.append(
                f"boot_time must be 0 s or more and below drain_time, not {self.boot_time:g}"
            )
        if self.service_time is not None and not 0 < self.service_time < math.inf:
            problems.append(f"service_time must be above 0 s, not {self.service_time:g}")
        if not 0 < self.messages_per_worker < math.inf:
            problems.append("messages_per_worker must be above 0")
        if problems:
            raise ValueError("; ".join(problems))


@dataclass(frozen=True)
class _Measured:
    """What the queue's rates say: seconds per message, messages per second."""

    service_time: float | None
    arrival_rate: float


class TimeToDrain:
    """See the module's docstring."""

    Settings = TimeToDrainSettings

    def decide(self, view: PoolView) -> Decision:
        """The size that clears the queue within ``drain_time``; holds without a reading."""
        settings: TimeToDrainSettings = view.settings
        sight = look(view, settings.queue)
        emptied = emptied_in(view, sight)
        remembered = dict(view.previous.memory) if view.previous else {}
        memory: dict[str, Any] = {"empty_sample": emptied["sample"]} if emptied else {}
        if "service_time" in remembered:
            memory["service_time"] = remembered["service_time"]
        if sight.ready is None or sight.unacknowledged is None:
            why = sight.problem or f"it is not known what is in hand of {settings.queue}"
            return Decision(
                size=kept_size(view), reason=f"hold: {why}", held=True, stable=False, memory=memory
            )
        backlog = sight.ready.value + sight.unacknowledged.value
        measured = _measured(view, settings, sight, remembered)
        if measured.service_time is None:
            wanted = math.ceil(round(backlog / settings.messages_per_worker, 9))
            reason = (
                f"{backlog:g} messages in {settings.queue}; nothing measured yet, so "
                f"{settings.messages_per_worker:g} per worker: {wanted} workers"
            )
        else:
            memory["service_time"] = measured.service_time
            wanted, reason = _for_backlog(view, settings, backlog, measured)
        there = len(view.supply)
        if wanted == 0 and there > 0:
            stays = why_the_last_stays(view, sight, emptied)
            if stays:
                wanted, reason = 1, f"{reason}; last stays: {stays}"
        elif wanted == 0 and backlog > 0:
            wanted = 1
        return Decision(size=wanted, reason=reason, stable=wanted == there, memory=memory)


def _for_backlog(
    view: PoolView, settings: TimeToDrainSettings, backlog: float, measured: _Measured
) -> tuple[int, str]:
    assert measured.service_time is not None
    service, there = measured.service_time, len(view.supply)
    steady = measured.arrival_rate * service
    wanted = math.ceil(round(backlog * service / settings.drain_time + steady, 9))
    left = settings.drain_time
    if wanted > there and settings.boot_time:
        left -= settings.boot_time
        wanted = max(there, math.ceil(round(backlog * service / left + steady, 9)))
    reason = (
        f"{backlog:g} messages of {service:.3g} s each in {left:g} s, and "
        f"{measured.arrival_rate:.3g} more each second, are {wanted} workers"
    )
    return wanted, reason


def _measured(
    view: PoolView,
    settings: TimeToDrainSettings,
    sight: QueueSight,
    remembered: dict[str, Any],
) -> _Measured:
    """Rates of the queue where they are fresh; the last known service time else."""
    arrivals = _rate(view, settings.queue, "arrivals")
    done = _rate(view, settings.queue, "departures")
    service = settings.service_time
    if service is None and done and sight.unacknowledged and sight.unacknowledged.value > 0:
        service = sight.unacknowledged.value / done
    if service is None:
        known = remembered.get("service_time")
        service = float(known) if isinstance(known, int | float) and known > 0 else None
    return _Measured(service_time=service, arrival_rate=arrivals or 0.0)


def _rate(view: PoolView, queue: str, part: str) -> float | None:
    reading = view.readings.get(f"queue.{queue}.{part}")
    if reading is None or reading.age > STALE_POLLS * view.poll_interval:
        return None
    return reading.value if math.isfinite(reading.value) and reading.value >= 0 else None
