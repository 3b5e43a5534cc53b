"""Programs on a machine by its cloud driver's own way (``RunsPrograms``).

The driver names a command of this host that is the program over there; it runs like any
local program: marked, in a process group, its output straight into the log.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import IO

from bootlevels.transports.local import LocalTransport, run_here
from bootlevels.transports.process_group import Waiter, end_group
from bootlevels.transports.program import CutShort, Limit, ProgramEnd, ProgramRun, Started
from bootlevels.transports.shell_words import (
    FETCH,
    NOT_THERE,
    PUT,
    PUT_BESIDE,
    REMOVE,
    REMOVE_LIMIT,
    RUN,
    answer,
    script,
)
from bootlevels.transports.staged import BOOTOUT_LIMIT, run_staged
from coordinator.clouds.base import ExecCommand, RunsPrograms
from coordinator.errors import EpuError

#: Below the machine's own directory.
_STAGES = "stage"
_TICK = 0.1
#: Bytes that a script may say before its answer.
_ROOM = 1 << 16


class ExecTransport:
    """Programs on the machine ``cloud_id`` of ``driver``; every program has a stage there."""

    def __init__(self, driver: RunsPrograms, cloud_id: str) -> None:
        self._driver = driver
        self._cloud_id = cloud_id

    def run(
        self, program: ProgramRun, stop: Event, on_started: Callable[[Started], None]
    ) -> ProgramEnd:
        return run_staged(_Stage(self, program), program, stop, on_started)

    def end_leftover(self, started: Started) -> bool:
        """The command was a process group of this host, and the program with it."""
        return LocalTransport().end_leftover(started)

    def call(
        self, words: Sequence[str], given: IO[bytes] | None, limit: Limit
    ) -> tuple[int, bytes]:
        """See ``Calls``; its group is ended when time is over."""
        command = self.command(words, {})
        with tempfile.TemporaryFile() as output:
            child = subprocess.Popen(
                command.words,
                stdin=subprocess.DEVNULL if given is None else given,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=command.directory,
                env=command.environment,
                start_new_session=True,
            )
            waiter = Waiter(child)
            try:
                while (code := waiter.wait(min(_TICK, limit.left()))) is None:
                    pass
            except BaseException:
                end_group(child.pid, child)
                raise
            finally:
                waiter.close()
            output.seek(0)
            return code, output.read(BOOTOUT_LIMIT + _ROOM)

    def command(self, words: Sequence[str], environment: Mapping[str, str]) -> ExecCommand:
        """The driver's command. Raises CutShort when the machine can't be reached."""
        try:
            return self._driver.exec_command(self._cloud_id, words, environment)
        except EpuError as problem:
            end = ProgramEnd(exit_code=None, problem=f"can't be run: {problem}", unreachable=True)
            raise CutShort(end) from None


class _Stage:
    """The door to one stage: each part of the work is a fixed script on the machine."""

    def __init__(self, machine: ExecTransport, program: ProgramRun) -> None:
        assert program.stage is not None
        self._machine = machine
        self._program = program
        self._directory = f"{_STAGES}/{program.stage.name}"
        self._working = f"{self._directory}/{program.stage.working}".rstrip("/")

    def put(self, archive: IO[bytes], limit: Limit) -> None:
        assert self._program.stage is not None
        words = PUT if self._program.stage.anew else PUT_BESIDE
        code, said = self._machine.call(script(words, self._directory), archive, limit)
        if code != 0:
            what = f"can't be staged: {said.decode(errors='replace').strip()[-200:]}"
            raise CutShort(ProgramEnd(exit_code=None, problem=what))

    def follow(self, limit: Limit, on_started: Callable[[Started], None]) -> ProgramEnd:
        words = script(RUN, self._working, *self._program.words)
        command = self._machine.command(words, self._program.environment)
        directory = Path(command.directory)
        return run_here(
            self._program, command.words, command.environment, directory, limit, on_started
        )

    def read(self, name: str, limit: Limit) -> bytes | None:
        words = script(FETCH, f"{self._directory}/{name}", str(BOOTOUT_LIMIT))
        code, said = self._machine.call(words, None, limit)
        if code == NOT_THERE:
            return None
        if code != 0:
            what = f"left a {name} that can't be read"
            raise CutShort(ProgramEnd(exit_code=None, problem=what))
        return answer(said)

    def remove(self) -> None:
        with suppress(CutShort):
            limit = Limit.seconds(REMOVE_LIMIT)
            self._machine.call(script(REMOVE, self._directory), None, limit)
