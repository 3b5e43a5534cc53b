"""An engine that is not ours in a process of its own, seen from a cycle as a DecisionEngine.

Anybody's code may loop, sleep or crash its interpreter, and no signal or thread ends a C
function that holds the interpreter's lock; a process can always be killed. So each pool
with such an engine has one: the view goes in as a JSON line, the decision comes back as one
(see ``engine_host``). One that is late is killed and started anew, ever less often, and its
pool holds meanwhile. It is imported there and nowhere else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NoReturn

from agent.wire import from_wire, to_wire
from coordinator.engine_life import EngineLife
from coordinator.engines.base import Decision, PoolView
from coordinator.errors import ConfigProblem, EngineFailed
from coordinator.foreign_engines import HostedSettings, settings_in
from coordinator.plugins import find_plugin
from coordinator.pool_values import PoolSpec

#: Seconds in which a process has to load its engine; some bring large libraries.
START_WITHIN = 30.0
#: Seconds between two starts after failures: doubling from the first to the longest.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0


class _Failed(Exception):
    """What the engine itself raised, in its own words."""


class EngineProcess:
    """The engine of ``section`` (a pool's ``engine:``), hosted. Started at its first use.

    ``deadline``: seconds that a decision may take. One decision at a time.
    """

    Settings: type = dict

    def __init__(self, section: Mapping[str, Any], deadline: float) -> None:
        self._section = dict(section)
        self._deadline = deadline
        self._queues: tuple[str, ...] = ()
        self._life: EngineLife | None = None
        self._starting = threading.Lock()
        self._failures = 0
        self._failure = ""
        self._start_at = 0.0
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The pid of the engine's process; None while there is none."""
        return None if self._life is None else self._life.pid

    def load(self) -> tuple[str, ...]:
        """Have the engine loaded; the queues that it follows. Raises EngineFailed."""
        with self._starting:
            self._running()
            return self._queues

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

    def _running(self) -> EngineLife:
        if self._closed:
            raise EngineFailed("its pool has another engine now")
        if self._life is not None:
            return self._life
        if time.monotonic() < self._start_at:
            raise EngineFailed(self._failure)
        try:
            life = self._life = EngineLife(self._section, self._deadline)
            ready = life.load(START_WITHIN)
            self._queues = settings_in(ready, self._section, "", "engine").queues
        except TimeoutError:
            self._end(f"it was not loaded within {START_WITHIN:g} s")
        except ConfigProblem as problem:
            self._end(str(problem))
        except (OSError, ValueError) as problem:
            self._end(f"its process can't be started: {problem}")
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


def engine_for(spec: PoolSpec, deadline: float) -> Any:
    """The engine of a pool: ours in this process, anybody else's in one of its own.

    Raises ConfigProblem for an engine that does not exist.
    """
    if isinstance(spec.engine_settings, HostedSettings):
        return EngineProcess(spec.engine, deadline)
    return find_plugin("epu.engines", spec.engine_type)()


def _named(answer: Mapping[str, Any]) -> Exception:
    """An exception of the engine's own name and text."""
    if answer["raised"] == EngineFailed.__name__:
        return EngineFailed(str(answer["text"]))
    kind = type(str(answer["raised"]), (_Failed,), {})
    found: Exception = kind(str(answer.get("text", "")))
    return found
