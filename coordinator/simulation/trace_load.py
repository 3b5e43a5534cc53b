"""A load trace: what arrived when and how long it took, or how long a queue was.

Three kinds. ``jobs``: each message with its service time. ``rates``: how many messages
arrived from one time to the next. ``queue``: only how long the queue was; then what the
workers do does not change it, and nobody knows how long anything waited.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from coordinator.simulation.trace_times import Times

#: More messages than this are simulated in groups, each served by one worker in one go.
MOST_JOBS = 400_000


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Rows of a trace in the order of time. ``times`` in epoch seconds.

    ``values``: service times (``jobs``; None where not told), arrivals until the next time
    (``rates``), or messages ready (``queue``, with ``in_hand`` beside). ``services``: mean
    service times of each interval, where the trace tells. ``source`` is for people.
    """

    kind: str
    times: tuple[float, ...]
    values: tuple[float | None, ...]
    in_hand: tuple[float, ...] = ()
    services: tuple[float | None, ...] = ()
    source: str = ""

    @property
    def needs_service(self) -> bool:
        """Whether a service time must come from elsewhere."""
        if self.kind == "jobs":
            return any(value is None for value in self.values)
        return self.kind == "rates" and (
            not self.services or any(one is None for one in self.services)
        )

    @property
    def began(self) -> float:
        return self.times[0]

    @property
    def ends(self) -> float:
        """The end of the last interval, which is as long as the one before it."""
        last = self.times[-1]
        if self.kind == "jobs" or len(self.times) < 2:
            return last + 1.0
        return last + max(1.0, last - self.times[-2])


@dataclass(frozen=True, kw_only=True)
class Load:
    """What the workers of a simulation meet. ``group``: messages that one job stands for."""

    began: float
    ends: float
    arrivals: Sequence[float] = ()
    services: Sequence[float] = ()
    group: int = 1
    queue: Trace | None = None
    mean_service: float | None = field(default=None)

    def queue_at(self, now: float) -> tuple[float, float]:
        """Ready and in hand of a recorded queue, which holds until the next row."""
        assert self.queue is not None
        place = max(0, bisect_right(self.queue.times, now) - 1)
        in_hand = self.queue.in_hand[place] if self.queue.in_hand else 0.0
        return float(self.queue.values[place] or 0.0), in_hand


def load_of(trace: Trace, service: Times | None, random: Random) -> Load:
    """The load that a trace describes; ``service`` is drawn from where the trace is silent.

    Arrivals of an interval are spread over it at random, as those of independent senders.
    """
    if trace.kind == "queue":
        return Load(began=trace.began, ends=trace.ends, queue=trace)
    if trace.kind == "jobs":
        services = [_service(value, service, random) for value in trace.values]
        return _load(trace, list(trace.times), services, 1)
    total = sum(value or 0.0 for value in trace.values)
    group = max(1, -int(-total // MOST_JOBS))
    arrivals: list[float] = []
    services = []
    ends = [*trace.times[1:], trace.ends]
    left = 0.0
    for number, (start, end, value) in enumerate(zip(trace.times, ends, trace.values, strict=True)):
        left += (value or 0.0) / group
        count = int(left + 1e-9)
        left -= count
        arrivals += sorted(start + (end - start) * random.random() for _ in range(count))
        told = trace.services[number] if trace.services else None
        for _ in range(count):
            if told is not None:
                services.append(random.expovariate(1.0 / told) * group if told else 0.0)
            else:
                services.append(_service(None, service, random) * group)
    return _load(trace, arrivals, services, group)


def _load(trace: Trace, arrivals: list[float], services: list[float], group: int) -> Load:
    mean = sum(services) / len(services) / group if services else None
    return Load(
        began=trace.began,
        ends=trace.ends,
        arrivals=arrivals,
        services=services,
        group=group,
        mean_service=mean,
    )


def _service(told: float | None, service: Times | None, random: Random) -> float:
    if told is not None:
        return told
    assert service is not None, "the caller asks needs_service"
    return service.draw(random)
