"""What a pool did over time, as panels to draw: nodes, queue, jobs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from mgmt.demo.proofs import Sample
from mgmt.graph import Mark, Panel, Series, write_graph

Points = list[tuple[float, float]]


def pool_panels(
    samples: Sequence[Sample],
    sent: Iterable[tuple[float, float]] = (),
    done: Iterable[float] = (),
) -> list[Panel]:
    """Panels of what was seen. ``sent``: (time, jobs so far); ``done``: when each job was.

    Without jobs there is no third panel.
    """
    nodes = [
        Series("wanted", _points((s.at, s.wanted) for s in samples), dashed=True),
        Series("running", _points((s.at, s.running) for s in samples)),
        Series("on their way", _points((s.at, s.pending) for s in samples)),
        Series("draining", _points((s.at, s.draining) for s in samples)),
    ]
    queue = [
        Series("waiting", _points((s.at, s.ready) for s in samples)),
        Series("in hand", _points((s.at, s.unacknowledged) for s in samples)),
    ]
    panels = [Panel("workers", nodes), Panel("messages in the queue", queue)]
    counted = [(at, float(number)) for number, at in enumerate(sorted(done), start=1)]
    submitted = list(sent)
    if submitted and counted:
        counted.insert(0, (submitted[0][0], 0.0))
    if counted or submitted:
        end = max(at for at, _ in [*submitted, *counted, *((s.at, 0.0) for s in samples)])
        lines = [[*line, (end, line[-1][1])] if line else [] for line in (submitted, counted)]
        jobs = [Series("sent", lines[0], dashed=True), Series("done", lines[1])]
        panels.append(Panel("jobs", [each for each in jobs if each.points]))
    return panels


def draw_pool(
    target: Path,
    panels: Sequence[Panel],
    title: str,
    marks: Sequence[Mark] = (),
    began: float | None = None,
) -> Path:
    """Write the picture, or, where nothing can draw, its figures as CSV; where they are.

    ``marks`` and ``began`` (epoch seconds): see ``mgmt.graph.graph``.
    Raises OSError, ConfigProblem (a suffix that is no format).
    """
    if target.suffix.lower() != ".csv" and not can_draw():
        target = target.with_suffix(".csv")
    write_graph(target, panels, title, marks, began)
    return target


def can_draw() -> bool:
    """Whether matplotlib, which draws, is installed."""
    from importlib.util import find_spec

    return find_spec("matplotlib") is not None


def _points(found: Iterable[tuple[float, float | None]]) -> Points:
    """In the order of time; a look that could not tell is left out, and so are repeats."""
    points: Points = []
    for at, value in sorted(one for one in found if one[1] is not None):
        if len(points) > 1 and points[-1][1] == points[-2][1] == value:
            points[-1] = (at, float(value or 0))
        else:
            points.append((at, float(value or 0)))
    return points
