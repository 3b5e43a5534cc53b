"""A load trace, and boot times, from what a run recorded of one of its pools.

From its stored decisions: at each change of the pool's reasoning, the readings of the queue
that its engine saw, between two of them as if the first had gone on. Where the broker told
rates, what arrived is the rate times the time until the next decision, and a message's
service time is Little's law, messages in hand by messages done each second; else the queue's
length is all there is. Boot times are those of its nodes, from ``new_launch`` (or the state
LAUNCHING) to ``node_ready``, by the provisioner's events.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agent.wire import MalformedMessage
from coordinator.controller.recording import recorded
from coordinator.engines.base import PoolView
from coordinator.errors import ConfigProblem, Problem
from coordinator.simulation.trace_load import Trace
from coordinator.simulation.trace_times import Times, measured

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
    if all("arrivals" in one for one in parts):
        until = [*times[1:], times[-1] + max(1.0, times[-1] - times[-2])]
        spans = [end - start for start, end in zip(times, until, strict=True)]
        arrivals = [one["arrivals"] * span for one, span in zip(parts, spans, strict=True)]
        arrivals[0] += parts[0]["ready"]
        return Trace(
            kind="rates",
            times=times,
            values=tuple(arrivals),
            services=_services(parts),
            source=where,
        )
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


def _services(parts: Sequence[Mapping[str, float]]) -> tuple[float | None, ...]:
    """Service times by Little's law; where nothing was done, the last one known."""
    known = [
        one["unacknowledged"] / one["departures"]
        if one.get("departures") and one.get("unacknowledged")
        else None
        for one in parts
    ]
    last = next((one for one in known if one is not None), None)
    services = []
    for one in known:
        last = one if one is not None else last
        services.append(last)
    return tuple(services)
