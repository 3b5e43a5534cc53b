"""A program with files beside it: make the stage, run, fetch what it tells, remove the stage.

The stage is where the program runs, on whatever machine that is; how it gets there is the
door's business. It travels as one tar stream.
"""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from threading import Event
from typing import IO, Protocol

from bootlevels.transports.program import CutShort, Limit, ProgramEnd, ProgramRun, Stage, Started

#: What a boot program writes beside itself.
BOOTOUT = "bootout.json"
#: No more is ever fetched, bytes; ``bootlevels.bootout`` refuses what is as long as that.
BOOTOUT_LIMIT = 1_000_001
_IN_MEMORY = 1 << 20


class Door(Protocol):
    """The way into one stage at one place. Every method but ``remove`` may raise CutShort."""

    def put(self, archive: IO[bytes], limit: Limit) -> None:
        """Make the stage's directory (0700), anew if it says so; unpack ``archive`` into it."""
        ...

    def follow(self, limit: Limit, on_started: Callable[[Started], None]) -> ProgramEnd:
        """Run the program in there to its end; on any other end its whole group dies."""
        ...

    def read(self, name: str, limit: Limit) -> bytes | None:
        """At most BOOTOUT_LIMIT bytes of a file of the stage; None when there is none."""
        ...

    def remove(self) -> None:
        """Remove the stage, as well as it can be done within seconds."""
        ...


def run_staged(
    door: Door, program: ProgramRun, stop: Event, on_started: Callable[[Started], None]
) -> ProgramEnd:
    """Run ``program`` in its stage through ``door``, all of it on one clock."""
    assert program.stage is not None
    limit = Limit.of(program, stop)
    end = ProgramEnd(exit_code=None)
    try:
        with archive_of(program.stage) as archive:
            door.put(archive, limit)
        end = door.follow(limit, on_started)
        if end.ok and program.step == "boot":
            end = replace(end, bootout=_bootout(door, program.stage, limit))
    except CutShort as cut:
        end = replace(cut.end, tail=end.tail)
    finally:
        if program.stage.removed:
            door.remove()
    return end


def _bootout(door: Door, stage: Stage, limit: Limit) -> bytes | None:
    name = f"{stage.working}/{BOOTOUT}" if stage.working else BOOTOUT
    return door.read(name, limit)


def archive_of(stage: Stage) -> IO[bytes]:
    """The stage as a tar stream, at its beginning. Raises CutShort when a file can't be read."""
    archive: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115
    inside = f"{stage.working}/" if stage.working else ""
    try:
        with tarfile.open(fileobj=archive, mode="w") as members:
            if stage.tarball is not None:
                with tarfile.open(stage.tarball) as packed:
                    _copy(packed, members, stage.working)
            for file in stage.files:
                content = file.content if file.source is None else file.source.read_bytes()
                info = tarfile.TarInfo(f"{inside}{file.name}")
                info.mode, info.size = file.mode, len(content)
                members.addfile(info, BytesIO(content))
    except (OSError, EOFError, tarfile.TarError) as problem:
        archive.close()
        what = f"can't be staged: {problem}"
        raise CutShort(ProgramEnd(exit_code=None, problem=what)) from None
    archive.seek(0)
    return archive


def _copy(packed: tarfile.TarFile, members: tarfile.TarFile, name: str) -> None:
    """The members of a program's tarball, below ``name`` whether they were packed so or not."""
    found = [(member, member.name.removeprefix("./")) for member in packed]
    found = [(member, path) for member, path in found if path not in ("", ".")]
    wrapped = all(path == name or path.startswith(f"{name}/") for _, path in found)
    for member, path in found:
        # Raises for absolute paths, for ways out of the directory, for devices.
        safe = tarfile.data_filter(member, "/stage")
        info = safe.replace(name=path if wrapped else f"{name}/{path}", deep=False)
        info.uid = info.gid = 0
        info.mode = 0o700 if info.mode is None else info.mode  # directories have none
        info.uname = info.gname = ""
        if info.islnk() and not wrapped:
            info.linkname = f"{name}/{member.linkname.removeprefix('./')}"
        if path.removeprefix(f"{name}/") == "run.sh":
            info.mode = 0o700
        content = packed.extractfile(member) if member.isfile() else None
        members.addfile(info, content)


def tarball_problem(path: str, name: str) -> str:
    """What is wrong with a program's tarball that unpacks to ``name``; empty when nothing is."""
    try:
        with tarfile.open(path) as packed:
            paths = {member.name.removeprefix("./") for member in packed}
    except (OSError, EOFError, tarfile.TarError) as problem:
        return f"is not a tarball: {problem}"
    if not {"run.sh", f"{name}/run.sh"} & paths:
        return "holds no run.sh"
    return ""
