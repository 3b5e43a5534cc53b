"""Schedules: which entry holds when, time zones and their odd hours included."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from coordinator.errors import ConfigProblem
from coordinator.pool_spec import parse_pool
from coordinator.pool_values import ScheduleEntry
from coordinator.schedule import entry_in_force

BERLIN = ZoneInfo("Europe/Berlin")
WORKDAYS = ScheduleEntry(
    cron="0 8 * * 1-5", timezone="Europe/Berlin", duration=10 * 3600.0, min=5, max=50
)


def at(*moment, zone=BERLIN):
    return datetime(*moment, tzinfo=zone).timestamp()


@pytest.mark.parametrize(
    ("moment", "on"),
    [
        ((2026, 11, 26, 7, 59, 59), False),
        ((2026, 11, 26, 8, 0, 0), True),
        ((2026, 11, 26, 17, 59, 59), True),
        ((2026, 11, 26, 18, 0, 0), False),
        ((2026, 11, 28, 12), False),  # a Saturday
        ((2026, 3, 30, 8, 0, 0), True),  # the Monday after the clocks went forward
    ],
)
def test_an_entry_holds_from_its_firing_for_its_duration(moment, on):
    assert (entry_in_force([WORKDAYS], at(*moment)) is WORKDAYS) is on


def test_an_entry_that_is_on_while_the_clocks_change_lasts_as_long_as_it_says():
    night = ScheduleEntry(cron="0 1 * * *", timezone="Europe/Berlin", duration=4 * 3600.0, max=1)
    start = at(2026, 3, 29, 1)  # 2:00 to 3:00 does not exist on that day
    assert entry_in_force([night], start + 4 * 3600 - 1) is night
    assert entry_in_force([night], start + 4 * 3600) is None


def test_the_last_entry_that_is_on_wins():
    always = ScheduleEntry(cron="0 0 * * *", duration=86400.0, min=1)
    noon = ScheduleEntry(cron="0 12 * * *", duration=3600.0, min=9)
    utc = ZoneInfo("UTC")
    assert entry_in_force([always, noon], at(2026, 1, 1, 12, 30, zone=utc)) is noon
    assert entry_in_force([always, noon], at(2026, 1, 1, 13, 30, zone=utc)) is always
    assert entry_in_force([noon, always], at(2026, 1, 1, 12, 30, zone=utc)) is always


def test_without_entries_nothing_holds():
    assert entry_in_force([], 1e9) is None


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"cron": "0 8 * *"}, r"schedule\.0\.cron"),
        ({"cron": "0 25 * * *"}, r"schedule\.0\.cron"),
        ({"timezone": "Berlin"}, r"schedule\.0\.timezone"),
        ({"timezone": "../../etc/passwd"}, r"schedule\.0\.timezone"),
        ({"duration": 5}, "duration"),
        ({"min": 5, "max": 4}, "min"),
        ({"min": None, "max": None}, "min or max"),
        ({"minn": 3}, "minn"),
    ],
)
def test_what_is_wrong_in_a_schedule_is_named(changes, key):
    entry = {"cron": "0 8 * * *", "duration": 3600, "min": 1, **changes}
    with pytest.raises(ConfigProblem, match=key):
        parse_pool("p", {"schedule": [entry]})
