"""Lines over time as a picture or a table: for ``epu simulate`` and ``epu graph``.

What is drawn is values in, bytes out: the same panels give the same bytes. matplotlib is an
extra (``epu[graph]``), loaded when a picture is drawn and not before; CSV needs nothing.
"""

from __future__ import annotations

import csv
import errno
import io
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from coordinator.errors import ConfigProblem, Problem

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import XAxis

#: What can be made, by the suffix of the file.
FORMATS = ("svg", "png", "csv")
#: Inches; a panel is as wide as a page.
_WIDTH, _HEIGHT = 11.0, 2.6
#: What a line tells of its pool or queue → how it is drawn where there are several.
_STYLES = {
    "running": "-", "wanted": "--", "starting": ":", "draining": "-.",
    "ready": "-", "unacknowledged": ":",
}  # fmt: skip
#: Of the width: marks nearer to each other than this have one label.
_NEAR = 0.02
#: Lines that a panel's legend has room for.
_NAMED = 12
#: Characters of a mark's label that fit into a panel, one below the other.
_LABEL = 32
_DAY = 86_400.0


@dataclass(frozen=True)
class Series:
    """One line: (epoch seconds, value) in the order of time.

    ``steps``: a value holds until the next one, as a number of nodes does; else straight
    lines between the points. ``dashed`` is for what was wanted rather than seen, ``style``
    any other of ``-``, ``--``, ``:`` and ``-.``. Lines of one ``kin`` have one colour.
    """

    name: str
    points: Sequence[tuple[float, float]]
    steps: bool = True
    dashed: bool = False
    style: str = ""
    kin: str = ""


@dataclass(frozen=True)
class Panel:
    """Lines that share a scale. ``title`` says what is drawn and in which unit."""

    title: str
    series: Sequence[Series]


@dataclass(frozen=True)
class Mark:
    """A moment that a picture shows as a line across all panels: epoch seconds, what happened."""

    at: float
    text: str


def series_of(lines: Mapping[str, Sequence[tuple[float, float]]]) -> list[Series]:
    """Lines by name as they are drawn: what was wanted is dashed.

    Of several pools (``web running``) or queues (``work.ready``) each has a colour of its
    own, and its lines differ by their style.
    """
    parts = {name: re.split(r"[ .](?=[^ .]*$)", name) for name in lines}
    known = all(len(part) == 2 and part[1] in _STYLES for part in parts.values())
    many = known and len({part[0] for part in parts.values()}) > 1
    return [
        Series(name, points, style=_STYLES[parts[name][1]], kin=parts[name][0])
        if many
        else Series(name, points, dashed=name.endswith(" wanted"))
        for name, points in lines.items()
    ]


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


def write_graph(
    path: Path | str,
    panels: Sequence[Panel],
    title: str = "",
    marks: Sequence[Mark] = (),
    began: float | None = None,
) -> None:
    """Write the panels to ``path``, which has them whole or not at all; see ``graph``.

    Raises ConfigProblem for an unknown suffix or when matplotlib is not installed, OSError.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such directory", str(target.parent))
    data = graph(panels, format_of(target), title, marks, began)
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        fresh.write_bytes(data)
        os.replace(fresh, target)
    finally:
        fresh.unlink(missing_ok=True)


def graph(
    panels: Sequence[Panel],
    form: str,
    title: str = "",
    marks: Sequence[Mark] = (),
    began: float | None = None,
) -> bytes:
    """The panels, one below the other on the same time axis, in one of ``FORMATS``.

    The axis has times of day (UTC), or, with ``began`` (epoch seconds), the seconds since
    then. ``marks`` are drawn into pictures only: a table has the points of lines.
    """
    if form == "csv":
        return _csv(panels)
    return _picture(panels, form, title, marks, began)


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


def labelled(marks: Sequence[Mark], begin: float, end: float) -> list[Mark]:
    """The marks from ``begin`` to ``end`` in the order of time, those too near to each other
    to be read one by one as one: the first one's moment, what happened in all, a line each."""
    near = (end - begin) * _NEAR
    groups: list[list[Mark]] = []
    for mark in sorted(marks, key=lambda mark: mark.at):
        if not begin <= mark.at <= end:
            continue
        if groups and mark.at - groups[-1][0].at < near:
            groups[-1].append(mark)
        else:
            groups.append([mark])
    found = []
    for group in groups:
        times = Counter(mark.text for mark in group)
        words = [f"{number} × {text}" if number > 1 else text for text, number in times.items()]
        found.append(Mark(group[0].at, "\n".join(words)))
    return found


def _picture(
    panels: Sequence[Panel], form: str, title: str, marks: Sequence[Mark], began: float | None
) -> bytes:
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigProblem(
            [Problem(what="pictures need matplotlib", remedy="pip install 'epu[graph]', or .csv")]
        ) from None

    times = [at for panel in panels for series in panel.series for at, _ in series.points]
    shown = labelled(marks, min(times), max(times)) if times else []
    # A fixed salt and no date: the same panels are the same bytes.
    with rc_context({"svg.hashsalt": "epu", "svg.fonttype": "none", "path.simplify": True}):
        height = _HEIGHT * max(1, len(panels)) + 0.4
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = figure.subplots(max(1, len(panels)), 1, sharex=True, squeeze=False)
        if title:
            figure.suptitle(_plain(title), fontsize="medium")
        for panel, (axis,) in zip(panels, axes, strict=False):
            _draw(axis, panel, began)
        for (axis,) in axes:
            for mark in shown:
                axis.axvline(_moment(mark.at, began), color="0.4", linestyle=":", linewidth=1.0)
        for mark in shown:
            axes[0][0].annotate(
                _plain("\n".join(fill(line, _LABEL) for line in mark.text.splitlines())),
                xy=(_moment(mark.at, began), 0.97),
                xycoords=("data", "axes fraction"),
                rotation=90,
                horizontalalignment="right",
                verticalalignment="top",
                fontsize="x-small",
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.6, "pad": 0.5},
            )
        _name_times(axes[-1][0].xaxis, began)
        drawn = io.BytesIO()
        metadata = {"Date": None} if form == "svg" else {"Software": None}
        figure.savefig(drawn, format=form, dpi=120, metadata=metadata)
    return drawn.getvalue()


def _draw(axis: Axes, panel: Panel, began: float | None) -> None:
    """One panel; its legend stands beside it, where it covers no line."""
    from matplotlib.ticker import MaxNLocator

    kins = dict.fromkeys(series.kin for series in panel.series if series.kin)
    colours = {kin: f"C{at % 10}" for at, kin in enumerate(kins)}
    for series in panel.series:
        axis.plot(
            [_moment(at, began) for at, _ in series.points],
            [value for _, value in series.points],
            label=_plain(series.name),
            drawstyle="steps-post" if series.steps else "default",
            linestyle=series.style or ("--" if series.dashed else "-"),
            color=colours.get(series.kin),
            linewidth=1.2,
        )
    axis.set_title(_plain(panel.title), loc="left", fontsize="small")
    axis.margins(x=0.01)
    values = [value for series in panel.series for _, value in series.points]
    axis.set_ylim(bottom=min([0.0, *values]))
    axis.grid(alpha=0.3)
    axis.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    named = axis.get_lines()[:_NAMED]
    words = [str(line.get_label()) for line in named]
    if more := len(panel.series) - len(named):
        named = [*named, *axis.plot([], [], linestyle="none")]
        words.append(f"… and {more} more lines")
    if named:
        axis.legend(named, words, fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0),
                    frameon=False)  # fmt: skip


def _moment(at: float, began: float | None) -> float:
    """Where a moment is on the axis: matplotlib's dates are days since 1970."""
    return at / _DAY if began is None else at - began


def _name_times(axis: XAxis, began: float | None) -> None:
    """Whole times of day: a tick that says '05' leaves open of what."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    if began is not None:
        axis.set_label_text("seconds since the start", fontsize="small")
        return
    locator = AutoDateLocator()
    day, minute, second = "%Y-%m-%d", "%H:%M", "%H:%M:%S"
    axis.set_major_locator(locator)
    axis.set_major_formatter(
        ConciseDateFormatter(
            locator,
            formats=["%Y", "%Y-%m", day, minute, minute, second],
            zero_formats=["", "%Y", day, day, minute, second],
            offset_formats=["", "", "", day, day, day],
        )
    )
    axis.set_label_text("time (UTC)", fontsize="small")


def _plain(text: str) -> str:
    """Text as it is: matplotlib would take what is between two dollars for a formula."""
    return text.replace("$", r"\$")
