"""The brake's table, and the back-off's times."""

from __future__ import annotations

import pytest

from coordinator.controller.brake import BrakeLevel, assess, level_of, within_window

N, MA, ME = BrakeLevel.NORMAL, BrakeLevel.MANAGED, BrakeLevel.MELTDOWN


def brake(unhealthy, pool, *, replacing=0, meltdown_since=None, braked=(), now=0.0):
    return assess(
        unhealthy=unhealthy,
        live=pool - unhealthy,
        size=pool,
        replacing=replacing,
        meltdown_since=meltdown_since,
        braked=braked,
        now=now,
    )


@pytest.mark.parametrize(
    ("pool", "unhealthy", "level", "at_once"),
    [
        (3, 0, N, 1),
        (3, 1, MA, 1),
        (3, 3, MA, 1),
        (5, 1, MA, 1),
        (5, 4, MA, 1),
        (5, 5, ME, 0),
        (20, 1, MA, 2),
        (20, 4, MA, 2),
        (20, 5, ME, 0),
        (20, 20, ME, 0),
        (100, 1, MA, 10),
        (100, 4, MA, 10),
        (100, 5, MA, 10),
        (100, 19, MA, 10),
        (100, 20, ME, 0),
        (100, 21, ME, 0),
        (100, 100, ME, 0),
    ],
)
def test_the_table_of_the_brake(pool, unhealthy, level, at_once):
    found = brake(unhealthy, pool)
    assert (found.level, found.allowance) == (level, at_once)


def test_a_fifth_is_exactly_a_fifth():
    for total in range(25, 1000, 5):
        assert level_of(total // 5, total) is ME
        assert level_of(total // 5 - 1, total) is MA or total // 5 - 1 < 5


@pytest.mark.parametrize(("replacing", "allowance"), [(0, 2), (1, 1), (2, 0), (7, 0)])
def test_replacements_on_the_way_use_the_allowance_up(replacing, allowance):
    assert brake(3, 20, replacing=replacing).allowance == allowance


def test_a_meltdown_lets_a_tenth_go_per_window_after_the_first():
    def allowance(now, braked=()):
        return brake(10, 20, meltdown_since=0.0, braked=braked, now=now).allowance

    assert allowance(599.0) == 0
    assert allowance(600.0) == 2
    assert allowance(601.0, [600.0]) == 1
    assert allowance(602.0, [600.0, 601.0]) == 0
    assert allowance(1201.5, [600.0, 601.0]) == 2


def test_only_the_last_ten_minutes_count():
    assert within_window({"old": 0.0, "new": 500.0}, 600.0) == {"new": 500.0}


def test_a_clock_that_jumped_back_forgets_what_seems_to_be_in_the_future():
    assert within_window({"later": 3600.0}, 0.0) == {}


def test_the_brake_says_why_in_words():
    assert "1 of 20 unhealthy" in brake(1, 20).reason
    assert "no replacement for 600 s" in brake(20, 20).reason
