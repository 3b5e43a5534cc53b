"""Where a node is in its start, step by step: for the coordinator, and for its console.

What is told before enrolment reaches the coordinator with the request to enrol; when it
never comes to that, the console is all there is. So each step is a line of the log, and on a
machine of a cloud one of its console too, which ``coordinator.provisioner.boot_failure``
reads back.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress

from agent.messages import StartStep

log = logging.getLogger(__name__)

#: Where the environment names the machine's console; unset: there is none.
CONSOLE_VARIABLE = "EPU_CONSOLE"
#: Steps that are kept, and characters of a step's name and of its detail.
STEPS_KEPT = 20
NAME_LIMIT = 120
DETAIL_LIMIT = 1000


class StartLog:
    """The steps of one start, oldest first. A step that goes on replaces what it said before.

    ``console``: path of the machine's console; empty: there is none.
    """

    def __init__(self, clock: Callable[[], float] = time.time, console: str = "") -> None:
        self._clock = clock
        self._console = console
        self._steps: list[StartStep] = []

    def tell(self, name: str, detail: str = "") -> None:
        """Step ``name`` is reached, or stands as ``detail`` says. Repeating it says nothing new."""
        step = StartStep(name=name[:NAME_LIMIT], detail=_shortened(detail), at=self._clock())
        last = self._steps[-1] if self._steps else None
        if last is not None and (last.name, last.detail) == (step.name, step.detail):
            return
        if last is not None and last.name == step.name:
            self._steps.pop()
        self._steps = [*self._steps, step][-STEPS_KEPT:]
        line = f"[{step.name}] {' | '.join(step.detail.splitlines())}"
        log.info("%s", line)
        if self._console:
            say_on_console(self._console, f"{log.name}: {line}")

    @property
    def steps(self) -> tuple[StartStep, ...]:
        """All of them, oldest first."""
        return tuple(self._steps)

    @property
    def latest(self) -> StartStep | None:
        """Where the start is now."""
        return self._steps[-1] if self._steps else None


def say_on_console(console: str, line: str) -> None:
    """Print a line there if that is possible at once; nobody's start depends on it."""
    printable = "".join(char if char.isprintable() else "?" for char in line)
    with suppress(OSError), open(console, "wb", buffering=0, opener=_at_once) as terminal:
        terminal.write(f"{printable}\n".encode())


def _at_once(path: str, _: int) -> int:
    # A console may be a serial line that nobody reads, or a fifo without a reader.
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOCTTY | os.O_NONBLOCK)


def _shortened(text: str) -> str:
    """What a step says, at most DETAIL_LIMIT characters: its begin, and more of its end."""
    if len(text) <= DETAIL_LIMIT:
        return text
    return f"{text[:200]} … {text[203 - DETAIL_LIMIT :]}"
