"""What this driver asked EC2 for, written before it asks: one SQLite file in its directory.

EC2 remembers client tokens for a day after a machine's end and shows ended machines for an
hour; what must hold for longer (a launch that ended never starts again) is kept here. The
launch ids stay for ever, the calls only until their launch is done. No user-data and no
credentials are in it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from coordinator.clouds.ec2_calls import CallState, RunCall
from coordinator.clouds.ec2_offerings import Market, Offering
from coordinator.errors import RetryLater

_SCHEMA = """
CREATE TABLE IF NOT EXISTS about (began REAL NOT NULL);
CREATE TABLE IF NOT EXISTS launches (
    launch_id TEXT PRIMARY KEY, run TEXT NOT NULL, on_demand INTEGER NOT NULL,
    done INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS calls (
    launch_id TEXT NOT NULL, number INTEGER NOT NULL, base INTEGER NOT NULL,
    count INTEGER NOT NULL, offering TEXT NOT NULL, state TEXT NOT NULL,
    asked_at REAL NOT NULL, parameters TEXT NOT NULL,
    PRIMARY KEY (launch_id, number)
) WITHOUT ROWID;
"""
#: Launches whose ids have the same digest modulo this wait for each other.
_LOCKS = 64
_PAUSE = 0.02
#: Another process' transaction takes at most so long, s.
_BUSY = 10.0


@dataclass(frozen=True, kw_only=True)
class KnownLaunch:
    """A launch id that was seen before. The first ``on_demand`` machines are on demand."""

    run: str
    on_demand: int
    done: bool


class LaunchRecord:
    """The file ``launches.db`` below ``directory``, made at first use. Safe for threads.

    Every method raises RetryLater when the disk does not let it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextmanager
    def locked(self, launch_id: str, deadline: float) -> Iterator[None]:
        """Nobody else, in no process of this host, is at this launch meanwhile.

        RetryLater when the lock is not had before ``deadline`` (``time.monotonic``).
        """
        with _disk_errors_named(self._directory):
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            number = int(hashlib.sha256(launch_id.encode()).hexdigest(), 16) % _LOCKS
            path = self._directory / f"launch-{number:02d}.lock"
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

    def began(self, now: float) -> float:
        """Since when this record is kept, epoch s; ``now`` if it is new."""
        with self._open() as database:
            database.execute(
                "INSERT INTO about SELECT ? WHERE NOT EXISTS (SELECT 1 FROM about)", (now,)
            )
            return float(database.execute("SELECT min(began) FROM about").fetchone()[0])

    def launch(self, launch_id: str) -> KnownLaunch | None:
        """What is known of a launch id; None when it was never seen."""
        with self._open() as database:
            row = database.execute(
                "SELECT run, on_demand, done FROM launches WHERE launch_id = ?", (launch_id,)
            ).fetchone()
        return None if row is None else KnownLaunch(run=row[0], on_demand=row[1], done=bool(row[2]))

    def begin(self, launch_id: str, known: KnownLaunch, calls: Sequence[RunCall] = ()) -> None:
        """Write down a launch id that was not seen before, and calls others made for it."""
        with self._open() as database:
            database.execute(
                "INSERT INTO launches VALUES (?, ?, ?, ?)",
                (launch_id, known.run, known.on_demand, known.done),
            )
            for call in calls:
                _write(database, launch_id, call)

    def calls(self, launch_id: str) -> list[RunCall]:
        """The calls of a launch that is not done, in the order of their numbers."""
        with self._open() as database:
            rows = database.execute(
                "SELECT number, base, count, offering, state, asked_at, parameters FROM calls"
                " WHERE launch_id = ? ORDER BY number",
                (launch_id,),
            ).fetchall()
        return [
            RunCall(
                number=number,
                base=base,
                count=count,
                offering=_offering(offering),
                state=CallState(state),
                asked_at=asked_at,
                parameters=json.loads(parameters),
            )
            for number, base, count, offering, state, asked_at, parameters in rows
        ]

    def write(self, launch_id: str, *calls: RunCall) -> None:
        """Put calls on the platter, each in place of an earlier one of its number."""
        with self._open() as database:
            for call in calls:
                _write(database, launch_id, call)

    def finish(self, launch_id: str) -> None:
        """The launch was made: it is never made again."""
        with self._open() as database:
            database.execute("UPDATE launches SET done = 1 WHERE launch_id = ?", (launch_id,))
            database.execute("DELETE FROM calls WHERE launch_id = ?", (launch_id,))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is on the platter at its end."""
        with _disk_errors_named(self._directory):
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            path = self._directory / "launches.db"
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            database = sqlite3.connect(path, timeout=_BUSY, isolation_level=None)
            try:
                database.execute("PRAGMA synchronous = FULL")
                if not database.execute("PRAGMA user_version").fetchone()[0]:
                    database.executescript(
                        f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = 1; COMMIT;"
                    )
                database.execute("BEGIN IMMEDIATE")
                yield database
                database.execute("COMMIT")
            finally:
                database.close()  # what was not committed is undone


def _write(database: sqlite3.Connection, launch_id: str, call: RunCall) -> None:
    database.execute(
        "INSERT OR REPLACE INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            launch_id,
            call.number,
            call.base,
            call.count,
            json.dumps(asdict(call.offering)),
            call.state.value,
            call.asked_at,
            json.dumps(call.parameters),
        ),
    )


def _offering(text: str) -> Offering:
    found = json.loads(text)
    return Offering(**{**found, "market": Market(found["market"])})


@contextmanager
def _disk_errors_named(directory: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as problem:
        raise RetryLater(
            f"nothing is launched that is not on record: {directory}: {problem}"
        ) from None
