"""A load trace, and boot times, from what a run recorded of one of its pools.

From its stored decisions: at each change of the pool's reasoning, the readings of the queue
that its engine saw. The broker's own rates are those of one second, and a burst is over before
the next decision; so what arrived is worked out from what is left: messages that are there now
and were not there before, and those that were done meanwhile, which are as many each second as
workers do, and so known in between. A message's time is Little's law, seconds in hand by
messages done. Where the broker told no rates the queue's length is all there is. Boot times are
those of its nodes, from ``new_launch`` (or the state LAUNCHING) to ``node_ready``, by the
provisioner's events.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

from agent.wire import MalformedMessage
from coordinator.controller.recording import recorded
from coordinator.engines.base import PoolView
from coordinator.errors import ConfigProblem, Problem
from coordinator.simulation.trace_load import Trace
from coordinator.simulation.trace_times import Times, measured

#: Seconds in which what comes into an empty queue is seen and decided on.
FOLLOWED_WITHIN = 2.0
#: So many messages done tell how long one takes.
ENOUGH = 20.0
_PARTS = ("ready", "unacknowledged", "arrivals", "departures")


def trace_of_recordings(rows: Iterable[Mapping[str, Any]], where: str) -> Trace:
    """The trace in rows of ``PoolRecords.recordings``. Raises ConfigProblem without a queue."""
    seen: dict[float, dict[str, float]] = {}
    for row in rows:
        if row["recording"] is None:
            continue
        try:
            view = recorded(row["recording"]).view
        except MalformedMessage:
            continue
        if found := _readings(view):
            seen[view.now] = found
    times = tuple(sorted(seen))
    if len(times) < 2:
        what = f"{len(times)} of its stored decisions tell of a queue; a trace needs two"
        remedy = "choose a pool whose engine follows a queue, or write a CSV"
        raise ConfigProblem([Problem(where=where, what=what, remedy=remedy)])
    parts = [seen[at] for at in times]
    if any("departures" in one for one in parts):
        return _worked_out(times, parts, where)
    return Trace(
        kind="queue",
        times=times,
        values=tuple(one["ready"] for one in parts),
        in_hand=tuple(one.get("unacknowledged", 0.0) for one in parts),
        source=where,
    )


def boot_times_of(events: Iterable[Mapping[str, Any]], pool: str) -> Times | None:
    """Boot times of a pool's nodes from the provisioner's events; None when none is known."""
    wanted: dict[str, float] = {}
    took = []
    for event in sorted(events, key=lambda one: float(one["time"])):
        if event["pool"] != pool or not event["node"]:
            continue
        node = str(event["node"])
        if event["name"] in ("new_node", "new_launch"):
            wanted.setdefault(node, float(event["time"]))
        elif event["name"] == "node_ready" and node in wanted:
            took.append(float(event["time"]) - wanted.pop(node))
    return measured(took)


def _readings(view: PoolView) -> dict[str, float]:
    """Sums over the pool's queues; nothing when no queue's length is known."""
    found: dict[str, float] = {}
    for name, reading in view.readings.items():
        part = name.rpartition(".")[2]
        usable = math.isfinite(reading.value) and reading.value >= 0
        if name.startswith("queue.") and part in _PARTS and usable:
            found[part] = found.get(part, 0.0) + reading.value
    return found if "ready" in found else {}


def _worked_out(times: Sequence[float], parts: Sequence[Mapping[str, float]], where: str) -> Trace:
    """What arrived and how long it took, from lengths and departures. A queue in which nothing
    has happened yet has no rates.
    """
    spans = [end - start for start, end in pairwise(times)]
    there = [one["ready"] + one.get("unacknowledged", 0.0) for one in parts]
    done = _summed(spans, [one.get("departures", 0.0) for one in parts])
    worked = _summed(spans, [one.get("unacknowledged", 0.0) for one in parts])
    # All that ever came, which never falls, however rough the rates are.
    came = list(accumulate((left + gone for left, gone in zip(there, done, strict=True)), max))
    at, values, services = [times[0]], [there[0]], []
    for place, span in enumerate(spans):
        service = _service(done, worked, place)
        services.append(service)
        more = came[place + 1] - came[place]
        if more > 0 and there[place] == 0 and span > FOLLOWED_WITHIN:
            # A pool decides anew as soon as anything is in an empty queue: it came just now.
            at.append(times[place + 1] - FOLLOWED_WITHIN)
            values.append(0.0)
            services.append(service)
        values[-1] += more
        at.append(times[place + 1])
        values.append(0.0)
    services.append(_service(done, worked, len(spans)))
    return Trace(
        kind="rates",
        times=tuple(at),
        values=tuple(values),
        services=tuple(services),
        source=where,
    )


def _summed(spans: Sequence[float], rates: Sequence[float]) -> list[float]:
    """The sum of a rate up to each time, as if it changed evenly between two."""
    pieces = ((a + b) / 2 * span for (a, b), span in zip(pairwise(rates), spans, strict=True))
    return list(accumulate(pieces, initial=0.0))


def _service(done: Sequence[float], worked: Sequence[float], place: int) -> float | None:
    """Seconds of a message about ``place``: over as many decisions as tell of enough messages."""
    last = len(done) - 1
    for around in range(1, last + 2):
        low, high = max(0, place - around), min(last, place + around)
        enough = done[high] - done[low] >= ENOUGH or (low, high) == (0, last)
        if enough and done[high] > done[low] and worked[high] > worked[low]:
            return (worked[high] - worked[low]) / (done[high] - done[low])
    return None
