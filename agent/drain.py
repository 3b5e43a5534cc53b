"""Draining: workers finish the job in hand and take no more.

The state machine is PURE (``Duty``, ``next_step``); ``Drain`` is the thin part that stores
the duty and acts. Everything is level-triggered: each call looks at the process states and
does what is still missing, so lost or doubled requests and agent restarts change nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

from agent.messages import ProcessState
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
class Step:
    """What to do now, and what has been reached."""

    duty: Duty
    stop: tuple[str, ...] = ()
    start: tuple[str, ...] = ()
    drained: bool = False
    detail: str = ""


def next_step(
    duty: Duty, workers: Collection[str], processes: Iterable[ProcessState] | None
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
        stopped = tuple(sorted(name for name, state in seen.items() if state == "STOPPED"))
        leaving = any(state == "STOPPING" for state in seen.values())
        back = not stopped and not leaving
        return Step(duty=Duty.WORK if back else duty, start=stopped)
    running = sorted(name for name, state in seen.items() if state not in _ENDED)
    detail = f"waiting for {', '.join(running)}" if running else ""
    return Step(
        duty=duty,
        stop=tuple(name for name in running if seen[name] in _ALIVE),
        drained=not running,
        detail=detail,
    )


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


class Drain:
    """Keeps the duty across restarts of the agent and carries its steps out."""

    def __init__(self, directory: Path, workers: Collection[str], control: WorkerControl) -> None:
        self._file = directory / DUTY_FILE
        self._workers = frozenset(workers)
        self._control = control
        self._duty = _stored(self._file)

    @property
    def duty(self) -> Duty:
        return self._duty

    @property
    def draining(self) -> bool:
        return self._duty is Duty.DRAIN

    def ask(self) -> None:
        """From now on drain. Again: no change."""
        self._keep(Duty.DRAIN)

    def cancel(self) -> None:
        """Stop draining and bring back what was stopped for it; nothing when not draining."""
        if self._duty is Duty.DRAIN:
            self._keep(Duty.RETURN)

    def advance(self, processes: tuple[ProcessState, ...] | None) -> Step:
        """Do what the duty demands of these states.

        Raises SupervisorUnreachable or SupervisorRefused; the next call tries again.
        """
        duty = self._duty
        step = next_step(duty, self._workers, processes)
        for name in step.stop:
            self._control.stop(name)
        for name in step.start:
            self._control.start(name)
        if self._duty is duty:  # else somebody asked or cancelled while we were acting
            self._keep(step.duty)
        return step

    def _keep(self, duty: Duty) -> None:
        if duty is self._duty:
            return
        self._duty = duty
        try:
            write_private_json(self._file, {"duty": duty.value})
        except OSError as problem:  # a full disk must not keep a node from draining
            log.error("can't store the duty '%s': %s", duty.value, problem)


def _stored(path: Path) -> Duty:
    found = read_json(path)
    word = found.get("duty") if isinstance(found, dict) else None
    return next((duty for duty in Duty if duty.value == word), Duty.WORK)
