"""From the events and decisions of a run to lines over time: nodes, queue, jobs. PURE."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agent.messages import Event

#: What the event says of its node from then on; "" for one that is no longer there.
_NODE_STATES = {
    "new_node": "starting",
    "node_ready": "running",
    "drain_started": "draining",
    "drain_cancelled": "running",
    "node_terminating": "ending",
    "node_ready_failed": "",
    "node_terminated": "",
    "launch_failed": "",
    "launch_rejected": "",
}
#: Readings of a queue that count messages.
_LENGTHS = (".ready", ".unacknowledged")
_SHOWN = ("running", "starting", "draining")

Points = list[tuple[float, float]]
#: Title → name of a line → its points; ``wanted`` ones are dashed.
Panels = dict[str, dict[str, Points]]

NODES, QUEUE, JOBS = "nodes", "jobs in the queue", "jobs"


def panels_of(events: Sequence[Event], decisions: Iterable[Mapping[str, Any]] = ()) -> Panels:
    """The lines. ``events`` in the order of time; a panel without anything to draw is left out.

    ``decisions`` are explanations of the controller: the queue's length at each is in them.
    """
    ordered = list(events)
    end = max((event.time for event in ordered), default=0.0)
    panels = {NODES: _nodes(ordered), QUEUE: _queue(decisions), JOBS: _jobs(ordered)}
    drawn = {title: lines for title, lines in panels.items() if lines}
    for title in (NODES, JOBS):
        for points in drawn.get(title, {}).values():
            if points[-1][0] < end:
                points.append((end, points[-1][1]))
    return drawn


def losses_of(events: Iterable[Event]) -> list[tuple[float, str]]:
    """When a machine was found gone that nobody had ended, and what a mark there says."""
    return [
        (event.time, "node lost")
        for event in events
        if event.name == "node_terminated"
        and event.source == "provisioner"
        and event.reason.startswith("vanished")
    ]


def _nodes(events: Sequence[Event]) -> dict[str, Points]:
    """Counts by pool and state, and what was wanted."""
    states: dict[str, tuple[str, str]] = {}
    counts: dict[tuple[str, str], int] = {}
    lines: dict[str, Points] = {}

    def moved(pool: str, state: str, by: int, at: float) -> None:
        if state not in _SHOWN:
            return
        name, key = f"{pool} {state}", (pool, state)
        if name not in lines:
            lines[name] = [(at, 0.0)]
        counts[key] = counts.get(key, 0) + by
        if lines[name][-1][0] == at:
            lines[name][-1] = (at, float(counts[key]))
        else:
            lines[name].append((at, float(counts[key])))

    for event in events:
        if event.name == "decision" and isinstance(event.extra.get("size"), int | float):
            points = lines.setdefault(f"{event.pool} wanted", [])
            points.append((event.time, float(event.extra["size"])))
        state = _NODE_STATES.get(event.name)
        if state is None or not event.node or event.source != "provisioner":
            continue
        pool, before = states.get(event.node, (event.pool, ""))
        if before != state:
            moved(pool, before, -1, event.time)
            moved(pool, state, +1, event.time)
            states[event.node] = (pool, state)
    return dict(sorted(lines.items()))


def _queue(decisions: Iterable[Mapping[str, Any]]) -> dict[str, Points]:
    lines: dict[str, Points] = {}
    for found in sorted(decisions, key=lambda each: float(each["time"])):
        for name, reading in ((found.get("inputs") or {}).get("readings") or {}).items():
            # Arrivals and departures are rates: on the scale of lengths they would be a lie.
            if (
                name.startswith("queue.")
                and name.endswith(_LENGTHS)
                and isinstance(reading.get("value"), int | float)
            ):
                at = float(found["time"]) - float(reading.get("age") or 0.0)
                points = lines.setdefault(name.removeprefix("queue."), [])
                if not points or at > points[-1][0]:
                    points.append((at, float(reading["value"])))
    return dict(sorted(lines.items()))


def _jobs(events: Sequence[Event]) -> dict[str, Points]:
    """Jobs sent and done so far, and in hand now."""
    counts = {"sent": 0, "in hand": 0, "done": 0}
    lines: dict[str, Points] = {}
    hands: Counter[str] = Counter()

    def count(name: str, by: int, at: float) -> None:
        lines.setdefault(name, [(at, 0.0)])
        counts[name] = max(counts[name] + by, 0)
        lines[name].append((at, float(counts[name])))

    for event in events:
        if event.name == "job_sent":
            count("sent", int(event.extra.get("count") or 1), event.time)
        elif event.name == "job_begin":
            hands[event.node] += 1
            count("in hand", +1, event.time)
        elif event.name == "node_terminated" and hands[event.node] > 0:
            # What a machine took with it is in nobody's hand; another begins it again.
            count("in hand", -hands.pop(event.node), event.time)
        elif event.name == "job_end":
            if hands[event.node] > 0:  # else it was counted when its machine went
                hands[event.node] -= 1
                count("in hand", -1, event.time)
            if event.extra.get("outcome", "done") == "done":
                count("done", +1, event.time)
    return lines
