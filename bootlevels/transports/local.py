"""Programs on this machine, each in a process group of its own.

A program has a mark of its own in its environment (``EPU_PROGRAM``), which is on record
before the program exists; its pid follows within moments. So a boot tool killed at any time
leaves nothing that the next one can't find and end.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import tarfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import IO

from bootlevels.transports.output import TAIL_LINES, Output
from bootlevels.transports.process_group import GRACE, Waiter, end_group, groups_marked, mark_of
from bootlevels.transports.program import CutShort, Limit, ProgramEnd, ProgramRun, Started
from bootlevels.transports.staged import BOOTOUT, BOOTOUT_LIMIT, run_staged

__all__ = ["GRACE", "TAIL_LINES", "LocalTransport", "mark_of", "run_here"]

#: The variable by which processes of one program are recognised.
MARK_VARIABLE = "EPU_PROGRAM"
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
        """End what is left of the group of a program whose boot tool died; True if any.

        What the program itself put into a group of its own, a daemon, is not looked for
        when the program's group is known.
        """
        which, _, token = started.mark.partition(" ") if started.pid else ("", "", started.mark)
        if which and mark_of(started.pid) == which:
            groups = {started.pid}
        else:
            groups = groups_marked(f"{MARK_VARIABLE}={token}") if token else set()
            groups &= {started.pid} if started.pid else groups
        for group in groups:
            end_group(group)
        return bool(groups)


class _Here:
    """A stage on this machine, made without the help of other programs."""

    def __init__(self, program: ProgramRun) -> None:
        assert program.stage is not None
        self._program = program
        self._directory = program.directory / "stage" / program.stage.name

    def put(self, archive: IO[bytes], limit: Limit) -> None:
        try:
            assert self._program.stage is not None
            if self._program.stage.anew:
                shutil.rmtree(self._directory, ignore_errors=True)
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tarfile.open(fileobj=archive) as members:
                for member in members:
                    if not member.isdir():  # it may be a program that runs
                        (self._directory / member.name).unlink(missing_ok=True)
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
    token = uuid.uuid4().hex
    try:
        on_started(Started(0, token))
        try:
            marked = {**environment, MARK_VARIABLE: token}
            child = _spawned(words, output, directory, marked)
        except (OSError, ValueError) as error:
            return ProgramEnd(exit_code=None, problem=f"can't be started: {error}")
        end = _follow(child, token, limit, on_started, output)
        return replace(end, tail=output.tail())
    finally:
        output.close()


def _spawned(
    words: Sequence[str], output: Output, directory: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output.file,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=environment,
            start_new_session=True,
        )
    except OSError as problem:
        if problem.errno != errno.ENOEXEC:
            raise
    # A script without its first line: every shell runs it, and so do we.
    return _spawned(["/bin/sh", *words], output, directory, environment)


def _follow(
    child: subprocess.Popen[bytes],
    token: str,
    limit: Limit,
    on_started: OnStarted,
    output: Output,
) -> ProgramEnd:
    """Wait for its end; whatever happens, no part of the group is left by us."""
    waiter = Waiter(child)
    try:
        on_started(Started(child.pid, f"{mark_of(child.pid)} {token}", noted=True))
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
