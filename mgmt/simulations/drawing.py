"""The panels of a simulation: nodes and queue over time, by policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from coordinator.simulation.policy_run import Point, PolicyRun
from mgmt.graph import Panel, Series

#: Points of a line in a picture: more than pixels show nothing more.
MOST_POINTS = 1500

_Value = Callable[[Point], float]


def panels_of(runs: dict[str, PolicyRun], whole: bool) -> list[Panel]:
    """Nodes, and messages ready. ``whole``: every point, for files that programs read."""

    def line(name: str, run: PolicyRun, value: _Value, dashed: bool = False) -> Series:
        points = [(point.at, float(value(point))) for point in run.points]
        return Series(name, points if whole else thinned(points), dashed=dashed)

    nodes: list[Series] = []
    for name, run in runs.items():
        if len(runs) == 1:
            nodes.append(line("wanted", run, lambda point: point.wanted, dashed=True))
            nodes.append(line("running", run, lambda point: point.running))
            nodes.append(line("booting", run, lambda point: point.booting))
        else:
            nodes.append(line(name, run, lambda point: point.running))
    queue = [
        line("ready" if len(runs) == 1 else name, run, lambda point: point.ready)
        for name, run in runs.items()
    ]
    title = "nodes" if len(runs) == 1 else "nodes running"
    return [Panel(title, nodes), Panel("messages ready", queue)]


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most about ``MOST_POINTS`` of them, the highest of each piece of time among them."""
    if len(points) <= MOST_POINTS:
        return list(points)
    began, ends = points[0][0], points[-1][0]
    width = (ends - began) / (MOST_POINTS / 2)
    kept: list[tuple[float, float]] = []
    highest: dict[int, tuple[float, float]] = {}
    last: dict[int, tuple[float, float]] = {}
    for point in points:
        piece = int((point[0] - began) / width)
        if piece not in highest or point[1] > highest[piece][1]:
            highest[piece] = point
        last[piece] = point
    for piece in sorted(last):
        kept += sorted({highest[piece], last[piece]})
    return kept
