"""target_tracking: proportional, with a dead band, and calm where it can't see."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.engines.base import Decision
from coordinator.engines.target_tracking import (
    TargetTracking,
    TargetTrackingSettings,
    wanted_for,
)
from coordinator.errors import ConfigProblem
from coordinator.pool_spec import parse_pool

BACKLOG = TargetTrackingSettings(target=10, queue="jobs")
CPU = TargetTrackingSettings(target=60, metric_kind="utilisation", metric="cpu_percent")


def decide(view, wants=BACKLOG, **seen):
    return TargetTracking().decide(view(wants, **seen))


def at(*values):
    return [None if value is None else {"cpu_percent": value} for value in values]


@pytest.mark.parametrize(
    ("ready", "in_hand", "running", "size"),
    [
        (0, 0, 0, 0),
        (1, 0, 0, 1),
        (95, 5, 4, 10),  # 10 each
        (101, 0, 4, 11),  # what is added is rounded up
        (45, 0, 10, 5),  # what is removed is rounded down
        (109, 0, 10, 10),  # within the dead band of 10 %
        (91, 0, 10, 10),
        (112, 0, 10, 12),
        (0, 30, 3, 3),  # messages in hand are work too
    ],
)
def test_a_backlog_is_shared_out(view, ready, in_hand, running, size):
    assert decide(view, ready=ready, unacknowledged=in_hand, running=running).size == size


def test_the_last_worker_goes_only_after_two_empty_measurements(view):
    once = decide(view, running=1, ready=0, unacknowledged=0, sample="1")
    assert once.size == 1
    again = Decision(size=1, reason="", memory=once.memory)
    seen_twice = decide(view, running=1, ready=0, unacknowledged=0, sample="2", previous=again)
    assert seen_twice.size == 0


@pytest.mark.parametrize("seen", [{}, {"ready": 500.0}, {"ready": 500.0, "age": 60.0}])
def test_a_backlog_that_is_not_known_or_old_holds(view, seen):
    decision = decide(view, running=4, **seen)
    assert decision.held
    assert decision.size == 4


@pytest.mark.parametrize(
    ("values", "size"),
    [
        ((60, 60), 2),
        ((90, 90), 3),
        ((63, 63), 2),  # within 10 %
        ((30, 30), 1),
        ((10, 10, 10), 1),
        ((100, 100, 100), 5),
    ],
)
def test_a_utilisation_is_brought_to_its_target(view, values, size):
    assert decide(view, CPU, running=len(values), figures=at(*values)).size == size


def test_silent_workers_do_not_make_a_pool_grow_or_shrink_by_themselves(view):
    hot = decide(view, CPU, running=4, figures=at(90, 90, None, None))
    assert hot.size == 4  # 180 / 60 are 3, and the silent ones may be idle
    cold = decide(view, CPU, running=4, figures=at(10, 10, None, None))
    assert cold.size == 3  # 20 + 2 x 60 are 140: the silent ones may be busy
    assert decide(view, CPU, running=4, figures=at(60, 60, None, None)).size == 4


def test_old_figures_count_as_none(view):
    decision = decide(view, CPU, running=2, figures=at(99, 99), heard_age=31.0)
    assert decision.held
    assert decision.size == 2


def test_a_utilisation_never_asks_for_nobody(view):
    assert decide(view, CPU, running=1, figures=at(0)).size == 1


@given(
    load=st.floats(0, 1e6),
    target=st.floats(0.01, 1e4),
    there=st.integers(0, 10_000),
    tolerance=st.floats(0, 0.5),
)
def test_a_constant_load_settles_in_one_step(load, target, there, tolerance):
    first = wanted_for(load, target, there, tolerance)
    assert wanted_for(load, target, first, tolerance) == first


@given(load=st.floats(0, 1e6), target=st.floats(0.01, 1e4), there=st.integers(0, 1000))
def test_nobody_has_more_than_the_target_outside_the_dead_band(load, target, there):
    wanted = wanted_for(load, target, there, 0.1)
    assert load <= wanted * target * 1.1 * (1 + 1e-6) + 1e-6


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({}, "target"),
        ({"target": 0, "queue": "q"}, "target"),
        ({"target": math.nan, "queue": "q"}, "target"),
        ({"target": 1}, "queue"),
        ({"target": 1, "queue": "q", "metric_kind": "speed"}, "metric_kind"),
        ({"target": 1, "queue": "q", "tolerance": 1}, "tolerance"),
        ({"target": 1, "metric_kind": "utilisation"}, "metric"),
        ({"target": 1, "queue": "q", "tolerence": 0.2}, "tolerence"),
    ],
)
def test_absurd_settings_are_refused_by_name(section, key):
    with pytest.raises(ConfigProblem, match=key):
        parse_pool("p", {"engine": {"type": "target_tracking", **section}})
