"""The record of a run: one SQLite file, written ahead of everything that is done.

Others read it while the boot goes on (WAL); a second writer is kept out by a lock file.
Both are 0600 from the moment they exist. Plans are stored with ``env:NAME`` as written, so
a record holds no secret but what boot programs give as outputs.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Float,
    Integer,
    MetaData,
    RowMapping,
    String,
    Table,
    create_engine,
    event,
    insert,
    select,
    update,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from agent.wire import MalformedMessage, from_wire, to_wire
from bootlevels.boot_sequence import NEXT_STATES, ServiceState
from bootlevels.plan import LaunchPlan
from bootlevels.run_home import RECORD_NAME
from bootlevels.transports.program import Started
from coordinator.errors import EpuError, InvalidTransition

#: Grows with every change of the tables; a record of another format is not guessed at.
FORMAT = 1

_metadata = MetaData()
_run = Table(
    "run",
    _metadata,
    Column("name", String, primary_key=True),
    Column("plan", String, nullable=False),
    Column("given", String, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("booted_at", Float),
    Column("terminated_at", Float),
)
_services = Table(
    "services",
    _metadata,
    Column("name", String, primary_key=True),
    Column("state", String, nullable=False),
    Column("launched_at", Float),
    Column("booted_at", Float),
    Column("verified_at", Float),
    Column("terminated_at", Float),
    Column("step", String, nullable=False, default=""),
    Column("error", String, nullable=False, default=""),
    Column("error_at", Float),
    Column("outputs", String, nullable=False, default="{}"),
    Column("pid", Integer),
    Column("pid_mark", String, nullable=False, default=""),
)


class RecordProblem(EpuError):
    """The record can't be read or written; the text says why."""


@dataclass(frozen=True, kw_only=True)
class ServiceRecord:
    """What is known of one service; times in seconds since the epoch.

    ``step`` and ``error`` are of the last failure and are cleared by the next success.
    """

    name: str
    state: ServiceState = ServiceState.NEW
    launched_at: float | None = None
    booted_at: float | None = None
    verified_at: float | None = None
    terminated_at: float | None = None
    step: str = ""
    error: str = ""
    error_at: float | None = None
    outputs: dict[str, str] = field(default_factory=dict)
    running: Started | None = None


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What is known of a run. ``given`` are the globals of its command line."""

    name: str
    plan: LaunchPlan
    given: dict[str, str]
    created_at: float
    booted_at: float | None = None
    terminated_at: float | None = None


class Record:
    """One run's record. Safe for threads: every call is a short transaction of its own."""

    def __init__(self, directory: Path, *, writable: bool = False) -> None:
        self.path = directory / RECORD_NAME
        self._engine = _engine(self.path, writable)

    @classmethod
    def create(
        cls, directory: Path, name: str, plan: LaunchPlan, given: Mapping[str, str], now: float
    ) -> Record:
        """A new record in ``directory``, which holds none yet."""
        # Under another name first: a record is complete or it is not there.
        path, unfinished = directory / RECORD_NAME, directory / f"{RECORD_NAME}.new"
        try:
            unfinished.unlink(missing_ok=True)
            os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except OSError as error:
            raise RecordProblem(f"{unfinished} can't be written: {error.strerror}") from None
        engine = _engine(unfinished, writable=True, wal=False)
        with _transaction(engine, unfinished) as connection:
            _metadata.create_all(connection)
            connection.exec_driver_sql(f"PRAGMA user_version={FORMAT}")
            row = {"name": name, "plan": _packed(plan), "given": json.dumps(dict(given))}
            connection.execute(insert(_run).values(**row, created_at=now))
        engine.dispose()
        os.replace(unfinished, path)
        return cls(directory, writable=True)

    def close(self) -> None:
        self._engine.dispose()

    # ---------------------------------------------------------------- reading

    def run(self) -> RunRecord:
        """The run itself. Raises RecordProblem when the file holds none."""
        with _transaction(self._engine, self.path) as connection:
            version = connection.exec_driver_sql("PRAGMA user_version").scalar()
            if version != FORMAT:
                raise RecordProblem(
                    f"{self.path} has format {version}, this version reads {FORMAT}: "
                    "use the version of epu that wrote it"
                )
            row = connection.execute(select(_run)).mappings().first()
        if row is None:
            raise RecordProblem(f"{self.path} is not the record of a run")
        try:
            plan = from_wire(LaunchPlan, json.loads(row["plan"]))
            given = from_wire(dict[str, str], json.loads(row["given"]))
        except (ValueError, MalformedMessage) as problem:
            raise RecordProblem(f"{self.path} can't be read: {problem}") from None
        times = {key: row[key] for key in ("created_at", "booted_at", "terminated_at")}
        return RunRecord(name=row["name"], plan=plan, given=given, **times)

    def services(self) -> dict[str, ServiceRecord]:
        """Every service that ever left NEW, by name."""
        with _transaction(self._engine, self.path) as connection:
            rows = connection.execute(select(_services)).mappings().all()
        return {row["name"]: _service(row) for row in rows}

    def service(self, name: str) -> ServiceRecord:
        """The service called ``name``; NEW when nothing is stored."""
        return self.services().get(name, ServiceRecord(name=name))

    def states(self) -> dict[str, ServiceState]:
        return {name: service.state for name, service in self.services().items()}

    # ---------------------------------------------------------------- writing

    def store_plan(self, plan: LaunchPlan, given: Mapping[str, str]) -> None:
        """The plan as it is now, for a boot that goes on with a corrected one."""
        with _transaction(self._engine, self.path) as connection:
            values = {"plan": _packed(plan), "given": json.dumps(dict(given))}
            connection.execute(update(_run).values(**values))

    def mark_booted(self, now: float) -> None:
        with _transaction(self._engine, self.path) as connection:
            connection.execute(update(_run).values(booted_at=now))

    def mark_terminated(self, now: float) -> None:
        with _transaction(self._engine, self.path) as connection:
            connection.execute(update(_run).values(terminated_at=now))

    def launched(self, name: str, now: float) -> None:
        """The boot program of ``name`` is about to run; what an earlier one gave is void."""
        self._move(name, ServiceState.LAUNCHED, launched_at=now, outputs="{}")

    def booted(self, name: str, outputs: Mapping[str, str], now: float) -> None:
        stored = json.dumps(dict(outputs))
        self._move(name, ServiceState.BOOTED, booted_at=now, outputs=stored)

    def verified(self, name: str, now: float) -> None:
        self._move(name, ServiceState.VERIFIED, verified_at=now)

    def terminating(self, name: str) -> None:
        self._move(name, ServiceState.TERMINATING)

    def terminated(self, name: str, now: float) -> None:
        self._move(name, ServiceState.TERMINATED, terminated_at=now)

    def failed(self, name: str, step: str, error: str, now: float) -> None:
        """What went wrong; the state stays where it was."""
        self._set(name, step=step, error=error, error_at=now)

    def program_started(self, name: str, started: Started) -> None:
        self._set(name, pid=started.pid, pid_mark=started.mark)

    def program_ended(self, name: str) -> None:
        self._set(name, pid=None, pid_mark="")

    def _move(self, name: str, state: ServiceState, **values: Any) -> None:
        before = self.service(name).state
        if state not in NEXT_STATES[before]:
            raise InvalidTransition(f"service {name}: {before.value} → {state.value}")
        cleared = {"step": "", "error": "", "error_at": None}
        self._set(name, state=state.value, **cleared, **values)

    def _set(self, name: str, **values: Any) -> None:
        with _transaction(self._engine, self.path) as connection:
            changed = connection.execute(
                update(_services).where(_services.c.name == name).values(**values)
            )
            if not changed.rowcount:
                new = {"state": ServiceState.NEW.value, **values}
                connection.execute(insert(_services).values(name=name, **new))


def _engine(path: Path, writable: bool, *, wal: bool = True) -> Engine:
    mode = "rw" if writable else "ro"

    def connect() -> sqlite3.Connection:
        # A file that is missing must not come into being (with other people's rights).
        return sqlite3.connect(
            f"file:{_quoted(path)}?mode={mode}", uri=True, timeout=10, check_same_thread=False
        )

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _: Any) -> None:
        if writable:
            if wal:
                connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")

    return engine


def _quoted(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


@contextmanager
def _transaction(engine: Engine, path: Path) -> Iterator[Connection]:
    try:
        with engine.begin() as connection:
            yield connection
    except SQLAlchemyError as error:
        what = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise RecordProblem(f"the record {path} can't be used: {what}") from None


def _packed(plan: LaunchPlan) -> str:
    return json.dumps(to_wire(plan))


def _service(row: RowMapping) -> ServiceRecord:
    running = Started(row["pid"], row["pid_mark"]) if row["pid"] else None
    plain = {k: v for k, v in row.items() if k not in ("state", "outputs", "pid", "pid_mark")}
    return ServiceRecord(
        state=ServiceState(row["state"]),
        outputs=json.loads(row["outputs"]),
        running=running,
        **plain,
    )
