"""The ``process`` cloud: a machine is a directory and a session of processes on this host.

The machine's "init" is a supervisord that keeps the agent running; the pool's programs are
added by the agent. It is the embedded default: no root, no image, no network.
"""

from __future__ import annotations

import errno
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from coordinator.clouds.base import CloudInstance, ExecCommand, LaunchRequest, MachineState
from coordinator.clouds.process_machine import LOCK_TIMEOUT, MachineDirectory, MachineRecord
from coordinator.clouds.process_start import ensure_started, machine_environment
from coordinator.clouds.process_table import (
    ProcessTable,
    StillRunning,
    command_line,
    start_time,
)
from coordinator.errors import (
    ConfigProblem,
    EpuError,
    LaunchRefused,
    NotFound,
    Problem,
    RetryLater,
    did_you_mean,
)

_LAUNCH_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}\Z")
_CLOUD_ID = re.compile(r"(?P<node_id>[A-Za-z0-9][A-Za-z0-9_-]{0,140})\.(?P<mark>[0-9a-f]{24})\Z")
#: supervisord reads these in a path as a pattern, a comment, a variable or a line's end.
_NOT_IN_ROOT = re.compile(r"[\x00-\x1f\x7f*?\[\];#%]")
#: Want of space, memory or processes: it passes.
_PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}
_END_TIMEOUT = 20.0
_CONSOLE_BYTES = 16_384


class MachineProcess(NamedTuple):
    """One process of a machine; ``created`` in seconds since the epoch."""

    pid: int
    created: float
    command: str


@dataclass(frozen=True)
class _Listed:
    """A machine as its directory tells it, before anybody looked at processes."""

    record: MachineRecord
    started: bool
    terminated: bool
    being_started: bool


class ProcessCloud:
    """Machines as process groups of this host, below one directory (``root``).

    Promises: exact listings (``consistency_window`` 0); launches idempotent in launch id
    and index for ever, from any process, also after a kill at any point; a machine that
    was terminated or died is never started again. A machine launched without user-data,
    which is the agent's configuration, has no agent: it is supervisord and its directory,
    and programs come to it by ``exec_command``. A machine outlives whoever launched it,
    and is alive while any of its processes is; one without is listed as GONE until it is
    terminated. Assumes: Linux, a local file system with flock, one user for all
    processes. It touches nothing without the machine's own random mark. Control groups
    are not used. Safe for threads.
    """

    consistency_window = 0.0
    batches = True
    user_data_form = "agent-config"

    def __init__(self, root: Path, agent_command: Sequence[str] = ()) -> None:
        """``agent_command`` replaces the agent, for tests of the driver itself."""
        self.root = root
        self._agent_command = tuple(agent_command)
        self._table = ProcessTable()
        self._records: dict[str, MachineRecord] = {}

    @classmethod
    def from_settings(cls, settings: Mapping[str, str], state_dir: Path) -> ProcessCloud:
        """Keys: ``root`` (default: ``state_dir``), ``agent_command`` (JSON list)."""
        known = {"root", "agent_command"}
        problems = [
            Problem(key=key, what="unknown key", remedy=did_you_mean(key, known))
            for key in sorted(settings.keys() - known)
        ]
        root = Path(settings.get("root") or state_dir).expanduser().absolute()
        if _NOT_IN_ROOT.search(str(root)):
            problems.append(Problem(key="root", what=f"'{root}' holds one of * ? [ ] ; # %"))
        words: object = None
        with suppress(ValueError):
            words = json.loads(settings.get("agent_command", "[]"))
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            problems.append(Problem(key="agent_command", what="must be a JSON list of words"))
            words = []
        if problems:
            raise ConfigProblem(problems)
        return cls(root, words)

    def launch(self, request: LaunchRequest) -> None:
        """Start what is not started yet of ``request``; returns once supervisord was executed.

        A launch id that another run used is refused.
        """
        if not _LAUNCH_ID.match(request.launch_id):
            raise LaunchRefused(f"'{request.launch_id}' can't be the name of a directory")
        with _disk_errors_named(f"{request.launch_id} can't be launched", LaunchRefused):
            for index in range(request.count):
                directory = self._directory(f"{request.launch_id}-{index}")
                ensure_started(directory, request, index, self._table, self._agent_command)

    def list_instances(
        self, run: str, launch_ids: Sequence[str] | None = None
    ) -> Sequence[CloudInstance]:
        """Every machine of ``run`` that was started and not terminated.

        One look at the process table, whatever the number of machines. A terminated
        machine that still has processes is listed as STOPPING.
        """
        wanted = None if launch_ids is None else set(launch_ids)
        # Directories first: what was started before the look has processes in it, or died.
        with _disk_errors_named("machines can't be listed", RetryLater):
            listed = list(self._directories(run, wanted))
        if not listed:
            return []
        alive = set(self._table.by_mark())
        if any(m.started and not m.terminated and m.record.mark not in alive for m in listed):
            # A process has no mark for an instant while it executes another program, and
            # GONE is for ever: look again.
            time.sleep(0.02)
            alive |= set(self._table.by_mark())
        return [
            _as_instance(m, state)
            for m in listed
            if (state := _state(m, m.record.mark in alive)) is not None
        ]

    def terminate(self, cloud_ids: Sequence[str]) -> None:
        """End these machines and wipe their directories, logs excepted.

        Returns when no process of them is left; RetryLater when some could not be ended.
        """
        found = [match for cloud_id in cloud_ids if (match := _CLOUD_ID.match(cloud_id))]
        marks = [match["mark"] for match in found]
        machines = [
            (directory, record)
            for match in found
            if (record := self._record(directory := self._directory(match["node_id"])))
            and record.mark == match["mark"]
        ]
        full_disk: OSError | None = None
        for directory, _ in machines:
            try:
                directory.mark_terminated()
            except OSError as problem:  # a full disk must not keep machines alive
                full_disk = problem
        try:
            self._table.end(marks, _END_TIMEOUT)
            for directory, record in machines:
                # A launch that is under way either has processes with the mark, or is
                # before its look for the tombstone and will find it.
                with directory.locked(LOCK_TIMEOUT):
                    self._table.end([record.mark], _END_TIMEOUT)
                    directory.clean(record)
                    if full_disk:
                        directory.mark_terminated()
        except StillRunning as problem:
            raise RetryLater(f"processes that can't be ended: {problem}") from None
        except OSError as problem:
            what = f"terminated, but {problem.filename} can't be written: {problem.strerror}"
            raise RetryLater(what) from problem

    def exec_command(
        self, cloud_id: str, words: Sequence[str], environment: Mapping[str, str]
    ) -> ExecCommand:
        """See ``RunsPrograms``: the words themselves, with the machine's environment and mark.

        So the program's processes are the machine's: listed, and ended, with it.
        """
        match = _CLOUD_ID.match(cloud_id)
        directory = self._directory(match["node_id"]) if match else None
        record = self._record(directory) if directory else None
        if match is None or directory is None or record is None or record.mark != match["mark"]:
            raise NotFound(f"there is no machine {cloud_id}")
        if directory.terminated() or not self._table.of([record.mark]):
            raise NotFound(f"machine {record.node_id} is gone")
        return ExecCommand(
            words=tuple(words),
            environment={**environment, **machine_environment(directory.path, record)},
            directory=str(directory.path),
        )

    def console_output(self, cloud_id: str) -> str | None:
        """The end of the agent's log; of supervisord's own while the agent has none."""
        match = _CLOUD_ID.match(cloud_id)
        if match is None:
            return None
        directory = self._directory(match["node_id"])
        record = self._record(directory)
        if record is None or record.mark != match["mark"]:
            return None
        for name in ("agent.log", "supervisord.log", "console.log"):
            if text := _tail(directory.path / "logs" / name):
                return text
        return ""

    # -------------------------------------------------------------- directories

    def _directory(self, node_id: str) -> MachineDirectory:
        return MachineDirectory(self.root, node_id)

    def _record(self, directory: MachineDirectory) -> MachineRecord | None:
        name = directory.path.name
        if name not in self._records:  # a record is written once and never changes
            record = directory.record()
            if record is None:
                return None
            self._records[name] = record
        return self._records[name]

    def _directories(self, run: str, launch_ids: set[str] | None) -> Iterator[_Listed]:
        try:
            names = sorted(os.listdir(self.root))
        except FileNotFoundError:
            return
        for name in names:
            if launch_ids is not None and name.rpartition("-")[0] not in launch_ids:
                continue
            directory = self._directory(name)
            record = self._record(directory)
            if record is None or record.run != run:
                continue
            started = directory.started()
            yield _Listed(
                record=record,
                started=started,
                terminated=directory.terminated(),
                being_started=not started and directory.is_locked(),
            )


# ------------------------------------------------------------------ a machine from outside


def machine_processes(root: Path, node_id: str) -> list[MachineProcess]:
    """What runs on a machine now. Raises NotFound when there never was such a machine."""
    return [
        MachineProcess(process.pid, start_time(process), command_line(process.pid))
        for process in ProcessTable().of([_mark_of(root, node_id)])
    ]


def kill_machine(root: Path, node_id: str) -> None:
    """SIGKILL every process of a machine and leave its directory: the host of it failed.

    The machine is GONE for its cloud afterwards. Raises NotFound, or RetryLater when
    processes could not be ended.
    """
    try:
        ProcessTable().end([_mark_of(root, node_id)], _END_TIMEOUT)
    except StillRunning as problem:
        raise RetryLater(f"processes that can't be ended: {problem}") from None


def stop_machine(root: Path, node_id: str) -> None:
    """SIGSTOP every process of a machine: it is there and silent. Raises NotFound."""
    ProcessTable().stop([_mark_of(root, node_id)])


def continue_machine(root: Path, node_id: str) -> None:
    """SIGCONT every process of a machine. Raises NotFound."""
    ProcessTable().resume([_mark_of(root, node_id)])


def _mark_of(root: Path, node_id: str) -> str:
    record = MachineDirectory(Path(root), node_id).record()
    if record is None:
        raise NotFound(f"no machine {node_id} in {root}")
    return record.mark


# ------------------------------------------------------------------ small parts


@contextmanager
def _disk_errors_named(what: str, lasting: type[EpuError]) -> Iterator[None]:
    """OSErrors as one sentence: RetryLater for want of space, ``lasting`` for the rest."""
    try:
        yield
    except OSError as problem:
        place = f"{problem.filename}: " if problem.filename else ""
        kind = RetryLater if problem.errno in _PASSING else lasting
        raise kind(f"{what}: {place}{problem.strerror}") from problem


def _state(machine: _Listed, alive: bool) -> MachineState | None:
    """What to list a machine as; None when there is nothing to list."""
    if machine.terminated:
        return MachineState.STOPPING if alive else None
    if machine.started:
        return MachineState.RUNNING if alive else MachineState.GONE
    # Claimed and not started: a repeated launch starts it, so it must not be listed as
    # a machine that will come by itself, unless somebody is at it.
    return MachineState.PENDING if alive or machine.being_started else None


def _as_instance(machine: _Listed, state: MachineState) -> CloudInstance:
    record = machine.record
    return CloudInstance(
        cloud_id=record.cloud_id,
        run=record.run,
        pool=record.pool,
        launch_id=record.launch_id,
        index=record.index,
        state=state,
        addresses=("127.0.0.1",),
        launched_at=record.launched_at,
        problem="no process left" if state is MachineState.GONE else "",
    )


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.path.getsize(path) - _CONSOLE_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
