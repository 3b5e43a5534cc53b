"""Programs on this machine, each in a process group of its own.

A program starts behind a gate: a fixed two-word shell script waits for one line before it
becomes the program (``exec``, same pid). So its pid is in the record before its first
instruction, and a boot tool killed in between leaves nothing running.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import IO

from bootlevels.transports.output import TAIL_LINES, Output
from bootlevels.transports.process_group import GRACE, Waiter, end_group, mark_of
from bootlevels.transports.program import CutShort, Limit, ProgramEnd, ProgramRun, Started
from bootlevels.transports.staged import BOOTOUT, BOOTOUT_LIMIT, run_staged

__all__ = ["GRACE", "TAIL_LINES", "LocalTransport", "mark_of", "run_here"]

#: Words arrive as arguments and are never read as shell text.
_GATE = ["/bin/sh", "-c", 'read -r go && exec "$@" </dev/null', "sh"]
#: Seconds between two looks whether the boot tool was told to stop.
_TICK = 0.1

OnStarted = Callable[[Started], None]


class LocalTransport:
    """See ``Transport``. Output goes straight into the file, never through our memory."""

    def __init__(self) -> None:
        self._environment = dict(os.environ)  # decoded once, not for every program

    def run(self, program: ProgramRun, stop: Event, on_started: OnStarted) -> ProgramEnd:
        if program.stage is not None:
            return run_staged(_Here(program), program, stop, on_started)
        environment = {**self._environment, **program.environment}
        return run_here(
            program, program.words, environment, program.directory, Limit.of(program, stop),
            on_started,
        )  # fmt: skip

    def end_leftover(self, started: Started) -> bool:
        """End the group of a program whose boot tool died, if it is still that program."""
        if not started.mark or mark_of(started.pid) != started.mark:
            return False
        end_group(started.pid)
        return True


class _Here:
    """A stage on this machine, made without the help of other programs."""

    def __init__(self, program: ProgramRun) -> None:
        assert program.stage is not None
        self._program = program
        self._directory = program.directory / "stage" / program.stage.name

    def put(self, archive: IO[bytes], limit: Limit) -> None:
        try:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory.mkdir(mode=0o700, parents=True)
            with tarfile.open(fileobj=archive) as members:
                members.extractall(self._directory, filter="data")
        except (OSError, tarfile.TarError) as problem:
            what = f"can't be staged: {problem}"
            raise CutShort(ProgramEnd(exit_code=None, problem=what)) from None

    def follow(self, limit: Limit, on_started: OnStarted) -> ProgramEnd:
        assert self._program.stage is not None
        place = self._directory / self._program.stage.working
        environment = {
            **os.environ,
            **self._program.environment,
            "EPU_BOOTOUT": str(place / BOOTOUT),
        }
        return run_here(
            self._program, self._program.words, environment, place, limit, on_started
        )  # fmt: skip

    def read(self, name: str, limit: Limit) -> bytes | None:
        try:
            with (self._directory / name).open("rb") as file:
                return file.read(BOOTOUT_LIMIT)
        except FileNotFoundError:
            return None
        except OSError as problem:
            what = f"left a {name} that can't be read: {problem.strerror}"
            raise CutShort(ProgramEnd(exit_code=None, problem=what)) from None

    def remove(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)


def run_here(
    program: ProgramRun,
    words: Sequence[str],
    environment: Mapping[str, str],
    directory: Path,
    limit: Limit,
    on_started: OnStarted,
) -> ProgramEnd:
    """Run ``words`` as a process group of this machine; its output is the program's."""
    try:
        output = Output(program.log, program.secrets)
    except OSError as error:
        return ProgramEnd(exit_code=None, problem=f"its log can't be written: {error}")
    try:
        try:
            child = subprocess.Popen(
                [*_GATE, *words],
                stdin=subprocess.PIPE,
                stdout=output.file,
                stderr=subprocess.STDOUT,
                cwd=directory,
                env=environment,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            return ProgramEnd(exit_code=None, problem=f"can't be started: {error}")
        end = _follow(child, limit, on_started, output)
        return replace(end, tail=output.tail())
    finally:
        output.close()


def _follow(
    child: subprocess.Popen[bytes], limit: Limit, on_started: OnStarted, output: Output
) -> ProgramEnd:
    """Open the gate and wait; whatever happens, no part of the group is left by us."""
    assert child.stdin is not None
    waiter = Waiter(child)
    try:
        on_started(Started(child.pid, mark_of(child.pid)))
        with suppress(BrokenPipeError):
            child.stdin.write(b"go\n")
            child.stdin.close()
        while True:
            code = waiter.wait(min(_TICK, max(0.0, limit.deadline - time.monotonic())))
            if code is not None:
                return ProgramEnd(exit_code=code)
            output.hide_secrets()
            limit.left()
    except CutShort as cut:
        end_group(child.pid, child)
        return cut.end
    except BaseException:
        end_group(child.pid, child)
        raise
    finally:
        waiter.close()
        with suppress(OSError):
            child.stdin.close()
