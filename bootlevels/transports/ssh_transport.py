"""Programs on a machine that is reached by ssh, each run over a connection of its own."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from threading import Event
from typing import IO

from bootlevels.transports.output import Output
from bootlevels.transports.program import (
    CutShort,
    Limit,
    ProgramEnd,
    ProgramRun,
    Stage,
    StagedFile,
    Started,
)
from bootlevels.transports.shell_words import (
    FETCH,
    NOT_THERE,
    PUT,
    PUT_BESIDE,
    REMOVE,
    REMOVE_LIMIT,
    RUN_SAYING_WHO,
    WHO,
    answer,
    script,
    who,
)
from bootlevels.transports.ssh import CONNECT_LIMIT, SshLink, SshTarget, linked
from bootlevels.transports.staged import BOOTOUT_LIMIT, run_staged

#: Beside the program, gone before its first instruction.
_ENVIRONMENT = ".environment"


class SshTransport:
    """Programs at ``target``; every program has a stage there."""

    def __init__(self, target: SshTarget) -> None:
        self._target = target

    def run(
        self, program: ProgramRun, stop: Event, on_started: Callable[[Started], None]
    ) -> ProgramEnd:
        try:
            program = _with_environment_file(program)
        except ValueError as problem:
            return ProgramEnd(exit_code=None, problem=f"can't be run: {problem}")
        door = _Stage(self._target, program)
        try:
            return run_staged(door, program, stop, on_started)
        finally:
            door.close()

    def end_leftover(self, started: Started) -> bool:
        """End the group of a program whose boot tool died, if it is still that program."""
        limit = Limit.seconds(CONNECT_LIMIT)
        with suppress(CutShort), linked(self._target, limit) as link:
            found = who(link.call(script(WHO, str(started.pid)), None, limit)[1])
            if found is not None and found.mark == started.mark:
                link.end_group(found)
                return True
        return False

    def call(
        self, words: Sequence[str], given: IO[bytes] | None, limit: Limit
    ) -> tuple[int, bytes]:
        """See ``Calls``."""
        with linked(self._target, limit) as link:
            return link.call(words, given, limit)

    def reach(self, limit: Limit) -> str:
        """Connect once: empty when that works, else why not. Raises CutShort for the limit."""
        try:
            with linked(self._target, limit) as link:
                link.call(script("exit 0"), None, limit)
        except CutShort as cut:
            if not cut.end.unreachable:
                raise
            return cut.end.problem
        return ""


def _with_environment_file(program: ProgramRun) -> ProgramRun:
    """The environment travels as a private file: sshd takes none, and all can read words."""
    for name in program.environment:
        if not name.isidentifier() or not name.isascii():
            raise ValueError(f"'{name}' can't be a variable's name there")
    lines = [f"export {n}={shlex.quote(v)}\n" for n, v in sorted(program.environment.items())]
    stage = program.stage or Stage(name=f"{program.service}-{program.step}", files=())
    file = StagedFile(name=_ENVIRONMENT, content="".join(lines).encode())
    return replace(program, stage=replace(stage, files=(*stage.files, file)))


class _Stage:
    """The door to one stage. Its connection lives as long as it works."""

    def __init__(self, target: SshTarget, program: ProgramRun) -> None:
        assert program.stage is not None
        self._target = target
        self._program = program
        self._directory = f"{target.stages}/{program.stage.name}"
        self._working = f"{self._directory}/{program.stage.working}".rstrip("/")
        self._link: SshLink | None = None

    def put(self, archive: IO[bytes], limit: Limit) -> None:
        assert self._program.stage is not None
        words = PUT if self._program.stage.anew else PUT_BESIDE
        code, said = self._linked(limit).call(script(words, self._directory), archive, limit)
        if code != 0:
            what = f"can't be staged: {said.decode(errors='replace').strip()[-200:]}"
            raise CutShort(ProgramEnd(exit_code=None, problem=what))

    def follow(self, limit: Limit, on_started: Callable[[Started], None]) -> ProgramEnd:
        try:
            output = Output(self._program.log, self._program.secrets)
        except OSError as error:
            return ProgramEnd(exit_code=None, problem=f"its log can't be written: {error}")
        try:
            words = script(RUN_SAYING_WHO, self._working, f"./{_ENVIRONMENT}", *self._program.words)
            end = self._linked(limit).follow(words, output, limit, on_started)
            return replace(end, tail=output.tail())
        finally:
            output.close()

    def read(self, name: str, limit: Limit) -> bytes | None:
        words = script(FETCH, f"{self._directory}/{name}", str(BOOTOUT_LIMIT))
        code, said = self._linked(limit).call(words, None, limit)
        if code == NOT_THERE:
            return None
        if code != 0:
            raise CutShort(ProgramEnd(exit_code=None, problem=f"left a {name} that can't be read"))
        return answer(said)

    def remove(self) -> None:
        if self._link is None:
            return  # never got there
        limit = Limit.seconds(REMOVE_LIMIT)
        with suppress(CutShort):
            self._linked(limit).call(script(REMOVE, self._directory), None, limit)

    def close(self) -> None:
        if self._link is not None:
            self._link.close()

    def _linked(self, limit: Limit) -> SshLink:
        if self._link is None or not self._link.is_alive():
            self.close()
            self._link = SshLink(self._target, limit)
        return self._link
