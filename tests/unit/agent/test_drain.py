"""The drain's state machine, against a supervisord of a few lines."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.drain import Drain, Duty, next_step, workers_running
from agent.messages import ProcessState

STATES = ("STOPPED", "STARTING", "RUNNING", "BACKOFF", "STOPPING", "EXITED", "FATAL", "UNKNOWN")


class Supervisor:
    """Keeps states and does what it is told; jobs end when the test says so."""

    def __init__(self, **states: str) -> None:
        self.states = dict(states)

    def start(self, name: str) -> None:
        self.states[name] = "RUNNING"

    def stop(self, name: str) -> None:
        self.states[name] = "STOPPING"

    def finish(self) -> None:
        for name, state in self.states.items():
            if state == "STOPPING":
                self.states[name] = "STOPPED"

    def seen(self) -> tuple[ProcessState, ...]:
        return tuple(ProcessState(name=n, state=s) for n, s in self.states.items())


def test_a_drain_ends_the_workers_and_nothing_else(tmp_path: Path) -> None:
    supervisor = Supervisor(a="RUNNING", b="RUNNING", log="RUNNING")
    drain = Drain(tmp_path, {"a", "b"}, supervisor)
    drain.ask()
    assert not drain.advance(supervisor.seen()).drained
    assert supervisor.states == {"a": "STOPPING", "b": "STOPPING", "log": "RUNNING"}
    supervisor.finish()
    assert drain.advance(supervisor.seen()).drained


def test_a_worker_that_failed_has_nothing_to_finish(tmp_path: Path) -> None:
    supervisor = Supervisor(a="FATAL")
    drain = Drain(tmp_path, {"a"}, supervisor)
    drain.ask()
    assert drain.advance(supervisor.seen()).drained


def test_a_worker_that_is_about_to_be_restarted_is_not_drained() -> None:
    exited = (ProcessState(name="a", state="EXITED"),)
    assert not next_step(Duty.DRAIN, {"a"}, exited).drained


def test_no_answer_from_supervisord_is_not_drained() -> None:
    assert not next_step(Duty.DRAIN, {"a"}, None).drained


def test_a_drain_is_remembered_and_so_is_its_cancelling(tmp_path: Path) -> None:
    supervisor = Supervisor(a="STOPPED")
    Drain(tmp_path, {"a"}, supervisor).ask()
    again = Drain(tmp_path, {"a"}, supervisor)
    assert again.draining
    again.cancel()
    later = Drain(tmp_path, {"a"}, supervisor)
    assert later.duty is Duty.RETURN
    later.advance(supervisor.seen())
    assert supervisor.states == {"a": "RUNNING"}
    later.advance(supervisor.seen())
    assert Drain(tmp_path, {"a"}, supervisor).duty is Duty.WORK


def test_cancelling_what_does_not_drain_starts_nothing(tmp_path: Path) -> None:
    supervisor = Supervisor(a="STOPPED")
    drain = Drain(tmp_path, {"a"}, supervisor)
    drain.cancel()
    drain.advance(supervisor.seen())
    assert supervisor.states == {"a": "STOPPED"}, "a person stopped it"


def test_a_worker_that_is_stopping_comes_back_when_it_has_stopped(tmp_path: Path) -> None:
    supervisor = Supervisor(a="RUNNING")
    drain = Drain(tmp_path, {"a"}, supervisor)
    drain.ask()
    drain.advance(supervisor.seen())
    drain.cancel()
    drain.advance(supervisor.seen())
    assert drain.duty is Duty.RETURN
    supervisor.finish()
    drain.advance(supervisor.seen())
    assert supervisor.states == {"a": "RUNNING"}


def test_a_drain_asked_while_a_step_is_under_way_is_not_forgotten(tmp_path: Path) -> None:
    supervisor = Supervisor(a="RUNNING", b="RUNNING")
    drain = Drain(tmp_path, {"a", "b"}, supervisor)
    drain.ask()
    drain.cancel()

    class Interrupting(Supervisor):
        def start(self, name: str) -> None:
            super().start(name)
            drain.ask()  # another greenlet

    supervisor = Interrupting(a="STOPPED", b="RUNNING")
    drain._control = supervisor
    drain.advance(supervisor.seen())
    assert drain.draining


@pytest.mark.parametrize("text", ["", "[]", '{"duty": "x"}', '{"duty": []}', '{"duty": null}'])
def test_a_damaged_file_means_work(tmp_path: Path, text: str) -> None:
    (tmp_path / "duty.json").write_text(text)
    assert Drain(tmp_path, {"a"}, Supervisor()).duty is Duty.WORK


def test_a_full_disk_does_not_keep_a_node_from_draining(tmp_path: Path) -> None:
    drain = Drain(tmp_path / "not-there", {"a"}, Supervisor())
    drain.ask()
    assert drain.draining


@given(
    st.sampled_from(Duty),
    st.dictionaries(st.sampled_from(["a", "b", "other"]), st.sampled_from(STATES)),
)
def test_a_step_touches_only_workers_and_never_both_starts_and_stops(
    duty: Duty, states: dict[str, str]
) -> None:
    step = next_step(duty, {"a", "b"}, Supervisor(**states).seen())
    assert {*step.stop, *step.start} <= {"a", "b"}
    assert not (step.stop and step.start)
    if step.drained:
        assert duty is Duty.DRAIN
        assert all(states.get(name, "STOPPED") in ("STOPPED", "FATAL") for name in ("a", "b"))


def test_whether_workers_run_is_unknown_without_an_answer() -> None:
    assert workers_running({"a"}, None) is None
    assert workers_running({"a"}, (ProcessState(name="a", state="RUNNING"),)) is True
    assert workers_running({"a"}, (ProcessState(name="a", state="STOPPED"),)) is False
