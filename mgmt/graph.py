"""Lines over time as a picture or a table: for ``epu simulate`` and ``epu graph``.

What is drawn is values in, bytes out: the same panels give the same bytes. matplotlib is an
extra (``epu[graph]``), loaded when a picture is drawn and not before; CSV needs nothing.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from coordinator.errors import ConfigProblem, Problem

#: What can be made, by the suffix of the file.
FORMATS = ("svg", "png", "csv")
#: Inches; a panel is as wide as a page.
_WIDTH, _HEIGHT = 11.0, 2.6


@dataclass(frozen=True)
class Series:
    """One line: (epoch seconds, value) in the order of time.

    ``steps``: a value holds until the next one, as a number of nodes does; else straight
    lines between the points. ``dashed`` is for what was wanted rather than seen.
    """

    name: str
    points: Sequence[tuple[float, float]]
    steps: bool = True
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    """Lines that share a scale. ``title`` says what is drawn and in which unit."""

    title: str
    series: Sequence[Series]


def format_of(path: Path | str) -> str:
    """The format that a file's suffix asks for. Raises ConfigProblem for any other."""
    suffix = Path(path).suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        raise ConfigProblem(
            [
                Problem(
                    where=str(path),
                    what="its name does not say what to draw",
                    remedy="end it in " + ", ".join(f".{name}" for name in FORMATS),
                )
            ]
        )
    return suffix


def write_graph(path: Path | str, panels: Sequence[Panel], title: str = "") -> None:
    """Write the panels to ``path``, which has them whole or not at all.

    Raises ConfigProblem for an unknown suffix or when matplotlib is not installed, OSError.
    """
    target = Path(path)
    data = graph(panels, format_of(target), title)
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        fresh.write_bytes(data)
        os.replace(fresh, target)
    finally:
        fresh.unlink(missing_ok=True)


def graph(panels: Sequence[Panel], form: str, title: str = "") -> bytes:
    """The panels, one below the other on the same time axis, in one of ``FORMATS``."""
    return _csv(panels) if form == "csv" else _picture(panels, form, title)


def _csv(panels: Sequence[Panel]) -> bytes:
    """One row a point: long form, which any spreadsheet or program can turn."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("panel", "series", "time", "value"))
    for panel in panels:
        for series in panel.series:
            for at, value in series.points:
                writer.writerow((panel.title, series.name, f"{at:.3f}", f"{value:g}"))
    return text.getvalue().encode()


def _picture(panels: Sequence[Panel], form: str, title: str) -> bytes:
    try:
        from matplotlib import rc_context
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError:
        raise ConfigProblem(
            [Problem(what="pictures need matplotlib", remedy="pip install 'epu[graph]', or .csv")]
        ) from None

    # A fixed salt and no date: the same panels are the same bytes.
    with rc_context({"svg.hashsalt": "epu", "svg.fonttype": "none", "path.simplify": True}):
        height = _HEIGHT * max(1, len(panels)) + 0.4
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = figure.subplots(max(1, len(panels)), 1, sharex=True, squeeze=False)
        if title:
            figure.suptitle(_plain(title), fontsize="medium")
        for panel, (axis,) in zip(panels, axes, strict=False):
            for series in panel.series:
                axis.plot(
                    [datetime.fromtimestamp(at, UTC) for at, _ in series.points],
                    [value for _, value in series.points],
                    label=_plain(series.name),
                    drawstyle="steps-post" if series.steps else "default",
                    linestyle="--" if series.dashed else "-",
                    linewidth=1.2,
                )
            axis.set_title(_plain(panel.title), loc="left", fontsize="small")
            axis.margins(x=0)
            values = [value for series in panel.series for _, value in series.points]
            axis.set_ylim(bottom=min([0.0, *values]))
            axis.grid(alpha=0.3)
            axis.yaxis.set_major_locator(MaxNLocator(5, integer=True))
            if panel.series:
                axis.legend(fontsize="small", loc="upper left", framealpha=0.7)
        locator = AutoDateLocator()
        axes[-1][0].xaxis.set_major_locator(locator)
        axes[-1][0].xaxis.set_major_formatter(ConciseDateFormatter(locator))
        axes[-1][0].set_xlabel("UTC", loc="left", fontsize="small")
        drawn = io.BytesIO()
        metadata = {"Date": None} if form == "svg" else {"Software": None}
        figure.savefig(drawn, format=form, dpi=120, metadata=metadata)
    return drawn.getvalue()


def _plain(text: str) -> str:
    """Text as it is: matplotlib would take what is between two dollars for a formula."""
    return text.replace("$", r"\$")
