"""The life of machines that are processes of this host, whatever those are made of.

What the clouds ``process`` and ``container`` have in common: where their machines are on
disk, and how they are started, listed, found and ended.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from coordinator.clouds.base import CloudInstance, LaunchRequest, MachineState
from coordinator.clouds.machine_directory import LOCK_TIMEOUT, MachineDirectory, MachineRecord
from coordinator.clouds.machine_start import MachineKind, ensure_started
from coordinator.clouds.process_table import ProcessTable, StillRunning
from coordinator.errors import EpuError, LaunchRefused, NotFound, RetryLater

_LAUNCH_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}\Z")
_CLOUD_ID = re.compile(r"(?P<node_id>[A-Za-z0-9][A-Za-z0-9_-]{0,140})\.(?P<mark>[0-9a-f]{24})\Z")
#: Want of space, memory or processes: it passes.
_PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}
END_TIMEOUT = 20.0
_CONSOLE_BYTES = 16_384


@dataclass(frozen=True)
class _Listed:
    """A machine as its directory tells it, before anybody looked at processes."""

    record: MachineRecord
    started: bool
    terminated: bool
    being_started: bool


class LocalMachines:
    """Machines of one ``kind`` below the directory ``root``.

    Promises: exact listings; launches idempotent in launch id and index for ever, from any
    process, also after a kill at any point; a machine that was terminated or died is never
    started again; it outlives whoever launched it, and is alive while any of its processes
    is. Assumes: Linux, a local file system with flock, one user for all processes. It
    touches nothing without the machine's own random mark. Safe for threads.
    """

    def __init__(self, root: Path, kind: MachineKind) -> None:
        self.root = root
        self.table = ProcessTable()
        self._kind = kind
        self._records: dict[str, MachineRecord] = {}

    def launch(self, request: LaunchRequest) -> None:
        """Start what is not started yet of ``request``; returns once its first process was.

        A launch id that another run used is refused.
        """
        if not _LAUNCH_ID.match(request.launch_id):
            raise LaunchRefused(f"'{request.launch_id}' can't be the name of a directory")
        with _disk_errors_named(f"{request.launch_id} can't be launched", LaunchRefused):
            for index in range(request.count):
                directory = self._directory(f"{request.launch_id}-{index}")
                ensure_started(directory, request, index, self.table, self._kind)

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
        alive = set(self.table.by_mark())
        if any(m.started and not m.terminated and m.record.mark not in alive for m in listed):
            # A process has no mark for an instant while it executes another program, and
            # GONE is for ever: look again.
            time.sleep(0.02)
            alive |= set(self.table.by_mark())
        states = {id(m): _state(m, m.record.mark in alive) for m in listed}
        for machine in listed:
            if states[id(machine)] is MachineState.GONE:
                # It died unasked, so nobody terminates it: what lies outside of it goes now.
                self._directory(machine.record.node_id).remove_socket(machine.record)
        return [
            _as_instance(m, state, self._kind.addresses(self._directory(m.record.node_id)))
            for m in listed
            if (state := states[id(m)]) is not None
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
            self.table.end(marks, END_TIMEOUT)
            for directory, record in machines:
                # A launch that is under way either has processes with the mark, or is
                # before its look for the tombstone and will find it.
                with directory.locked(LOCK_TIMEOUT):
                    self.table.end([record.mark], END_TIMEOUT)
                    directory.clean(record)
                    if full_disk:
                        directory.mark_terminated()
        except StillRunning as problem:
            raise RetryLater(f"processes that can't be ended: {problem}") from None
        except OSError as problem:
            what = f"terminated, but {problem.filename} can't be written: {problem.strerror}"
            raise RetryLater(what) from problem

    def find(self, cloud_id: str) -> tuple[MachineDirectory, MachineRecord]:
        """The machine of that id, whatever became of it. Raises NotFound."""
        match = _CLOUD_ID.match(cloud_id)
        if match is not None:
            directory = self._directory(match["node_id"])
            record = self._record(directory)
            if record is not None and record.mark == match["mark"]:
                return directory, record
        raise NotFound(f"there is no machine {cloud_id}")

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


def tail(path: Path) -> str:
    """The end of a log; empty when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.path.getsize(path) - _CONSOLE_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


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


def _as_instance(
    machine: _Listed, state: MachineState, addresses: tuple[str, ...]
) -> CloudInstance:
    record = machine.record
    return CloudInstance(
        cloud_id=record.cloud_id,
        run=record.run,
        pool=record.pool,
        launch_id=record.launch_id,
        index=record.index,
        state=state,
        addresses=addresses,
        launched_at=record.launched_at,
        problem="no process left" if state is MachineState.GONE else "",
    )
