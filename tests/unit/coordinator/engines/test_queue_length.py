"""queue_length: its rules one by one. (The table of changes is in controller/test_tables.)"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.messages import HealthStatus, InstanceState
from coordinator.engines.base import Decision, PoolView, ViewedInstance, ViewedReading
from coordinator.engines.queue_length import QueueLength, QueueLengthSettings
from coordinator.errors import ConfigProblem
from coordinator.pool_spec import parse_pool

GOOD = {
    "type": "queue_length",
    "queue": "jobs",
    "queuelen_high_water": 50,
    "queuelen_low_water": 10,
    "max_instances": 5,
}


def settings(**changes):
    return QueueLengthSettings(**{**{k: v for k, v in GOOD.items() if k != "type"}, **changes})


def decide(view, *, wants=None, **seen):
    return QueueLength().decide(view(wants or settings(), **seen))


EMPTY_BEFORE = Decision(size=1, reason="", memory={"empty_sample": ["0", "0"]})


@pytest.mark.parametrize(("ready", "size"), [(0, 1), (9, 1), (10, 2), (50, 2), (51, 3), (10**9, 3)])
def test_the_water_marks_are_strict(view, ready, size):
    assert decide(view, running=2, ready=ready, unacknowledged=0).size == size


def test_a_step_up_is_as_large_as_the_setting(view):
    assert decide(view, wants=settings(step=3), running=1, ready=51).size == 4


def test_the_maximum_holds_whatever_the_queue_says(view):
    decision = decide(view, running=5, ready=1000, unacknowledged=5)
    assert decision.size == 5
    assert "max_instances is 5" in decision.reason


def test_the_minimum_holds_even_without_a_reading(view):
    decision = decide(view, wants=settings(min_instances=3))
    assert decision.size == 3
    assert decision.held


def test_unacknowledged_messages_do_not_scale_out(view):
    assert decide(view, running=2, ready=20, unacknowledged=1000).size == 2


@pytest.mark.parametrize(
    "remains",
    [
        {"ready": 5, "unacknowledged": 0},
        {"ready": 0, "unacknowledged": 1},
        {"ready": 0},
        {"ready": 0, "unacknowledged": 0, "busy": [True]},
        {"ready": 0, "unacknowledged": 0, "previous": None},
    ],
    ids=["ready", "unacknowledged", "unacknowledged unknown", "busy", "seen empty only once"],
)
def test_the_last_worker_stays_while_work_remains_or_might(view, remains):
    assert decide(view, running=1, sample="1", **{"previous": EMPTY_BEFORE, **remains}).size == 1


def test_the_last_worker_goes_after_two_measurements_of_nothing(view):
    seen = {"running": 1, "ready": 0, "unacknowledged": 0}
    first = decide(view, **seen, sample="7")
    again = decide(view, **seen, sample="7", previous=first)
    anew = decide(view, **seen, sample="8", previous=again)
    assert [first.size, again.size, anew.size] == [1, 1, 0]


def test_work_between_two_empty_measurements_starts_the_count_again(view):
    seen = {"running": 1, "unacknowledged": 0}
    first = decide(view, **seen, ready=0, sample="1")
    work = decide(view, **seen, ready=1, sample="2", previous=first)
    empty = decide(view, **seen, ready=0, sample="3", previous=work)
    assert empty.size == 1


def test_readings_without_a_sample_never_take_the_last_worker(view):
    decision = None
    for _ in range(5):
        seen = {"running": 1, "ready": 0, "unacknowledged": 0}
        decision = decide(view, **seen, sample="", previous=decision)
    assert decision.size == 1


def test_one_measurement_is_one_step(view):
    first = decide(view, running=3, ready=0, unacknowledged=0, sample="1")
    again = decide(view, running=2, ready=0, unacknowledged=0, sample="1", previous=first)
    anew = decide(view, running=2, ready=0, unacknowledged=0, sample="2", previous=again)
    assert [first.size, again.size, anew.size] == [2, 2, 1]


def test_nothing_is_scaled_while_a_worker_is_pending(view):
    for ready in (0, 100):
        assert decide(view, running=2, pending=1, ready=ready, unacknowledged=0).size == 3


def test_work_without_a_worker_launches_one_at_once(view):
    previous = Decision(size=0, reason="", seen={"stepped_on": "1"})
    assert decide(view, ready=1, sample="1", previous=previous).size == 1


@pytest.mark.parametrize(
    "seen",
    [{}, {"ready": 0, "unacknowledged": 0, "age": 3.01}, {"ready": float("nan")}, {"ready": -1}],
    ids=["none", "older than three polls", "not a number", "negative"],
)
def test_without_a_reading_to_believe_it_holds_and_says_why(view, seen):
    decision = decide(view, running=3, **seen)
    assert decision.held
    assert decision.size == 3
    assert "hold" in decision.reason


def test_a_hold_still_replaces_a_lost_worker(view):
    previous = Decision(size=3, reason="")
    assert decide(view, running=2, previous=previous).size == 3


def test_within_the_marks_a_lost_worker_is_replaced(view):
    assert decide(view, running=1, missing=1, ready=30).size == 2
    assert decide(view, running=1, ready=30, previous=Decision(size=2, reason="")).size == 2


def test_below_low_water_a_lost_worker_is_the_shrinking(view):
    previous = Decision(size=3, reason="")
    assert decide(view, running=2, missing=1, ready=5, previous=previous).size == 2


def test_below_low_water_several_lost_workers_are_not_replaced_and_nobody_else_goes(view):
    previous = Decision(size=5, reason="")
    assert decide(view, running=3, ready=5, previous=previous).size == 3


def test_above_high_water_all_lost_workers_are_replaced(view):
    previous = Decision(size=4, reason="")
    assert decide(view, running=1, ready=60, previous=previous).size == 4


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"queuelen_high_water": 10, "queuelen_low_water": 50}, "queuelen_low_water"),
        ({"queuelen_high_water": None}, "queuelen_high_water"),
        ({"min_instances": -1}, "min_instances"),
        ({"min_instances": 6}, "min_instances"),
        ({"max_instances": 0}, "max_instances"),
        ({"step": 0}, "step"),
        ({"queue": " "}, "queue"),
        ({"queuelen_low_water": "few"}, "queuelen_low_water"),
        ({"high": 1}, "high"),
    ],
)
def test_ql24_a_wrong_setting_is_rejected_and_the_key_is_named(changes, named):
    with pytest.raises(ConfigProblem, match=named):
        parse_pool("workers", {"engine": {**GOOD, **changes}})


@pytest.mark.parametrize(
    "missing", ["queue", "queuelen_high_water", "queuelen_low_water", "max_instances"]
)
def test_ql24_a_missing_key_is_named(missing):
    engine = {key: value for key, value in GOOD.items() if key != missing}
    with pytest.raises(ConfigProblem, match=missing):
        parse_pool("workers", {"engine": engine})


numbers = st.one_of(st.none(), st.floats(), st.integers(-5, 200).map(float))


@given(
    running=st.integers(0, 8),
    pending=st.integers(0, 3),
    missing=st.integers(0, 3),
    ready=numbers,
    unacknowledged=numbers,
    age=st.floats(0, 10),
    previous=st.one_of(st.none(), st.integers(0, 8)),
    minimum=st.integers(0, 5),
)
def test_whatever_it_sees_its_bounds_hold_and_work_keeps_a_worker(
    running, pending, missing, ready, unacknowledged, age, previous, minimum
):
    groups = (
        (running, InstanceState.RUNNING, HealthStatus.OK),
        (pending, InstanceState.BOOTING, HealthStatus.UNKNOWN),
        (missing, InstanceState.RUNNING, HealthStatus.MISSING),
    )
    seen = PoolView(
        pool="workers",
        now=0.0,
        instances=tuple(
            ViewedInstance(node_id=f"{state}{health}{i}", state=state, health=health)
            for count, state, health in groups
            for i in range(count)
        ),
        readings={
            f"queue.jobs.{part}": ViewedReading(value=value, age=age, sample="2")
            for part, value in (("ready", ready), ("unacknowledged", unacknowledged))
            if value is not None
        },
        settings=settings(min_instances=minimum),
        previous=None
        if previous is None
        else Decision(size=previous, reason="", memory={"empty_sample": ["1", "1"]}),
    )
    decision = QueueLength().decide(seen)
    there = running + pending
    assert minimum <= decision.size <= 5
    if there >= 1 and decision.size == 0:
        assert ready == 0
        assert unacknowledged == 0
    if decision.held:
        assert decision.size >= min(there, 5)
