"""Lines over time as SVG, PNG and CSV."""

from __future__ import annotations

import csv
import io
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from coordinator.errors import ConfigProblem
from mgmt.graph import Panel, Series, graph, write_graph

BEGAN = 1_790_000_000.0
PANELS = [
    Panel("nodes", [Series("running", [(BEGAN, 1), (BEGAN + 60, 3), (BEGAN + 3600, 2)])]),
    Panel("queue, messages", [Series("ready", [(BEGAN, 0), (BEGAN + 3600, 50.5)], steps=False)]),
]


def test_a_picture_has_every_panel_and_every_line_by_name() -> None:
    tree = ElementTree.fromstring(graph(PANELS, "svg", "pool sleeper"))
    words = {text.strip() for one in tree.iter() if (text := one.text)}
    assert {"nodes", "queue, messages", "running", "ready", "pool sleeper"} <= words


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
