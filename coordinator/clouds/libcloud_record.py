"""What the libcloud driver asked for, written before it asks: one SQLite file.

Most clouds know no idempotency token, so this is what keeps a machine from being made
twice. It also tells what a cloud without tags can't: whose machine it is. Launch ids stay
for ever, so that what ended never starts again. No user-data and no credentials are in it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, fields
from pathlib import Path

from coordinator.clouds.libcloud_terms import AskedMachine
from coordinator.errors import RetryLater

_SCHEMA = """
CREATE TABLE IF NOT EXISTS machines (
    name TEXT PRIMARY KEY, run TEXT NOT NULL, pool TEXT NOT NULL, launch_id TEXT NOT NULL,
    number INTEGER NOT NULL, asked_at REAL NOT NULL, cloud_id TEXT NOT NULL,
    ended INTEGER NOT NULL, price REAL
);
CREATE INDEX IF NOT EXISTS by_launch ON machines (launch_id);
CREATE INDEX IF NOT EXISTS by_cloud_id ON machines (cloud_id);
"""
#: Launches whose ids have the same digest modulo this wait for each other.
_LOCKS = 64
_PAUSE = 0.02
#: Another process' transaction takes at most so long, s.
_BUSY = 10.0


_COLUMNS = ", ".join(field.name for field in fields(AskedMachine))


class LibcloudRecord:
    """The file ``machines.db`` below ``directory``, made at first use. Safe for threads.

    Every method raises RetryLater when the disk does not let it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextmanager
    def locked(self, launch_id: str, deadline: float) -> Iterator[None]:
        """Nobody else, in no process of this host, is at this launch meanwhile.

        RetryLater when the lock is not had before ``deadline`` (``time.monotonic``).
        """
        number = int(hashlib.sha256(launch_id.encode()).hexdigest(), 16) % _LOCKS
        path = self._directory / f"launch-{number:02d}.lock"
        with _disk_errors_named(self._directory):
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise RetryLater(f"another launch holds {path}") from None
                    time.sleep(_PAUSE)
            yield
        finally:
            os.close(descriptor)

    def of_launch(self, launch_id: str) -> dict[int, AskedMachine]:
        """The machines of a launch by their index."""
        return {one.number: one for one in self._select("launch_id = ?", launch_id)}

    def of_run(self, run: str) -> list[AskedMachine]:
        """Every machine that ``run`` ever asked for."""
        return self._select("run = ?", run)

    def with_id(self, cloud_id: str) -> AskedMachine | None:
        """The machine that the cloud calls so; None when it is none of ours."""
        found = self._select("cloud_id = ?", cloud_id) if cloud_id else []
        return found[-1] if found else None

    def write(self, machine: AskedMachine) -> None:
        """Put ``machine`` on the platter, in place of what was there under its name."""
        marks = ", ".join("?" for _ in fields(machine))
        with self._open() as database:
            database.execute(
                f"INSERT OR REPLACE INTO machines ({_COLUMNS}) VALUES ({marks})",  # noqa: S608
                astuple(machine),
            )

    def forget(self, name: str) -> None:
        """Nothing was made under this name, and that is proven."""
        with self._open() as database:
            database.execute("DELETE FROM machines WHERE name = ?", (name,))

    def _select(self, where: str, value: str) -> list[AskedMachine]:
        with self._open() as database:
            rows = database.execute(
                f"SELECT {_COLUMNS} FROM machines WHERE {where} ORDER BY asked_at",  # noqa: S608
                (value,),
            ).fetchall()
        names = [field.name for field in fields(AskedMachine)]
        return [
            AskedMachine(**{**dict(zip(names, row, strict=True)), "ended": bool(row[7])})
            for row in rows
        ]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is on the platter at its end."""
        with _disk_errors_named(self._directory):
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            path = self._directory / "machines.db"
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            database = sqlite3.connect(path, timeout=_BUSY, isolation_level=None)
            try:
                database.execute("PRAGMA synchronous = FULL")
                database.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
                database.execute("BEGIN IMMEDIATE")
                yield database
                database.execute("COMMIT")
            finally:
                database.close()  # what was not committed is undone


@contextmanager
def _disk_errors_named(directory: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as problem:
        raise RetryLater(f"can't keep a record in {directory}: {problem}") from problem
