"""Programs that a node runs for the boot tool: their files, their start, output and end.

Everything is in the run's own directory (0700) below ``program-runs`` of the node, so a
restarted agent answers as the old one would have. Who may ask is the broker's business:
only the coordinator's account may publish to an agent (``registrar.broker_accounts``).
"""

from __future__ import annotations

import base64
import binascii
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from agent import program_keeper
from agent.private_files import read_json, write_private_json
from agent.program_keeper import (
    ARCHIVE,
    CANCELLED,
    CLAIM,
    END,
    GRACE,
    OUTPUT,
    STAGE,
    START,
    mark_of,
)
from agent.program_keeper import claim as claim_run
from agent.program_messages import (
    CHUNK_BYTES,
    MAX_ARCHIVE_BYTES,
    RUN_ID,
    FilePiece,
    ProgramRunState,
    ProgramStart,
    ProgramStatus,
)

DIRECTORY = "program-runs"
_OWNER = "owner"
#: Runs that nobody has come back for are removed after so many seconds.
FORGOTTEN_AFTER = 86_400.0
_POLL = 0.05


class ProgramRunRefused(ValueError):
    """What was asked can't be done with that run; the text says why."""

    expected = True


class ProgramRuns:
    """All program runs of one node. ``environment`` is what every program of it is told."""

    def __init__(
        self,
        node_directory: Path,
        environment: Mapping[str, str],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._node_directory = node_directory
        self._directory = node_directory / DIRECTORY
        self._environment = dict(environment)
        self._sleep = sleep
        self._keepers: list[subprocess.Popen[bytes]] = []

    # ---------------------------------------------------------------- what can be asked

    def stage(self, run_id: str, owner: str, offset: int, content: str) -> int:
        """Take ``content`` (base64) of the run's tar stream at ``offset``. Bytes so far.

        ``owner`` says whose run it is: at its first piece every other run of the same owner
        is ended and removed. Again is harmless, also late: a run that was claimed takes no
        more. Raises ProgramRunRefused, OSError.
        """
        directory = self._path(run_id)
        if not directory.exists():
            if offset:
                raise ProgramRunRefused(f"the run {run_id} is not here: begin with its first piece")
            self._displace(owner, run_id)
            directory.mkdir(mode=0o700, parents=True)
            (directory / _OWNER).write_text(owner)
        if (directory / CLAIM).exists():
            raise ProgramRunRefused(f"the run {run_id} takes no more files")
        try:
            data = base64.b64decode(content, validate=True)
        except (binascii.Error, ValueError):
            raise ProgramRunRefused("a piece is not base64") from None
        if len(data) > CHUNK_BYTES or offset < 0 or offset + len(data) > MAX_ARCHIVE_BYTES:
            raise ProgramRunRefused(
                f"its files are more than {MAX_ARCHIVE_BYTES} bytes, or a piece more than "
                f"{CHUNK_BYTES}"
            )
        archive = os.open(directory / ARCHIVE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if offset > os.fstat(archive).st_size:
                raise ProgramRunRefused(f"a piece of the run {run_id} before {offset} is missing")
            os.pwrite(archive, data, offset)
            return os.fstat(archive).st_size
        finally:
            os.close(archive)

    def start(self, run_id: str, start: ProgramStart) -> ProgramStatus:
        """Start the run, once: asked again, only how far it is. Raises ProgramRunRefused."""
        directory = self._path(run_id)
        before = self.status(run_id)
        if before.state is not ProgramRunState.STAGED:
            return before
        with suppress(FileNotFoundError):
            if (directory / ARCHIVE).stat().st_size == start.archive_size:
                self._spawn(directory, start)
                return ProgramStatus(state=ProgramRunState.RUNNING)
        if (directory / CLAIM).exists():
            return self.status(run_id)  # a keeper has just begun with it
        raise ProgramRunRefused(f"not all files of the run {run_id} have arrived")

    def status(self, run_id: str, offset: int | None = None) -> ProgramStatus:
        """How far the run is, and its output from ``offset`` on (None: no output)."""
        directory = self._path(run_id)
        self._reap()
        if not directory.exists():
            return ProgramStatus(state=ProgramRunState.ABSENT)
        found = self._state(directory)
        piece = _piece(directory / OUTPUT, offset)
        return ProgramStatus(**found, output=piece.content, output_size=piece.size)

    def read(self, run_id: str, name: str, offset: int) -> FilePiece | None:
        """A piece of a file beside the program; None when there is none of that name."""
        stage = self._path(run_id) / STAGE
        path = (stage / name).resolve()
        if not path.is_relative_to(stage.resolve()):
            raise ProgramRunRefused(f"'{name}' is not beside the program")
        return _piece(path, offset) if path.is_file() else None

    def end(self, run_id: str) -> ProgramStatus:
        """End the run's whole process group; one that has not begun never will.

        Takes up to ``GRACE`` seconds. Again is harmless.
        """
        directory = self._path(run_id)
        if not directory.exists() or claim_run(directory, CANCELLED):
            return self.status(run_id)
        said = read_json(directory / CLAIM) or CANCELLED
        deadline = time.monotonic() + GRACE
        number: int = signal.SIGTERM
        while _is_its_group(said):
            try:
                os.killpg(said["pid"], number)
            except (ProcessLookupError, PermissionError):
                break
            if number == signal.SIGKILL:
                break
            number = signal.SIGKILL if time.monotonic() > deadline else 0
            self._reap()
            self._sleep(_POLL)
        return self.status(run_id)

    def remove(self, run_id: str) -> None:
        """End the run and remove all of it; nothing happens when there is none."""
        directory = self._path(run_id)
        if directory.exists():
            self.end(run_id)
            shutil.rmtree(directory, ignore_errors=True)

    def end_all(self) -> None:
        """End every run that goes on."""
        for run_id in self._known():
            self.end(run_id)

    # ---------------------------------------------------------------- parts

    def _path(self, run_id: str) -> Path:
        if not isinstance(run_id, str) or not RUN_ID.match(run_id):
            raise ProgramRunRefused("a run is named by 32 hexadecimal digits")
        return self._directory / run_id

    def _known(self) -> list[str]:
        with suppress(FileNotFoundError):
            return [path.name for path in self._directory.iterdir() if RUN_ID.match(path.name)]
        return []

    def _displace(self, owner: str, run_id: str) -> None:
        """Nothing of an earlier boot tool goes on beside the new run, or is kept for ever."""
        for other in self._known():
            directory = self._directory / other
            with suppress(FileNotFoundError):
                whose = (directory / _OWNER).read_text()
                idle = time.time() - directory.stat().st_mtime
                runs = self._state(directory)["state"] is ProgramRunState.RUNNING
                if other != run_id and (whose == owner or (idle > FORGOTTEN_AFTER and not runs)):
                    self.remove(other)

    def _spawn(self, directory: Path, start: ProgramStart) -> None:
        environment = {
            **self._environment, **start.environment, "EPU_PLACE": str(self._node_directory),
        }  # fmt: skip
        told = {
            "words": list(start.words),
            "environment": environment,
            "working": start.working,
            "timeout": start.timeout,
        }
        write_private_json(directory / START, told)
        words = [sys.executable, "-I", "-S", str(Path(program_keeper.__file__).resolve())]
        # Nothing may be left open: a log or a connection of ours in its hands.
        with (directory / "keeper.log").open("ab") as log:
            keeper = subprocess.Popen(
                [*words, str(directory)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._node_directory,
                start_new_session=True,
            )
        self._keepers.append(keeper)

    def _state(self, directory: Path) -> dict[str, Any]:
        claimed = read_json(directory / CLAIM)
        if claimed is None:
            starting = any(keeper.args[-1] == str(directory) for keeper in self._keepers)  # type: ignore[index]
            state = ProgramRunState.RUNNING if starting else ProgramRunState.STAGED
            return {"state": state}
        if claimed == CANCELLED:
            return {"state": ProgramRunState.CANCELLED}
        alive = mark_of(claimed["pid"]) == claimed["mark"]
        end = read_json(directory / END)  # looked at after the keeper: it writes, then ends
        if end is not None:
            return {"state": ProgramRunState.ENDED, **end}
        return {"state": ProgramRunState.RUNNING if alive else ProgramRunState.LOST}

    def _reap(self) -> None:
        self._keepers = [keeper for keeper in self._keepers if keeper.poll() is None]


def _is_its_group(said: Mapping[str, Any]) -> bool:
    """Whether a process group with that number can only be the run's.

    It is while its keeper runs, and after that (a killed keeper leaves its program) as long
    as nobody else has the number: the kernel gives none away that still names a group.
    """
    if not said["mark"]:
        return False
    mark = mark_of(said["pid"])
    same_boot = mark_of(os.getpid()).split("/")[0] == said["mark"].split("/")[0]
    return mark == said["mark"] or (not mark and same_boot)


def _piece(path: Path, offset: int | None) -> FilePiece:
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if offset is None:
                return FilePiece(content="", size=size)
            file.seek(max(0, offset))
            content = file.read(CHUNK_BYTES)
    except FileNotFoundError:
        return FilePiece(content="", size=0)
    size = max(size, max(0, offset) + len(content))
    return FilePiece(content=base64.b64encode(content).decode(), size=size)
