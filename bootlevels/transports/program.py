"""What every transport takes and gives: a program to run, and how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import IO, Protocol


@dataclass(frozen=True, kw_only=True)
class StagedFile:
    """A file of a stage: ``content``, or the file ``source`` of this machine."""

    name: str
    content: bytes = field(default=b"", repr=False)
    source: Path | None = None
    mode: int = 0o600


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Files that a program finds beside it, in a directory that exists only for its run.

    Unless it is not made ``anew`` (what lies there already stays) or not ``removed`` after
    the program. ``name`` tells it from other stages of the run. ``tarball`` is unpacked into the
    directory ``working`` of the stage, where the program then runs and the files are.
    """

    name: str
    files: tuple[StagedFile, ...]
    tarball: Path | None = None
    working: str = ""
    anew: bool = True
    removed: bool = True


@dataclass(frozen=True, kw_only=True)
class ProgramRun:
    """One run of a program: words and environment with every reference resolved.

    ``log`` is the file its output is appended to; None keeps the output only until the
    program ends; ``secrets`` are overwritten in it. ``timeout`` in seconds, everything
    that it needs at its place included. ``directory`` is this machine's, for what runs
    here; a ``stage`` is made and removed where the program runs, which it does in there.
    Its arguments and environment may hold secrets.
    """

    service: str
    step: str
    words: tuple[str, ...] = field(repr=False)
    timeout: float
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    log: Path | None = None
    stage: Stage | None = None
    secrets: frozenset[str] = field(default_factory=frozenset, repr=False)


@dataclass(frozen=True, kw_only=True)
class ProgramEnd:
    """How a program ended; ``tail`` are its last lines of output.

    ``bootout`` is the content of the stage's ``bootout.json``, if the program succeeded and
    wrote one; ``unreachable``: its place could not be reached.

    ``exit_code`` is negative for a signal and None when it was ended by us, because of its
    time-out (``timed_out``) or because the boot tool was interrupted (``interrupted``), or
    when it could not be started (``problem``).
    """

    exit_code: int | None
    tail: tuple[str, ...] = ()
    timed_out: bool = False
    interrupted: bool = False
    problem: str = ""
    unreachable: bool = False
    bootout: bytes | None = None

    @property
    def ok(self) -> bool:
        return self.exit_code == 0


@dataclass(frozen=True)
class Started:
    """What identifies a running program later, also after its pid was used again.

    ``pid`` is 0 when only the mark does. ``noted``: an earlier one that finds the program
    is on record, so nobody has to wait until this one is.
    """

    pid: int
    mark: str
    noted: bool = field(default=False, compare=False)


class CutShort(Exception):
    """A run that came to no end of its own; ``end`` says why."""

    def __init__(self, end: ProgramEnd) -> None:
        self.end = end
        super().__init__(end.problem)


@dataclass(frozen=True)
class Limit:
    """One clock for all parts of a run: a deadline (``time.monotonic``) and a stop signal."""

    deadline: float
    stop: Event

    @classmethod
    def of(cls, program: ProgramRun, stop: Event) -> Limit:
        return cls(time.monotonic() + program.timeout, stop)

    @classmethod
    def seconds(cls, seconds: float) -> Limit:
        """A limit of its own, for work that is done even when told to stop."""
        return cls(time.monotonic() + seconds, Event())

    @classmethod
    def within(cls, deadline: float, seconds: float) -> Limit:
        """At most ``seconds``, and not beyond ``deadline``."""
        return cls(min(deadline, time.monotonic() + seconds), Event())

    def left(self) -> float:
        """Seconds left. Raises CutShort when there are none, or when told to stop."""
        if self.stop.is_set():
            raise CutShort(ProgramEnd(exit_code=None, interrupted=True))
        seconds = self.deadline - time.monotonic()
        if seconds <= 0:
            raise CutShort(ProgramEnd(exit_code=None, timed_out=True))
        return seconds


class Transport(Protocol):
    """Runs programs at one place."""

    def run(
        self, program: ProgramRun, stop: Event, on_started: Callable[[Started], None]
    ) -> ProgramEnd:
        """Run ``program`` to its end, its time-out or ``stop``, whichever is first.

        ``on_started`` is called before the program's own code runs, and may be again.
        """
        ...

    def end_leftover(self, started: Started) -> bool:
        """End what is left of a program that an earlier boot tool started; True if any."""
        ...


class Calls(Protocol):
    """What a transport to another machine offers beside ``Transport``: short commands there."""

    def call(
        self, words: Sequence[str], given: IO[bytes] | None, limit: Limit
    ) -> tuple[int, bytes]:
        """Exit code and output (both kinds, limited) of ``words``, which read ``given``.

        A login shell may have printed things before. Raises CutShort.
        """
        ...
