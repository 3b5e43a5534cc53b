"""Programs at the turning points of a node's life, and of its drain.

``run_hook`` runs one to its end; ``Aside`` runs one beside the beats and keeps its result.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.child import Child
from agent.node_role import Hook

_POLL = 0.1
#: Names the file whose touching is a hook's sign of life.
BEAT_VARIABLE = "EPU_HOOK_BEAT"


@dataclass(frozen=True, kw_only=True)
class HookEnd:
    """``ok``: it exited 0. ``problem``: one sentence, then the last lines it printed."""

    ok: bool
    problem: str = ""


def deadline_of(hook: Hook, began: float, last_sign: float) -> float:
    """When a hook is given up that began, and gave its last sign of life, at these times. PURE."""
    if not hook.heartbeat:
        return began + hook.timeout
    by_signs = last_sign + hook.heartbeat
    return min(max(began + hook.timeout, by_signs), began + hook.longest)


def run_hook(
    hook: Hook,
    directory: Path,
    environment: Mapping[str, str],
    cancelled: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> HookEnd:
    """Run a hook to its end; it is ended, with all that it started, when it takes too long."""
    handle, beat_file = tempfile.mkstemp(prefix="epu-hook-")
    os.close(handle)
    try:
        return _run(hook, directory, environment, beat_file, cancelled, clock, sleep)
    except OSError as problem:
        return HookEnd(ok=False, problem=f"{hook.command[0]!r} can't be run: {problem.strerror}")
    finally:
        with suppress(OSError):
            os.unlink(beat_file)


def _run(
    hook: Hook,
    directory: Path,
    environment: Mapping[str, str],
    beat_file: str,
    cancelled: Callable[[], bool],
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> HookEnd:
    began = last_sign = clock()
    with Child(hook.command, directory, {**environment, BEAT_VARIABLE: beat_file}) as child:
        signs = _signs(child, beat_file)
        while (code := child.poll()) is None:
            now = clock()
            if (seen := _signs(child, beat_file)) != signs:
                signs, last_sign = seen, now
            if cancelled():
                return HookEnd(ok=False, problem="it is not wanted any more")
            if now >= deadline_of(hook, began, last_sign):
                return _failed(f"it did not end in {now - began:.0f} s", child)
            sleep(_POLL)
        return HookEnd(ok=True) if code == 0 else _failed(f"exit status {code}", child)


def _failed(what: str, child: Child) -> HookEnd:
    tail = child.tail()
    return HookEnd(ok=False, problem=f"{what}\n{tail}" if tail else what)


def _signs(child: Child, beat_file: str) -> tuple[int, float]:
    touched = 0.0
    with suppress(OSError):
        touched = os.stat(beat_file).st_mtime
    return child.printed(), touched


class Aside:
    """Runs one program at a time in the background. Its end is taken by ``take``, once."""

    def __init__(
        self,
        directory: Path,
        environment: Mapping[str, str],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._directory = directory
        self._environment = environment
        self._sleep = sleep
        self._run = 0
        self._running = ""
        self._ends: dict[str, HookEnd] = {}

    def take(self, name: str, hook: Hook) -> HookEnd | None:
        """The end of ``name``; None while it runs. Starts it unless it runs or has ended."""
        if name in self._ends:
            return self._ends.pop(name)
        if self._running == name:
            return None
        self.cancel()
        self._running = name
        threading.Thread(target=self._do, args=(name, hook, self._run), daemon=True).start()
        return None

    def cancel(self) -> None:
        """What runs is ended; what has ended is forgotten."""
        self._run += 1
        self._running = ""
        self._ends.clear()

    def _do(self, name: str, hook: Hook, run: int) -> None:
        end = run_hook(
            hook,
            self._directory,
            self._environment,
            cancelled=lambda: run != self._run,
            sleep=self._sleep,
        )
        if run == self._run:
            self._ends[name] = end
            self._running = ""
