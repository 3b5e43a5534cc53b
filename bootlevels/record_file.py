"""The file of a run's record: opening it, transactions on it, what goes wrong with it."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from coordinator.errors import EpuError

#: How a commit is written that must survive a power failure: a machine was asked for, and
#: goes on costing money although this host is dark.
SYNCHRONOUS = "FULL"
#: How any other is: safe from kill -9. What runs on this host dies with its power.
WITHOUT_POWER_LOSS = "NORMAL"


class RecordProblem(EpuError):
    """The record can't be read or written; the text says why."""


@lru_cache(maxsize=8)
def record_engine(path: Path, writable: bool, *, wal: bool = True) -> Engine:
    """Connections to the record at ``path``, which must exist.

    The same engine for the same record: it holds no connection, only what its statements
    compile to, which takes longer than the statements.
    """
    connect = partial(_connection, path, "rw" if writable else "ro")
    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _: Any) -> None:
        if writable:
            if wal:
                connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA synchronous={SYNCHRONOUS}")

    return engine


def _connection(path: Path, mode: str) -> sqlite3.Connection:
    # A file that is missing must not come into being (with other people's rights).
    quoted = str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return sqlite3.connect(
        f"file:{quoted}?mode={mode}", uri=True, timeout=10, check_same_thread=False
    )


def set_durable(connection: Connection, durable: bool) -> None:
    """Whether the next transactions of ``connection`` must survive a power failure.

    A durable one takes all that was committed before to the disk with it.
    """
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    raw.execute(f"PRAGMA synchronous={SYNCHRONOUS if durable else WITHOUT_POWER_LOSS}")


def _disk_is_full(path: Path) -> bool:
    """Whether the file system of ``path`` has less room than SQLite takes at a time."""
    try:
        return shutil.disk_usage(path.parent).free < 32_768
    except OSError:
        return False


@contextmanager
def file_problems(path: Path) -> Iterator[None]:
    """What goes wrong with a file beside the record is a RecordProblem, too."""
    try:
        yield
    except OSError as error:
        raise RecordProblem(f"{path} can't be written: {error.strerror}") from None


@contextmanager
def transaction(engine: Engine, path: Path, kept: Connection | None = None) -> Iterator[Connection]:
    """A transaction on a connection of its own, or on ``kept``, which stays open."""
    try:
        if kept is None:
            with engine.begin() as connection:
                yield connection
        else:
            with kept.begin():
                yield kept
    except SQLAlchemyError as error:
        what = str(getattr(error, "orig", None) or error).splitlines()[0]
        if _disk_is_full(path):  # SQLite says so in several ways
            what = "database or disk is full"
        raise RecordProblem(f"the record {path} can't be used: {what}") from None
