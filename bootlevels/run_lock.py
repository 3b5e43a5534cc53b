"""One writer for a run: a lock file that the kernel frees when its holder dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coordinator.errors import EpuError

LOCK_NAME = "run.lock"


class RunIsBusy(EpuError):
    """Another process is changing the run."""


@contextmanager
def writer_lock(directory: Path, doing: str) -> Iterator[None]:
    """Nobody else changes the run in ``directory`` meanwhile. Raises RunIsBusy at once."""
    path = directory / LOCK_NAME
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    while True:
        number = os.open(path, flags, 0o600)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            who = os.pread(number, 200, 0).decode("utf-8", "replace").strip()
            os.close(number)
            what = who or "another process"
            raise RunIsBusy(f"run '{directory.name}' is being changed by {what}") from None
        if _is_same(number, path):
            break
        os.close(number)  # the run was moved aside between our two calls
    try:
        os.ftruncate(number, 0)
        os.pwrite(number, f"process {os.getpid()} ({doing})".encode(), 0)
        yield
    finally:
        os.close(number)


def _is_same(number: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(number), path.stat())
    except FileNotFoundError:
        return False
