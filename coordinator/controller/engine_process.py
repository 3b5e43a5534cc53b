"""An engine that is not ours in a process of its own, seen from a cycle as a DecisionEngine.

Anybody's code may loop, sleep or crash its interpreter, and no signal or thread ends a C
function that holds the interpreter's lock; a process can always be killed. So each pool
with such an engine has one: the view goes in as a JSON line, the decision comes back as one
(see ``engine_host``). One that is late is killed and started anew, ever less often, and its
pool holds meanwhile. Only ``socket``, ``threading`` and ``subprocess`` are used, which
eventlet makes green: whoever waits here keeps no other greenlet (or thread) waiting.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, NoReturn

from agent.wire import from_wire, to_wire
from coordinator.engines.base import Decision, PoolView, is_ours
from coordinator.errors import EngineFailed
from coordinator.plugins import find_plugin
from coordinator.pool_values import PoolSpec

#: Seconds in which a process has to load its engine; some bring large libraries.
START_WITHIN = 30.0
#: Seconds between two starts after failures: doubling from the first to the longest.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
#: Bytes of an answer; more is a defect, not a decision.
LONGEST_ANSWER = 1_000_000


class _Failed(Exception):
    """What the engine itself raised, in its own words."""


class EngineProcess:
    """The engine of ``section`` (a pool's ``engine:``), hosted. Started at its first use.

    ``deadline``: seconds that a decision may take. One decision at a time.
    """

    def __init__(self, pool: str, section: Mapping[str, Any], deadline: float) -> None:
        self.Settings: type = find_plugin("epu.engines", str(section.get("type", ""))).Settings
        self._first = {"pool": pool, "section": dict(section), "deadline": deadline}
        self._deadline = deadline
        self._life: _Life | None = None
        self._starting = threading.Lock()
        self._failures = 0
        self._failure = ""
        self._start_at = 0.0
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The pid of the engine's process; None while there is none."""
        return None if self._life is None else self._life.pid

    def decide(self, view: PoolView) -> Decision:
        """The engine's decision. Raises EngineFailed, or what it raised by name and text."""
        with self._starting:
            life = self._running()
            try:
                answer = life.ask(to_wire(replace(view, settings=None)), self._deadline)
                if "raised" not in answer:
                    decision = from_wire(Decision, answer)
            except (OSError, ValueError) as problem:  # no JSON, no Decision
                self._end(self._late_or_dead(problem))
        self._failures = 0
        if "raised" in answer:
            raise _named(answer)
        return decision

    def close(self) -> None:
        """End the process for good; a decision that is being made fails."""
        self._closed = True
        if (life := self._life) is not None:
            self._life = None
            life.kill()

    def _running(self) -> _Life:
        if self._closed:
            raise EngineFailed("its pool has another engine now")
        if self._life is not None:
            return self._life
        if time.monotonic() < self._start_at:
            raise EngineFailed(self._failure)
        try:
            life = self._life = _Life(self._first)
            ready = life.answer(START_WITHIN)
        except (OSError, ValueError) as problem:
            self._end(
                f"it was not loaded within {START_WITHIN:g} s"
                if isinstance(problem, TimeoutError)
                else f"its process can't be started: {problem}"
            )
        if "raised" in ready:
            self._end(str(_named(ready)))
        return life

    def _late_or_dead(self, problem: Exception) -> str:
        if isinstance(problem, TimeoutError):
            return f"it gave no answer within {self._deadline:g} s and was killed"
        if isinstance(problem, ConnectionError):
            return "its process died"
        return f"its answer can't be used: {problem}"

    def _end(self, why: str) -> NoReturn:
        """Kill the process, remember why, and raise it."""
        if (life := self._life) is not None:
            self._life = None
            life.kill()
        pause = min(FIRST_PAUSE * 2.0 ** min(self._failures, 20), LONGEST_PAUSE)
        self._failures += 1
        self._failure = why
        self._start_at = time.monotonic() + pause
        raise EngineFailed(why) from None


class _Life:
    """One life of an engine's process."""

    def __init__(self, first: Mapping[str, Any]) -> None:
        self._connection, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "coordinator.controller.engine_host", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        except OSError:
            self._connection.close()
            raise
        finally:
            theirs.close()
        self.pid = self._process.pid
        self._buffer = b""
        self._first: Any = first

    def ask(self, message: Any, within: float) -> dict[str, Any]:
        """Send one line; the line that answers it. Raises TimeoutError, OSError, ValueError."""
        by = time.monotonic() + within
        self._send(message, by)
        return self._receive(by)

    def answer(self, within: float) -> dict[str, Any]:
        """Introduce the engine; what its process says to it."""
        return self.ask(self._first, within)

    def kill(self) -> None:
        """End the process and everything that it started, at once."""
        with suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5)

    def _send(self, message: Any, by: float) -> None:
        self._connection.settimeout(max(0.001, by - time.monotonic()))
        self._connection.sendall(json.dumps(message).encode() + b"\n")

    def _receive(self, by: float) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            if len(self._buffer) > LONGEST_ANSWER:
                raise ValueError(f"it is longer than {LONGEST_ANSWER} bytes")
            self._connection.settimeout(max(0.001, by - time.monotonic()))
            part = self._connection.recv(65536)
            if not part:
                raise ConnectionError("its process ended")
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        found = json.loads(line)
        if not isinstance(found, dict):
            raise ValueError("it is not an object")
        return found


def engine_for(spec: PoolSpec, deadline: float) -> Any:
    """The engine of a pool: ours in this process, anybody else's in one of its own.

    Raises ConfigProblem for an engine that does not exist.
    """
    found = find_plugin("epu.engines", spec.engine_type)
    if is_ours(found, spec.engine_settings):
        return found()
    return EngineProcess(spec.name, spec.engine, deadline)


def _named(answer: Mapping[str, Any]) -> Exception:
    """An exception of the engine's own name and text."""
    if answer["raised"] == EngineFailed.__name__:
        return EngineFailed(str(answer["text"]))
    kind = type(str(answer["raised"]), (_Failed,), {})
    found: Exception = kind(str(answer.get("text", "")))
    return found
