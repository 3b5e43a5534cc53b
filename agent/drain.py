"""Draining: workers finish the job in hand and take no more.

The state machine is PURE (``Duty``, ``next_step``); ``Drain`` is the thin part that stores
the duty and acts. Everything is level-triggered: each call looks at the process states and
does what is still missing, so lost or doubled requests and agent restarts change nothing.

A worker that got SIGTERM is killed at the drain's deadline by us and not by its supervisord:
the deadline of a drain that is cancelled must not end the job that goes on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Protocol

from agent.hooks import Aside
from agent.messages import DrainProgram, Hook, ProcessState
from agent.private_files import read_json, write_private_json

log = logging.getLogger(__name__)

DUTY_FILE = "duty.json"

_ALIVE = frozenset({"STARTING", "RUNNING", "BACKOFF"})
#: Ended, and supervisord will not start it again. (EXITED is no such state: our workers
#: have ``autorestart``, so it lasts for a moment and is followed by STARTING.)
_ENDED = frozenset({"STOPPED", "FATAL"})


class Duty(str, Enum):
    """What the node's workers are supposed to do."""

    WORK = "work"
    DRAIN = "drain"
    RETURN = "return"
    """A drain was cancelled: workers that stopped for it are started again, then WORK."""


@dataclass(frozen=True, kw_only=True)
class Means:
    """How a role drains: by SIGTERM alone unless it has programs for it."""

    drain: DrainProgram | None = None
    on_drain: Hook | None = None


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a drain is. ``told``: its drain program ended well, so that workers take no more
    jobs; ``idle``: the busy source has said since then that no work is in hand; ``hooked``:
    ``on_drain`` is done; ``overdue``: the deadline has passed.
    """

    told: bool = False
    idle: bool = False
    hooked: bool = False
    overdue: bool = False


@dataclass(frozen=True, kw_only=True)
class Step:
    """What to do now, and what has been reached. ``tell``, ``untell``, ``hook``: run the drain
    program, its undoing, ``on_drain``. ``anew``: what was told died with its workers.
    """

    duty: Duty
    stop: tuple[str, ...] = ()
    kill: tuple[str, ...] = ()
    start: tuple[str, ...] = ()
    tell: bool = False
    untell: bool = False
    hook: bool = False
    anew: bool = False
    drained: bool = False
    detail: str = ""


_SIGTERM_ALONE = Means()
_BEGIN = Progress()


def next_step(
    duty: Duty,
    workers: Collection[str],
    processes: Iterable[ProcessState] | None,
    means: Means = _SIGTERM_ALONE,
    progress: Progress = _BEGIN,
) -> Step:
    """The next step from what supervisord says (None: it does not answer).

    Drained is only what was seen: no answer means not drained. A worker that supervisord
    does not know does not run (the caller says "drained" only once it has added them).
    """
    if duty is Duty.WORK:
        return Step(duty=duty)
    if processes is None:
        return Step(duty=duty, detail="supervisord does not answer")
    seen = {process.name: process.state for process in processes if process.name in workers}
    if duty is Duty.RETURN:
        return _returning(seen, means, progress)
    running = sorted(name for name, state in seen.items() if state not in _ENDED)
    if not running:
        if means.on_drain is not None and not progress.hooked:
            return Step(duty=duty, hook=True, detail="on_drain has not ended yet")
        return Step(duty=duty, drained=True)
    names = ", ".join(running)
    if means.drain is not None and not progress.overdue:
        if not progress.told:
            return Step(duty=duty, tell=True, detail=f"the drain program for {names} has to end")
        if not progress.idle:
            return Step(duty=duty, detail=f"{names}: work is in hand, or may be")
    return Step(
        duty=duty,
        stop=tuple(name for name in running if seen[name] in _ALIVE),
        kill=tuple(name for name in running if progress.overdue and seen[name] == "STOPPING"),
        detail=f"waiting for {names}",
    )


def _returning(seen: dict[str, str], means: Means, progress: Progress) -> Step:
    stopped = tuple(sorted(name for name, state in seen.items() if state == "STOPPED"))
    leaving = any(state == "STOPPING" for state in seen.values())
    alive = tuple(sorted(name for name, state in seen.items() if state in _ALIVE))
    if progress.told and alive and means.drain is not None:
        if means.drain.undo:
            return Step(duty=Duty.RETURN, untell=True, detail="the drain is being undone")
        # Nobody can tell them to work again: they finish what they have and begin anew.
        return Step(duty=Duty.RETURN, stop=alive, detail="workers are started anew")
    if progress.told and leaving:
        return Step(duty=Duty.RETURN, detail="workers are started anew")
    if progress.told:
        return Step(duty=Duty.RETURN, start=stopped, anew=True)
    back = not stopped and not leaving
    return Step(duty=Duty.WORK if back else Duty.RETURN, start=stopped)


def workers_running(
    workers: Collection[str], processes: Iterable[ProcessState] | None
) -> bool | None:
    """Whether any worker process is alive; None when supervisord does not answer."""
    if processes is None or not workers:
        return None
    return any(p.name in workers and p.state not in _ENDED for p in processes)


class WorkerControl(Protocol):
    """What draining needs of ``ProcessProbe``."""

    def start(self, name: str) -> None: ...

    def stop(self, name: str) -> None: ...

    def signal(self, name: str, signal_name: str) -> None: ...


class Drain:
    """Keeps the duty across restarts of the agent and carries its steps out.

    ``programs`` runs the role's programs of ``means``; ``is_idle(since)``: whether the busy
    source, asked after that moment of ``clock``, said that no work is in hand.
    ``drain_timeout``: seconds that a drain has when nobody says another time.
    """

    def __init__(
        self,
        directory: Path,
        workers: Collection[str],
        control: WorkerControl,
        means: Means = _SIGTERM_ALONE,
        programs: Aside | None = None,
        is_idle: Callable[[float], bool] = lambda since: False,
        drain_timeout: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._file = directory / DUTY_FILE
        self._workers = frozenset(workers)
        self._control = control
        self._means = means
        self._programs = programs or Aside(directory, {})
        self._is_idle = is_idle
        self._drain_timeout = drain_timeout
        self._clock = clock
        self._duty, self._progress = _stored(self._file)
        # After a restart of the agent the drain's whole time begins anew: whoever wants the
        # drain has the true deadline, and says it with each question.
        self._deadline = clock() + drain_timeout
        self._told_at = clock()
        #: Processes that were told. Others, started since by supervisord, were not.
        self._told: frozenset[int] | None = None
        self._problem = ""

    @property
    def duty(self) -> Duty:
        return self._duty

    @property
    def draining(self) -> bool:
        return self._duty is Duty.DRAIN

    @property
    def seconds_left(self) -> float:
        """Until the deadline of a drain that has begun."""
        return max(0.0, self._deadline - self._clock())

    def ask(self, within: float | None = None) -> None:
        """From now on drain, within so many seconds. Again: no change but of the deadline."""
        if within is not None:
            self._deadline = self._clock() + within
        elif self._duty is not Duty.DRAIN:
            self._deadline = self._clock() + self._drain_timeout
        if self._duty is not Duty.DRAIN:
            self._keep(Duty.DRAIN, replace(self._progress, hooked=False))

    def cancel(self) -> None:
        """Stop draining and bring back what was stopped for it; nothing when not draining."""
        if self._duty is Duty.DRAIN:
            self._programs.cancel()
            self._keep(Duty.RETURN, self._progress)

    def advance(self, processes: tuple[ProcessState, ...] | None) -> Step:
        """Do what the duty demands of these states.

        Raises SupervisorUnreachable or SupervisorRefused; the next call tries again.
        """
        duty, progress = self._duty, self._progress
        pids = frozenset(p.pid for p in processes or () if p.name in self._workers and p.pid)
        step = next_step(duty, self._workers, processes, self._means, self._seen(progress, pids))
        for name in step.stop:
            self._control.stop(name)
        for name in step.kill:
            log.warning("%s is killed: its drain has taken all of its time", name)
            self._control.signal(name, "KILL")
        for name in step.start:
            self._control.start(name)
        after = self._run_programs(step, progress, pids)
        if step.duty is Duty.WORK or step.anew:
            after = _BEGIN
        if self._duty is duty:  # else somebody asked or cancelled while we were acting
            self._keep(step.duty, after)
        problem = self._problem if step.tell or step.untell or step.hook else ""
        return replace(step, detail=f"{step.detail}: {problem}") if problem else step

    def _seen(self, progress: Progress, pids: frozenset[int]) -> Progress:
        """What is stored, and what the moment adds."""
        if self._duty is not Duty.DRAIN:
            return progress
        overdue = self._clock() > self._deadline
        told = progress.told and self._told is not None and pids <= self._told
        idle = told and not overdue and self._is_idle(self._told_at)
        return replace(progress, told=told, idle=idle, overdue=overdue)

    def _run_programs(self, step: Step, progress: Progress, pids: frozenset[int]) -> Progress:
        """Run what the step wants run; the progress that an end of it makes."""
        drain, on_drain = self._means.drain, self._means.on_drain
        if step.tell and drain is not None:
            hook = Hook(command=drain.command, timeout=drain.timeout)
            if self._ended_well("drain", hook):
                self._told_at, self._told = self._clock(), pids
                return replace(progress, told=True)
        elif step.untell and drain is not None:
            hook = Hook(command=drain.undo, timeout=drain.timeout)
            if self._ended_well("undo of drain", hook):
                return replace(progress, told=False)
        elif step.hook and on_drain is not None and self._ended_well("on_drain", on_drain):
            return replace(progress, hooked=True)
        return progress

    def _ended_well(self, name: str, hook: Hook) -> bool:
        """Whether it has ended, and well, or badly enough to go on. Else it is run again."""
        end = self._programs.take(name, hook)
        if end is None:
            return False
        if not end.ok and end.problem != self._problem:
            log.error("%s failed: %s", name, end.problem)
        self._problem = end.problem
        return end.ok or (name == "on_drain" and hook.default == "continue")

    def _keep(self, duty: Duty, progress: Progress) -> None:
        if duty is self._duty and progress == self._progress:
            return
        self._duty, self._progress = duty, progress
        words = {"duty": duty.value, "told": progress.told, "hooked": progress.hooked}
        try:
            write_private_json(self._file, words)
        except OSError as problem:  # a full disk must not keep a node from draining
            log.error("can't store the duty '%s': %s", duty.value, problem)


def _stored(path: Path) -> tuple[Duty, Progress]:
    found = read_json(path)
    if not isinstance(found, dict):
        return Duty.WORK, _BEGIN
    duty = next((duty for duty in Duty if duty.value == found.get("duty")), Duty.WORK)
    progress = Progress(told=found.get("told") is True, hooked=found.get("hooked") is True)
    return duty, progress
