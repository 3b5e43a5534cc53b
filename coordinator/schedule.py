"""Which entry of a pool's schedule is in force at a time.

Cron expressions and time zones, with their odd hours twice a year, are left to libraries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from coordinator.pool_values import ScheduleEntry


def schedule_problems(entry: ScheduleEntry) -> Iterator[tuple[str, str]]:
    """What is wrong in an entry: (key, sentence)."""
    zone = None
    try:
        zone = ZoneInfo(entry.timezone)
    except (ValueError, OSError, KeyError):  # KeyError: ZoneInfoNotFoundError
        yield "timezone", f"'{entry.timezone}' is no time zone, such as Europe/Berlin"
    if len(entry.cron.split()) != 5:
        yield "cron", f"'{entry.cron}' must have five fields: minute hour day month weekday"
        return
    try:
        next(CronSim(entry.cron, datetime(2024, 1, 1, tzinfo=zone)), None)
    except CronSimError:
        yield "cron", f"'{entry.cron}' is no cron expression"


def entry_in_force(entries: Sequence[ScheduleEntry], now: float) -> ScheduleEntry | None:
    """The entry whose bounds hold at ``now`` (epoch seconds): the last that is on."""
    for entry in reversed(entries):
        if any(start <= now < start + entry.duration for start in _firings(entry, int(now // 60))):
            return entry
    return None


@lru_cache(maxsize=4096)
def _firings(entry: ScheduleEntry, minute: int) -> tuple[float, ...]:
    """When the entry fired last before the end of ``minute`` (minutes since the epoch).

    Only the last firing counts: an entry that fires anew begins anew.
    """
    end = datetime.fromtimestamp((minute + 1) * 60, ZoneInfo(entry.timezone))
    last = next(CronSim(entry.cron, end, reverse=True), None)
    return () if last is None else (last.timestamp(),)
