"""What a heartbeat says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.busy import BusyState
from agent.heartbeat import Facts, Pulse, looks_different, next_beat
from agent.messages import Heartbeat, ProcessState
from agent.wire import from_wire, to_wire


def facts(processes: tuple[ProcessState, ...] | None = ()) -> Facts:
    return Facts(now=100.0, ready=True, draining=False, drained=False, processes=processes)


def test_a_sequence_counts_from_one() -> None:
    pulse, first = next_beat(Pulse(boot_id="b"), facts(), "l1-0", "p")
    pulse, second = next_beat(pulse, facts(), "l1-0", "p")
    assert (first.sequence, second.sequence, first.boot_id) == (1, 2, "b")


@given(st.lists(st.booleans(), max_size=20))
def test_a_supervisor_is_lost_after_three_unanswered_questions_in_a_row(
    answers: list[bool],
) -> None:
    pulse = Pulse(boot_id="b")
    for count, answered in enumerate(answers, 1):
        pulse, beat = next_beat(pulse, facts(() if answered else None), "l1-0", "p")
        assert beat.supervisor_ok is answered
        assert pulse.supervisor_lost is (count >= 3 and not any(answers[count - 3 : count]))


def test_nothing_is_said_of_processes_that_were_not_seen() -> None:
    _, beat = next_beat(Pulse(boot_id="b"), facts(None), "l1-0", "p", {"work"})
    assert beat.processes == ()


def test_an_exit_that_is_being_repaired_is_no_exit() -> None:
    seen = (ProcessState(name="work", state="EXITED"), ProcessState(name="once", state="EXITED"))
    _, beat = next_beat(Pulse(boot_id="b"), facts(seen), "l1-0", "p", {"work"})
    assert {each.name: each.state for each in beat.processes} == {
        "work": "BACKOFF",
        "once": "EXITED",
    }


def test_a_beat_survives_the_wire() -> None:
    _, beat = next_beat(
        Pulse(boot_id="b"), facts((ProcessState(name="w", state="FATAL"),)), "l1-0", "p"
    )
    assert from_wire(Heartbeat, to_wire(beat)) == beat


def test_how_busy_a_node_is_rides_in_its_beat() -> None:
    state = BusyState(busy=None, spell=3.0, problem="its busy file is not there yet")
    _, beat = next_beat(Pulse(boot_id="b"), replace(facts(), busy=state), "l1-0", "p")
    assert (beat.busy, beat.busy_for, beat.jobs) == (None, 3.0, None)
    assert beat.busy_problem == "its busy file is not there yet"


def programs(**states: str) -> tuple[ProcessState, ...]:
    return tuple(
        ProcessState(name=name, state=text.split("/")[0], pid=int(text.partition("/")[2] or 0))
        for name, text in states.items()
    )


@pytest.mark.parametrize(
    ("then", "now", "news"),
    [
        ({"a": "RUNNING/1"}, {"a": "RUNNING/1"}, False),
        ({"a": "RUNNING/1"}, {"a": "FATAL"}, True),
        ({"a": "FATAL"}, {"a": "RUNNING/2"}, True),
        ({"a": "RUNNING/1"}, {"a": "RUNNING/2"}, True),
        ({"a": "RUNNING/1"}, {"a": "BACKOFF"}, False),
        ({"a": "BACKOFF"}, {"a": "STARTING/3"}, False),
        ({"a": "RUNNING/1"}, None, True),
        (None, None, False),
        (None, {"a": "RUNNING/1"}, True),
    ],
)
def test_a_change_that_lasts_is_news_and_a_restart_under_way_is_none(
    then: dict[str, str] | None, now: dict[str, str] | None, news: bool
) -> None:
    seen = None if then is None else programs(**then)
    _, beat = next_beat(Pulse(boot_id="b"), facts(seen), "l1-0", "p", {"a"})
    assert looks_different(beat, None if now is None else programs(**now)) is news
    assert not looks_different(None, programs(a="FATAL"))
