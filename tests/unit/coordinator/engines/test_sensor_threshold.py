"""sensor_threshold: steps by the heartbeats, and only by those that were heard."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.engines.base import Decision
from coordinator.engines.sensor_threshold import SensorThreshold, SensorThresholdSettings
from coordinator.errors import ConfigProblem
from coordinator.pool_spec import parse_pool

GOOD = {"metric": "load1", "scale_up_threshold": 4.0, "scale_down_threshold": 1.0}


def decide(view, **seen):
    wants = SensorThresholdSettings(**{**GOOD, **seen.pop("wants", {})})
    return SensorThreshold().decide(view(wants, **seen))


def loads(*values):
    return [None if value is None else {"load1": value} for value in values]


@pytest.mark.parametrize(("function", "size"), [("average", 3), ("sum", 4), ("max", 4), ("min", 2)])
def test_a_function_sums_the_workers_up(view, function, size):
    decision = decide(view, running=3, figures=loads(0.5, 1, 4.5), wants={"function": function})
    assert decision.size == size


def test_thresholds_are_strict(view):
    assert decide(view, running=2, figures=loads(4, 4)).size == 2
    assert decide(view, running=2, figures=loads(1, 1)).size == 2


def test_steps_are_as_large_as_the_settings(view):
    wants = {"scale_up_by": 3, "scale_down_by": 2}
    assert decide(view, running=2, figures=loads(9, 9), wants=wants).size == 5
    assert decide(view, running=5, figures=loads(*[0.1] * 5), wants=wants).size == 3


def test_a_silent_worker_is_missing_and_not_zero(view):
    decision = decide(view, running=2, figures=loads(2, None))
    assert decision.size == 2
    assert "1 workers don't say" in decision.reason


def test_no_data_at_all_holds(view):
    decision = decide(view, running=3)
    assert decision.held
    assert decision.size == 3


def test_the_next_step_waits_for_beats_after_the_last_one(view):
    first = decide(view, running=2, figures=loads(9, 9), now=100.0)
    assert first.size == 3
    stepped = Decision(size=3, reason="", memory=first.memory)
    same = decide(view, running=3, figures=loads(9, 9, 9), now=101.0, heard_age=2, previous=stepped)
    assert same.size == 3
    stepped = Decision(size=3, reason="", memory=same.memory)
    anew = decide(view, running=3, figures=loads(9, 9, 9), now=110.0, heard_age=2, previous=stepped)
    assert anew.size == 4


def test_no_step_is_made_while_a_worker_is_pending(view):
    assert decide(view, running=2, pending=1, figures=loads(9, 9)).size == 3


def test_the_last_worker_stays_since_without_it_there_is_nothing_to_go_by(view):
    decision = decide(view, running=1, figures=loads(0))
    assert decision.size == 1


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"metric": ""}, "metric"),
        ({"function": "median"}, "function"),
        ({"scale_down_threshold": 4.0}, "scale_down_threshold"),
        ({"scale_up_threshold": float("inf")}, "thresholds"),
        ({"scale_up_by": 0}, "scale_up_by"),
    ],
)
def test_absurd_settings_are_refused_by_name(changes, key):
    with pytest.raises(ConfigProblem, match=key):
        parse_pool("p", {"engine": {"type": "sensor_threshold", **GOOD, **changes}})


def test_a_step_waits_for_a_measurement_and_not_only_for_a_beat(view):
    """A sensor that measures each minute rides in six beats: they are one reading."""
    wants = SensorThresholdSettings(**{**GOOD, "metric": "depth"})
    before = Decision(size=2, reason="", memory={"stepped_at": 990.0})
    seen = view(wants, running=2, figures=[{"depth": 9.0}] * 2, previous=before, now=1000.0)

    def measured(age: float):
        aged = tuple(replace(one, figure_ages={"depth": age}) for one in seen.instances)
        return SensorThreshold().decide(replace(seen, instances=aged))

    assert measured(30.0).size == 2
    assert "waiting for new heartbeats" in measured(30.0).reason
    assert measured(0.0).size == 3


def test_a_step_that_a_bound_forbids_is_wished_again_in_the_same_words(view):
    """Else the size kept in between was the highest wish of a stabilization window, for ever."""
    first = decide(view, running=2, figures=loads(0, 0), now=100.0)
    assert first.size == 1
    forbidden = Decision(size=2, reason="", memory=first.memory)
    again = decide(view, running=2, figures=loads(0, 0), now=101.0, heard_age=2, previous=forbidden)
    assert (again.size, again.memory) == (1, first.memory)
    done = Decision(size=1, reason="", memory=again.memory)
    after = decide(view, running=1, figures=loads(9), now=102.0, heard_age=2, previous=done)
    assert after.size == 1 and after.memory == {"stepped_at": 102.0}
