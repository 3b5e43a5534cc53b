"""Silence, blindness and memory of the sensors service."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.messages import Heartbeat, SensorReading
from coordinator.sensors.history import FORGET_AFTER, Observations

INTERVAL = 2.0
GRACE = 30.0


def beat(sequence: int, boot_id: str = "b1", node: str = "n-0", ok: bool = True) -> Heartbeat:
    return Heartbeat(
        node_id=node,
        pool="p",
        boot_id=boot_id,
        sequence=sequence,
        sent_at=0.0,
        supervisor_ok=ok,
    )


def hearing(until: float, start: float = 0.0) -> Observations:
    """Observations whose loopback came back every interval from ``start`` to ``until``."""
    observations = Observations(INTERVAL, GRACE)
    now = start
    while now <= until:
        observations.loopback(now)
        now += INTERVAL
    return observations


def test_a_service_that_never_heard_itself_is_blind() -> None:
    observations = Observations(INTERVAL, GRACE)
    observations.heard(beat(1), 1.0)
    assert observations.report("p", (), 2.0).blind


def test_silence_counts_only_after_the_grace_time_that_follows_a_start() -> None:
    observations = hearing(until=40.0)
    assert observations.observing_age(29.0) < 0
    assert observations.observing_age(40.0) == 10.0


def test_an_outage_of_any_length_restarts_all_ages_at_its_end() -> None:
    for outage in (10.0, 60.0, 600.0, 3600.0):
        observations = hearing(until=100.0)
        assert observations.blind(100.0 + outage)
        assert observations.loopback(100.0 + outage)
        assert not observations.blind(100.0 + outage)
        assert observations.observing_age(100.0 + outage) == -GRACE


def test_a_steady_loopback_is_no_gap() -> None:
    observations = hearing(until=100.0)
    assert not observations.loopback(102.0)
    assert observations.observing_age(102.0) == 72.0


def test_a_late_or_doubled_beat_of_the_same_boot_does_not_count_as_heard() -> None:
    observations = hearing(until=100.0)
    assert observations.heard(beat(5), 50.0)
    assert not observations.heard(beat(5), 90.0)
    assert not observations.heard(beat(4), 90.0)
    signs = observations.signs("n-0", 100.0)
    assert signs is not None and signs.heard_age == 50.0


def test_an_agent_that_was_restarted_is_heard_from_its_first_beat() -> None:
    observations = hearing(until=100.0)
    observations.heard(beat(500), 50.0)
    assert observations.heard(beat(1, boot_id="b2"), 60.0)


def test_a_late_beat_of_an_earlier_life_says_nothing_about_this_one() -> None:
    observations = hearing(until=100.0)
    observations.heard(beat(5), 50.0)
    observations.heard(beat(1, boot_id="b2"), 60.0)
    assert not observations.heard(beat(6), 61.0)
    signs = observations.signs("n-0", 61.0)
    assert signs is not None and (signs.boot_id, signs.sequence) == ("b2", 1)


def test_failures_of_a_supervisor_are_not_carried_into_a_new_life() -> None:
    observations = hearing(until=100.0)
    for sequence in (1, 2):
        observations.heard(beat(sequence, ok=False), float(sequence))
    observations.heard(beat(1, boot_id="b2", ok=False), 3.0)
    signs = observations.signs("n-0", 4.0)
    assert signs is not None and signs.supervisor_failures == 1


def test_a_life_that_a_late_beat_of_an_older_one_interrupted_is_believed_again() -> None:
    observations = hearing(until=100.0)
    observations.heard(beat(1, boot_id="new"), 50.0)
    observations.heard(beat(9, boot_id="old, and never heard before"), 51.0)
    assert not observations.heard(beat(2, boot_id="new"), 60.0)
    assert observations.heard(beat(3, boot_id="new"), 70.0)
    signs = observations.signs("n-0", 70.0)
    assert signs is not None and (signs.boot_id, signs.heard_age) == ("new", 0.0)


@given(st.data())
def test_after_lost_doubled_delayed_and_reordered_beats_the_state_is_the_last_word(
    data: st.DataObject,
) -> None:
    """T3: whatever arrived before, two beats that come through are enough."""
    lives = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=12))
    spoken = [
        beat(sequence, boot_id=f"b{life}")
        for life, count in enumerate(lives)
        for sequence in range(1, count + 1)
    ]
    copies = [one for one in spoken for _ in range(data.draw(st.integers(0, 2)))]
    arriving = data.draw(st.permutations(copies))
    observations = hearing(until=100.0)
    now = 101.0
    for one in arriving:
        before = observations.signs("n-0", now)
        counted = observations.heard(one, now)
        if counted and before is not None and before.boot_id == one.boot_id:
            assert one.sequence > before.sequence, "an older word of the same life"
    last = [beat(lives[-1] + more, boot_id=f"b{len(lives) - 1}") for more in (1, 2)]
    observations.heard(last[0], 110.0)
    assert observations.heard(last[1], 120.0)
    for one in data.draw(st.permutations([*last, *last])):
        assert not observations.heard(one, 125.0)
    signs = observations.signs("n-0", 130.0)
    assert signs is not None
    assert (signs.boot_id, signs.sequence) == (last[1].boot_id, last[1].sequence)
    assert signs.heard_age == 10.0


def test_lost_presence_is_news_once_and_ends_with_the_next_beat() -> None:
    observations = hearing(until=100.0)
    assert not observations.presence_lost("n-0", 49.0), "a node nobody knows is no news"
    observations.heard(beat(1), 50.0)
    assert observations.presence_lost("n-0", 51.0)
    assert not observations.presence_lost("n-0", 52.0)
    lost = observations.signs("n-0", 53.0)
    assert lost is not None and lost.presence_lost_age == 2.0
    observations.heard(beat(2), 54.0)
    back = observations.signs("n-0", 55.0)
    assert back is not None and back.presence_lost_age is None


def test_failures_of_a_supervisor_are_counted_until_one_beat_is_good() -> None:
    observations = hearing(until=100.0)
    for sequence in (1, 2, 3):
        observations.heard(beat(sequence, ok=False), 10.0 * sequence)
    signs = observations.signs("n-0", 40.0)
    assert signs is not None and signs.supervisor_failures == 3
    observations.heard(beat(4), 50.0)
    signs = observations.signs("n-0", 50.0)
    assert signs is not None and signs.supervisor_failures == 0


def test_a_reading_ages_from_the_moment_it_was_measured() -> None:
    observations = hearing(until=100.0)
    observations.reading(SensorReading(name="queue.q.ready", value=7, age=1.0), 50.0)
    found = observations.report("p", ("queue.q.ready", "queue.q.other"), 60.0).readings
    assert list(found) == ["queue.q.ready"]
    assert (found["queue.q.ready"].value, found["queue.q.ready"].age) == (7, 11.0)


def test_a_report_speaks_of_its_own_pool_only() -> None:
    observations = hearing(until=100.0)
    observations.heard(beat(1, node="n-0"), 50.0)
    other = Heartbeat(node_id="m-0", pool="q", boot_id="b", sequence=1, sent_at=0.0)
    observations.heard(other, 50.0)
    assert set(observations.report("p", (), 60.0).nodes) == {"n-0"}


def test_nodes_that_are_silent_for_very_long_are_forgotten() -> None:
    observations = hearing(until=100.0)
    observations.heard(beat(1), 50.0)
    observations.forget(50.0 + FORGET_AFTER - 1)
    assert observations.node_count == 1
    observations.forget(50.0 + FORGET_AFTER)
    assert observations.node_count == 0


def test_a_node_whose_pool_is_patient_is_remembered_for_as_long_as_the_pool_waits() -> None:
    observations = hearing(until=100.0)
    observations.heard(beat(1), 50.0)
    observations.forget(50.0 + FORGET_AFTER + 100, {"p": FORGET_AFTER + 500})
    assert observations.node_count == 1
    observations.forget(50.0 + FORGET_AFTER + 500, {"p": FORGET_AFTER + 500})
    assert observations.node_count == 0


def test_only_the_readings_that_are_kept_are_reported() -> None:
    observations = hearing(until=100.0)
    for name in ("queue.q.ready", "queue.r.ready"):
        observations.reading(SensorReading(name=name, value=7, age=1.0), 50.0)
    observations.keep_readings({"queue.q.ready"})
    found = observations.report("p", ("queue.q.ready", "queue.r.ready"), 60.0).readings
    assert list(found) == ["queue.q.ready"]


@given(st.lists(st.floats(min_value=0.0, max_value=500.0), max_size=60))
def test_observing_never_reaches_back_over_a_gap(arrivals: list[float]) -> None:
    """Whenever it is not blind, the observed time contains no gap in the loopback."""
    times = sorted(arrivals)
    observations = Observations(INTERVAL, GRACE)
    for at in times:
        observations.loopback(at)
    now = 501.0
    if times:
        gap_ends = [times[0]] + [
            later
            for earlier, later in zip(times, times[1:], strict=False)
            if later - earlier > INTERVAL * 3
        ]
        assert observations.observing_age(now) == now - (gap_ends[-1] + GRACE)
    else:
        assert observations.blind(now) and observations.observing_age(now) < 0
