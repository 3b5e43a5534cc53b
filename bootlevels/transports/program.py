"""What every transport takes and gives: a program to run, and how it ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class ProgramRun:
    """One run of a program: words and environment with every reference resolved.

    ``log`` is the file its output is appended to; None keeps the output only until the
    program ends. ``timeout`` in seconds. Its arguments and environment may hold secrets.
    """

    service: str
    step: str
    words: tuple[str, ...] = field(repr=False)
    timeout: float
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    log: Path | None = None


@dataclass(frozen=True, kw_only=True)
class ProgramEnd:
    """How a program ended; ``tail`` are its last lines of output.

    ``exit_code`` is negative for a signal and None when it was ended by us, because of its
    time-out (``timed_out``) or because the boot tool was interrupted (``interrupted``), or
    when it could not be started (``problem``).
    """

    exit_code: int | None
    tail: tuple[str, ...] = ()
    timed_out: bool = False
    interrupted: bool = False
    problem: str = ""

    @property
    def ok(self) -> bool:
        return self.exit_code == 0


@dataclass(frozen=True)
class Started:
    """What identifies a running program later, also after its pid was used again."""

    pid: int
    mark: str


class Transport(Protocol):
    """Runs programs at one place."""

    def run(
        self, program: ProgramRun, stop: Event, on_started: Callable[[Started], None]
    ) -> ProgramEnd:
        """Run ``program`` to its end, its time-out or ``stop``, whichever is first.

        ``on_started`` is called before the program's own code runs.
        """
        ...

    def end_leftover(self, started: Started) -> bool:
        """End what is left of a program that an earlier boot tool started; True if any."""
        ...
