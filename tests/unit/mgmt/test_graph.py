"""Lines over time as SVG, PNG and CSV."""

from __future__ import annotations

import csv
import io
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from coordinator.errors import ConfigProblem
from mgmt.graph import Mark, Panel, Series, graph, labelled, series_of, write_graph

BEGAN = 1_790_000_000.0
PANELS = [
    Panel("nodes", [Series("running", [(BEGAN, 1), (BEGAN + 60, 3), (BEGAN + 3600, 2)])]),
    Panel("queue, messages", [Series("ready", [(BEGAN, 0), (BEGAN + 3600, 50.5)], steps=False)]),
]


def words_of(picture: bytes) -> set[str]:
    return {text.strip() for one in ElementTree.fromstring(picture).iter() if (text := one.text)}


def test_a_picture_has_every_panel_and_every_line_by_name() -> None:
    words = words_of(graph(PANELS, "svg", "pool sleeper"))
    assert {"nodes", "queue, messages", "running", "ready", "pool sleeper"} <= words


@pytest.mark.filterwarnings("error")
def test_a_hundred_lines_leave_room_for_the_picture_and_say_how_many_are_not_named() -> None:
    lines = [Series(f"pool-{n} running", [(BEGAN, 1), (BEGAN + 60, n)]) for n in range(100)]
    words = words_of(graph([Panel("nodes", lines)], "svg"))
    assert {"pool-0 running", "… and 88 more lines"} <= words


def test_times_of_day_are_whole_and_say_their_zone() -> None:
    short = [Panel("nodes", [Series("running", [(BEGAN, 1), (BEGAN + 40, 3)])])]
    words = words_of(graph(short, "svg"))
    assert {"time (UTC)", "14:13:30", "2026-09-21"} <= words


def test_with_a_start_the_axis_has_the_seconds_since_then() -> None:
    words = words_of(graph(PANELS, "svg", began=BEGAN))
    assert "seconds since the start" in words
    assert "3500" in words or "3600" in words or "3000" in words


def test_a_mark_says_what_happened_in_the_picture_and_not_in_the_table() -> None:
    marks = [Mark(BEGAN + 600, "node killed")]
    assert "node killed" in words_of(graph(PANELS, "svg", marks=marks))
    assert graph(PANELS, "csv", marks=marks) == graph(PANELS, "csv")


def test_marks_that_would_cover_each_other_have_one_label() -> None:
    marks = [Mark(50, "lost"), Mark(51, "launched"), Mark(50.5, "lost"), Mark(60, "lost")]
    assert labelled([*marks, Mark(101, "after the end")], 0, 100) == [
        Mark(50, "2 × lost\nlaunched"),
        Mark(60, "lost"),
    ]


def test_the_same_panels_are_the_same_bytes() -> None:
    assert graph(PANELS, "svg") == graph(PANELS, "svg")
    assert graph(PANELS, "png") == graph(PANELS, "png")
    assert graph(PANELS, "png").startswith(b"\x89PNG")


def test_nothing_to_draw_and_dollars_are_drawn_too() -> None:
    for panels in ([], [Panel("cost, $ and $", [Series("a $ b $", [])])]):
        assert b"<svg" in graph(panels, "svg")


def test_a_table_has_one_row_for_each_point() -> None:
    rows = list(csv.DictReader(io.StringIO(graph(PANELS, "csv").decode())))
    assert [(row["series"], float(row["time"]), float(row["value"])) for row in rows] == [
        ("running", BEGAN, 1),
        ("running", BEGAN + 60, 3),
        ("running", BEGAN + 3600, 2),
        ("ready", BEGAN, 0),
        ("ready", BEGAN + 3600, 50.5),
    ]


def test_the_suffix_says_what_is_drawn(tmp_path: Path) -> None:
    write_graph(tmp_path / "a.CSV", PANELS)
    assert (tmp_path / "a.CSV").read_text().startswith("panel,series")
    with pytest.raises(ConfigProblem, match=r"plot\.pdf: .*end it in \.svg, \.png, \.csv"):
        write_graph(tmp_path / "plot.pdf", PANELS)
    assert [path.name for path in tmp_path.iterdir()] == ["a.CSV"]


def test_lines_of_several_pools_have_a_colour_each_and_a_style_for_each_state() -> None:
    points = [(0.0, 1.0)]
    names = ("web running", "web wanted", "batch running")
    web, wanted, batch = series_of(dict.fromkeys(names, points))
    assert web.kin == wanted.kin == "web" and batch.kin == "batch"
    assert (web.style, wanted.style, batch.style) == ("-", "--", "-")
    alone = series_of(dict.fromkeys(names[:2], points))
    assert [(one.kin, one.style, one.dashed) for one in alone] == [("", "", False), ("", "", True)]
    assert [one.kin for one in series_of({"in hand": points, "done": points})] == ["", ""]
