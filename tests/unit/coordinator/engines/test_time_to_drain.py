"""time_to_drain: enough workers to clear the backlog in time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.engines.base import Decision, PoolView, ViewedReading
from coordinator.engines.time_to_drain import TimeToDrain, TimeToDrainSettings
from coordinator.errors import ConfigProblem
from coordinator.pool_spec import parse_pool


def settings(**changes):
    return TimeToDrainSettings(**{"queue": "jobs", "drain_time": 100, **changes})


def decide(view, wants=None, **seen):
    return TimeToDrain().decide(view(wants or settings(), **seen))


def test_the_backlog_is_cleared_in_time_and_arrivals_are_kept_up_with(view):
    # 4 in hand, 2 done each second: 2 s each. 200 x 2 / 100 are 4, and 3/s x 2 s are 6 more.
    decision = decide(view, running=10, ready=196, unacknowledged=4, rates=(3.0, 2.0))
    assert decision.size == 10
    assert "200 messages of 2 s" in decision.reason


def test_workers_that_must_boot_first_have_less_time(view):
    wants = settings(boot_time=50)
    enough = decide(view, wants, running=8, ready=196, unacknowledged=4, rates=(0.0, 2.0))
    assert enough.size == 4  # none is added: all of the 100 s are there
    short = decide(view, wants, running=2, ready=196, unacknowledged=4, rates=(0.0, 2.0))
    assert short.size == 8  # 50 s are left


def test_without_measurements_the_backlog_per_worker_decides_and_it_is_said(view):
    decision = decide(view, running=1, ready=45, unacknowledged=0)
    assert decision.size == 5
    assert "nothing measured yet" in decision.reason


def test_a_service_time_that_was_measured_once_is_remembered(view):
    first = decide(view, running=2, ready=96, unacknowledged=4, rates=(0.0, 2.0))
    before = Decision(size=2, reason="", memory=first.memory)
    idle = decide(view, running=0, ready=100, unacknowledged=0, rates=(0.0, 0.0), previous=before)
    assert "of 2 s each" in idle.reason


def test_a_service_time_that_is_set_overrules_the_measured_one(view):
    wants = settings(service_time=10)
    decision = decide(view, wants, running=2, ready=96, unacknowledged=4, rates=(0.0, 2.0))
    assert decision.size == 10


def test_work_is_never_left_without_a_worker(view):
    wants = settings(service_time=0.001)
    assert decide(view, wants, ready=1, unacknowledged=0).size == 1


def test_the_last_worker_stays_while_a_message_is_in_hand(view):
    wants = settings(service_time=0.001)
    decision = decide(view, wants, running=1, ready=0, unacknowledged=1)
    assert decision.size == 1


@pytest.mark.parametrize("seen", [{}, {"ready": 9.0}, {"ready": 9.0, "age": 99.0}])
def test_without_a_fresh_reading_it_holds(view, seen):
    decision = decide(view, running=3, **seen)
    assert decision.held
    assert decision.size == 3


@given(
    backlog=st.integers(1, 10_000),
    service=st.floats(0.01, 100),
    arrivals=st.floats(0, 100),
    drain=st.floats(1, 10_000),
)
def test_the_wanted_workers_do_clear_the_backlog_in_time(backlog, service, arrivals, drain):
    wants = TimeToDrainSettings(queue="jobs", drain_time=drain, service_time=service)
    readings = {
        "queue.jobs.ready": ViewedReading(value=backlog, age=0),
        "queue.jobs.unacknowledged": ViewedReading(value=0, age=0),
        "queue.jobs.arrivals": ViewedReading(value=arrivals, age=0),
    }
    view = PoolView(pool="p", now=0.0, readings=readings, settings=wants)
    size = TimeToDrain().decide(view).size
    done = size * drain / service
    assert done >= (backlog + arrivals * drain) * (1 - 1e-6)


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"drain_time": 10}, "queue"),
        ({"queue": "q"}, "drain_time"),
        ({"queue": "q", "drain_time": 0}, "drain_time"),
        ({"queue": "q", "drain_time": 10, "boot_time": 10}, "boot_time"),
        ({"queue": "q", "drain_time": 10, "service_time": 0}, "service_time"),
        ({"queue": "q", "drain_time": 10, "messages_per_worker": 0}, "messages_per_worker"),
    ],
)
def test_absurd_settings_are_refused_by_name(section, key):
    with pytest.raises(ConfigProblem, match=key):
        parse_pool("p", {"engine": {"type": "time_to_drain", **section}})
