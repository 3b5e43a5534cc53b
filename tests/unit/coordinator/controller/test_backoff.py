"""Back-off: 5 s, doubling to 30 min, forgotten after 3 h."""

from __future__ import annotations

import pytest

from agent.messages import InstanceState as S
from agent.messages import InstanceView
from coordinator.controller.backoff import BackOff, after_failures, delay_after, forgotten


def failed(at, *, state=S.LAUNCH_FAILED, wanted=None, name="n"):
    return InstanceView(
        node_id=name,
        launch_id=name,
        index=0,
        pool="p",
        cloud="c",
        template="t",
        state=state,
        wanted_at=at - 1 if wanted is None else wanted,
        state_since=at,
        reason="no capacity",
    )


def waves(count, *, state=S.LAUNCH_FAILED):
    """Each wave is launched when the wait of the one before is over, and fails at once."""
    backoff, now, waits = BackOff(), 100_000.0, []
    for _ in range(count):
        now += 1
        backoff = after_failures(backoff, [failed(now, wanted=now - 0.5, state=state)], now, now)
        waits.append(backoff.seconds_left(now))
        now += waits[-1]
    return waits


def test_it_doubles_from_five_seconds_to_half_an_hour():
    assert waves(11) == [5, 10, 20, 40, 80, 160, 320, 640, 1280, 1800, 1800]


def test_the_first_failed_boot_is_replaced_at_once_and_no_other():
    assert waves(4, state=S.BOOT_FAILED) == [0, 10, 20, 40]


def test_all_machines_of_one_wave_double_it_once():
    now = 100_000.0
    many = [failed(now, name=str(i)) for i in range(10)]
    backoff = after_failures(BackOff(), many, now - 1, now)
    late = after_failures(backoff, [failed(now + 2, wanted=now - 1, name="x")], now - 1, now + 2)
    assert backoff.seconds_left(now) == 5
    assert late.until == backoff.until
    assert late.failures == 11


def test_failures_seen_late_are_counted_from_when_they_happened():
    now = 100_000.0
    backoff = after_failures(BackOff(), [failed(now - 60)], now, now)
    assert backoff.seconds_left(now) == 0


def test_it_is_forgotten_after_three_quiet_hours():
    now = 100_000.0
    backoff = after_failures(BackOff(), [failed(now)], now, now)
    assert forgotten(backoff, now + 3 * 3600 - 1) == backoff
    assert forgotten(backoff, now + 3 * 3600) == BackOff()
    again = after_failures(backoff, [failed(now + 20_000)], now + 20_000, now + 20_000)
    assert again.waves == 1


def test_a_clock_that_jumped_back_never_waits_longer_than_the_longest():
    backoff = BackOff(failures=1, waves=1, until=10_000.0)
    assert backoff.seconds_left(0.0) == 1800


@pytest.mark.parametrize("count", [0, 1, 50, 10**6])
def test_a_delay_is_always_a_number_of_seconds(count):
    assert 0 <= delay_after(count) <= 1800


def test_the_reason_names_the_newest_failure():
    now = 100_000.0
    backoff = after_failures(
        BackOff(), [failed(now - 1, name="a"), failed(now, name="b")], now, now
    )
    assert backoff.reason == "b LAUNCH_FAILED: no capacity"
