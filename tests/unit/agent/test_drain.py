"""The drain's state machine, against a supervisord of a few lines."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.drain import Drain, Duty, Means, Progress, next_step, workers_running
from agent.hooks import Aside, HookEnd
from agent.messages import DrainProgram, Hook, ProcessState

STATES = ("STOPPED", "STARTING", "RUNNING", "BACKOFF", "STOPPING", "EXITED", "FATAL", "UNKNOWN")


class Supervisor:
    """Keeps states and does what it is told; jobs end when the test says so."""

    def __init__(self, **states: str) -> None:
        self.states = dict(states)
        self.killed: list[str] = []

    def start(self, name: str) -> None:
        self.states[name] = "RUNNING"

    def stop(self, name: str) -> None:
        self.states[name] = "STOPPING"

    def signal(self, name: str, signal_name: str) -> None:
        assert signal_name == "KILL"
        self.states[name] = "STOPPED"
        self.killed.append(name)

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


def test_the_deadline_of_a_drain_that_was_cancelled_kills_nobody(tmp_path: Path) -> None:
    now = [0.0]
    supervisor = Supervisor(a="RUNNING")
    drain = Drain(tmp_path, {"a"}, supervisor, drain_timeout=10.0, clock=lambda: now[0])
    drain.ask()
    drain.advance(supervisor.seen())
    drain.cancel()
    now[0] = 60.0
    drain.advance(supervisor.seen())
    assert supervisor.states == {"a": "STOPPING"}, "it still has its job in hand"
    supervisor.finish()
    drain.advance(supervisor.seen())
    assert (supervisor.states, supervisor.killed) == ({"a": "RUNNING"}, [])


def test_a_worker_is_killed_at_the_deadline_that_was_said_last(tmp_path: Path) -> None:
    now = [0.0]
    supervisor = Supervisor(a="RUNNING")
    drain = Drain(tmp_path, {"a"}, supervisor, drain_timeout=10.0, clock=lambda: now[0])
    drain.ask(30.0)
    drain.advance(supervisor.seen())
    now[0] = 20.0
    drain.ask(40.0)
    now[0] = 59.0
    drain.advance(supervisor.seen())
    assert supervisor.killed == []
    now[0] = 61.0
    drain.advance(supervisor.seen())
    assert supervisor.killed == ["a"]
    assert drain.advance(supervisor.seen()).drained


class Programs(Aside):
    """Programs that end as the test says, at the second question."""

    def __init__(self, **ends: bool) -> None:
        self.ends = {name.replace("_", " ") if name != "on_drain" else name: ok
                     for name, ok in ends.items()}  # fmt: skip
        self.ran: list[str] = []
        self.running = ""

    def take(self, name: str, hook: Hook) -> HookEnd | None:
        if self.running != name:
            self.running = name
            self.ran.append(name)
            return None
        self.running = ""
        return HookEnd(ok=self.ends[name], problem="" if self.ends[name] else "it failed")

    def cancel(self) -> None:
        self.running = ""


def steps(drain: Drain, supervisor: Supervisor, count: int) -> list[bool]:
    return [drain.advance(supervisor.seen()).drained for _ in range(count)]


def test_with_a_drain_program_workers_are_stopped_only_once_they_are_idle(tmp_path: Path) -> None:
    idle: list[bool] = [False]
    supervisor, programs = Supervisor(a="RUNNING"), Programs(drain=True)
    means = Means(drain=DrainProgram(command=("pause",)))
    drain = Drain(tmp_path, {"a"}, supervisor, means, programs, is_idle=lambda since: idle[0])
    drain.ask()
    steps(drain, supervisor, 5)
    assert (programs.ran, supervisor.states) == (["drain"], {"a": "RUNNING"})
    idle[0] = True
    steps(drain, supervisor, 1)
    assert supervisor.states == {"a": "STOPPING"}
    supervisor.finish()
    assert steps(drain, supervisor, 1) == [True]


def test_a_drain_program_that_fails_is_run_again_and_nothing_else_happens(tmp_path: Path) -> None:
    supervisor, programs = Supervisor(a="RUNNING"), Programs(drain=False)
    means = Means(drain=DrainProgram(command=("pause",)))
    drain = Drain(tmp_path, {"a"}, supervisor, means, programs, is_idle=lambda since: True)
    drain.ask()
    steps(drain, supervisor, 6)
    assert programs.ran == ["drain"] * 3
    assert supervisor.states == {"a": "RUNNING"}
    assert "it failed" in drain.advance(supervisor.seen()).detail


def test_a_worker_that_was_started_since_is_told_too(tmp_path: Path) -> None:
    programs = Programs(drain=True)
    means = Means(drain=DrainProgram(command=("pause",)))
    drain = Drain(tmp_path, {"a"}, Supervisor(), means, programs, is_idle=lambda since: False)
    drain.ask()
    for pid in (1, 1, 1, 2, 2):
        drain.advance((ProcessState(name="a", state="RUNNING", pid=pid),))
    assert programs.ran == ["drain", "drain"]


@pytest.mark.parametrize(
    ("undo", "ran"), [(("resume",), ["drain", "undo of drain"]), ((), ["drain"])]
)
def test_a_cancelled_drain_is_undone_or_else_workers_begin_anew(
    tmp_path: Path, undo: tuple[str, ...], ran: list[str]
) -> None:
    supervisor, programs = Supervisor(a="RUNNING"), Programs(drain=True, undo_of_drain=True)
    means = Means(drain=DrainProgram(command=("pause",), undo=undo))
    drain = Drain(tmp_path, {"a"}, supervisor, means, programs)
    drain.ask()
    steps(drain, supervisor, 3)
    drain.cancel()
    steps(drain, supervisor, 3)
    assert programs.ran == ran
    if undo:
        assert (supervisor.states, drain.duty) == ({"a": "RUNNING"}, Duty.WORK)
        return
    assert supervisor.states == {"a": "STOPPING"}, "it may have a job in hand"
    supervisor.finish()
    steps(drain, supervisor, 2)
    assert (supervisor.states, drain.duty) == ({"a": "RUNNING"}, Duty.WORK)


@pytest.mark.parametrize(("default", "drained"), [("continue", True), ("abandon", False)])
def test_a_node_is_drained_when_its_hook_has_ended_or_may_be_passed_over(
    tmp_path: Path, default: str, drained: bool
) -> None:
    supervisor, programs = Supervisor(a="RUNNING"), Programs(on_drain=False)
    means = Means(on_drain=Hook(command=("save",), default=default))
    drain = Drain(tmp_path, {"a"}, supervisor, means, programs)
    drain.ask()
    steps(drain, supervisor, 1)
    assert programs.ran == [], "work has not ended"
    supervisor.finish()
    assert steps(drain, supervisor, 4)[-1] is drained
    assert programs.ran == (["on_drain"] if drained else ["on_drain"] * 2)


@given(
    st.lists(st.sampled_from(["job", "end", "look", "ask", "cancel", "crash"]), max_size=40),
    st.booleans(),
)
def test_whatever_happens_a_drained_node_has_no_job_in_hand_and_no_job_was_ever_cut(
    happenings: list[str], with_program: bool
) -> None:
    """I3 for a worker that is idle when it is chosen and takes a job before it hears of it."""
    world = World(with_program)
    for what in happenings:
        world.happen(what)
    assert world.cut == 0


class World:
    """One node: a worker that takes a job whenever it may, its supervisord, its agent.

    A worker takes no jobs once it got SIGTERM or was told by the drain program, and it ends on
    SIGTERM when its job has ended. The agent may be started anew at any time.
    """

    def __init__(self, with_program: bool) -> None:
        self.state, self.pid = "RUNNING", 1
        self.job = self.told = False
        self.cut = 0
        self.duty, self.progress = Duty.WORK, Progress()
        self.means = Means(
            drain=DrainProgram(command=("x",), undo=("y",)) if with_program else None
        )

    def happen(self, what: str) -> None:
        if what == "job" and self.state == "RUNNING" and not self.told:
            self.job = True
        elif what == "end":
            self.job = False
            if self.state == "STOPPING":
                self.state, self.told = "STOPPED", False
        elif what == "crash" and self.state == "RUNNING":
            self.job, self.told = False, False  # its own fault, not ours
            self.progress = Progress()
        elif what == "ask" and self.duty is not Duty.DRAIN:
            self.duty = Duty.DRAIN
        elif what == "cancel" and self.duty is Duty.DRAIN:
            self.duty = Duty.RETURN
        elif what == "look":
            self.look()

    def look(self) -> None:
        seen = (ProcessState(name="a", state=self.state, pid=self.pid),)
        idle = self.progress.told and not self.job
        told = Progress(told=self.progress.told, idle=idle)
        step = next_step(self.duty, {"a"}, seen, self.means, told)
        if step.tell:
            self.told, self.progress = True, Progress(told=True)
        if step.untell:
            self.told, self.progress = False, Progress()
        if step.stop and self.state == "RUNNING":
            self.state = "STOPPING" if self.job else "STOPPED"
            self.told = self.told and self.state == "STOPPING"
        if step.kill:
            self.cut += self.job
        if step.start:
            self.state, self.told = "RUNNING", False
        if step.drained:
            self.cut += self.job  # the machine goes
        if step.anew or step.duty is Duty.WORK:
            self.progress = Progress()
        self.duty = step.duty
