"""Starting one machine of this host, once, whoever else tries at the same time."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from coordinator.clouds import machine_launcher
from coordinator.clouds.base import LaunchRequest
from coordinator.clouds.machine_directory import (
    LOCK_TIMEOUT,
    MachineDirectory,
    MachineRecord,
    write_record,
)
from coordinator.clouds.machine_launcher import REFUSED
from coordinator.clouds.process_table import ProcessTable
from coordinator.errors import LaunchRefused, RetryLater

_LAUNCHER_TIMEOUT = 30.0


class MachineKind(Protocol):
    """What machines of a cloud are made of. Methods may raise RetryLater, LaunchRefused, OSError.

    ``sets_up``: its command still makes the machine before it becomes its first process; it
    says on descriptor ``machine_launcher.PROBLEMS`` why it can't, and closes that when it did.
    """

    sets_up: bool

    def socket(self, directory: Path, mark: str) -> str:
        """Where the machine's supervisord will listen; empty when that is its own affair."""
        ...

    def addresses(self, directory: MachineDirectory) -> tuple[str, ...]:
        """Where the machine is reached from this host."""
        ...

    def prepare(
        self, directory: MachineDirectory, record: MachineRecord, request: LaunchRequest
    ) -> None:
        """Put into the directory what the machine starts from; may be repeated, half done."""
        ...

    def command(self, directory: MachineDirectory, record: MachineRecord) -> Sequence[str]:
        """The words that become the machine's first process."""
        ...

    def environment(self, directory: MachineDirectory, record: MachineRecord) -> Mapping[str, str]:
        """All of that process's environment; it holds the mark."""
        ...


def ensure_started(
    directory: MachineDirectory,
    request: LaunchRequest,
    index: int,
    table: ProcessTable,
    kind: MachineKind,
) -> None:
    """Start machine ``index`` of ``request`` unless it was started or terminated before.

    Returns once its first process was executed. May be killed at any point and repeated by
    anybody: the claim says who it is to be, the lock who is at it, ``started`` and the
    processes with its mark whether it was done.

    Raises RetryLater, LaunchRefused, OSError.
    """
    with directory.locked(LOCK_TIMEOUT) as lock:
        record = directory.record()
        if record is not None and record.run != request.run:
            raise LaunchRefused(f"launch id {request.launch_id} was used by another run")
        if directory.terminated() or directory.started():
            return
        if record is None:
            record = _claim(directory, request, index, kind)
        elif table.of([record.mark]):
            directory.mark_started()  # the launcher was killed in its last moment
            return
        directory.make_logs()
        kind.prepare(directory, record, request)
        _start(directory, record, lock, kind)


def script(module: str) -> list[str]:
    """Words that run ``main()`` of a module here, without site-packages: quick, and alone."""
    top = str(Path(__file__).parents[2])
    source = f"import sys; sys.path.insert(0, sys.argv[1]); from coordinator.clouds.{module}"
    return [sys.executable, "-I", "-S", "-c", f"{source} import main; main()", top]


def _claim(
    directory: MachineDirectory, request: LaunchRequest, index: int, kind: MachineKind
) -> MachineRecord:
    mark = secrets.token_hex(12)
    record = MachineRecord(
        run=request.run,
        pool=request.pool,
        launch_id=request.launch_id,
        index=index,
        mark=mark,
        launched_at=time.time(),
        socket=kind.socket(directory.path, mark),
    )
    write_record(directory, record)
    return record


def _start(
    directory: MachineDirectory, record: MachineRecord, lock: int, kind: MachineKind
) -> None:
    manner = "sets-up" if kind.sets_up else "runs"
    launcher = [sys.executable, "-I", "-S", machine_launcher.__file__]
    launcher += [str(directory.path), str(lock), manner]
    process = subprocess.Popen(
        [*launcher, *kind.command(directory, record)],
        env=kind.environment(directory, record),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        pass_fds=[lock],
        # Never in our session: a session with a marked process in it is the machine's.
        start_new_session=True,
    )
    try:
        _, said = process.communicate(timeout=_LAUNCHER_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise RetryLater(f"{record.node_id} was not started in time") from None
    if process.returncode != 0:
        last = "".join(said.decode(errors="replace").strip().splitlines()[-1:])
        lasting = process.returncode == REFUSED
        raise (LaunchRefused if lasting else RetryLater)(f"{record.node_id} not started: {last}")
