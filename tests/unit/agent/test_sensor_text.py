"""From what sensors print to figures: bounded, and nothing where there is no number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.prometheus_page import measure_page
from agent.sensor_text import MAX_FIGURES, MAX_PROBLEM, from_lines, selector

PAGE = """\
# HELP jobs_total Jobs by state.
# TYPE jobs_total counter
jobs_total{state="done",queue="a"} 10
jobs_total{state="done",queue="b"} 5
jobs_total{state="failed",queue="a"} 2
in_flight 3
broken NaN
"""


def test_a_single_number_is_the_figure_of_the_sensor() -> None:
    assert from_lines("depth", " 42.5\n").figures == {"depth": 42.5}


def test_named_lines_are_figures_of_that_name_and_names_chooses_some() -> None:
    assert from_lines("s", "a 1\nb 2\n").figures == {"s.a": 1.0, "s.b": 2.0}
    assert from_lines("s", "a 1\nb 2\n", ("b",)).figures == {"s.b": 2.0}


@pytest.mark.parametrize("text", ["nan", "inf", "a nan", "many words 3", "", "no number"])
def test_what_is_no_number_is_no_figure_and_never_zero(text: str) -> None:
    found = from_lines("s", text)
    assert not found.figures
    assert bool(found.problem) == bool(text)


def test_one_strange_line_does_not_take_the_others_away_and_is_said() -> None:
    found = from_lines("s", "a 1\nTraceback\nb 2\n")
    assert found.figures == {"s.a": 1.0, "s.b": 2.0}
    assert "'Traceback'" in found.problem


def test_more_figures_than_there_may_be_are_left_out_and_said() -> None:
    found = from_lines("s", "\n".join(f"n{number} 1" for number in range(MAX_FIGURES + 8)))
    assert len(found.figures) == MAX_FIGURES
    assert "8 figures" in found.problem


@given(st.text(max_size=3000))
def test_whatever_is_printed_the_outcome_is_bounded(text: str) -> None:
    found = from_lines("s", text)
    assert len(found.figures) <= MAX_FIGURES
    assert len(found.problem) <= MAX_PROBLEM
    assert all(len(name) <= 100 for name in found.figures)


def test_a_page_gives_the_sum_of_the_series_that_fit() -> None:
    names = ("jobs_total", 'jobs_total{state="done"}', 'jobs_total{state="done",queue="b"}')
    found = measure_page("app", PAGE, (*names, "in_flight"))
    assert found.figures == {
        "app.jobs_total": 17.0,
        'app.jobs_total{state="done"}': 15.0,
        'app.jobs_total{state="done",queue="b"}': 5.0,
        "app.in_flight": 3.0,
    }
    assert not found.problem


def test_a_metric_that_is_not_there_or_no_number_is_missing_and_said() -> None:
    found = measure_page("app", PAGE, ("in_flight", "broken", "gone"))
    assert found.figures == {"app.in_flight": 3.0}
    assert "'broken' and 1 more" in found.problem


def test_a_page_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r".+"):
        measure_page("app", "<html>{{{ no metrics", ("x",))


@pytest.mark.parametrize("name", ["", "{a}", "x{", 'x{a="1"', "x{a=1}", "two words", "x}"])
def test_a_name_that_selects_nothing_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        selector(name)
