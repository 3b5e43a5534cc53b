"""What several tests of interrupted processes share."""

from __future__ import annotations

from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.pool import QueuePool

from bootlevels import cloud_drivers, machines, record_file, run_status, runner, service_life
from bootlevels.record import Record
from bootlevels.record_writer import GroupWriter
from coordinator.store.session import open_store
from tests.interrupted.boot_tool import Points, SimulatedTime


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store without a record, made once: each life begins with a copy."""
    path = tmp_path_factory.mktemp("store") / "empty.db"
    open_store(path).dispose()
    return path


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> SimulatedTime:
    simulated = SimulatedTime()
    monkeypatch.setattr(machines, "time", simulated)
    monkeypatch.setattr(cloud_drivers, "time", simulated)
    return simulated


class AtOnce(Executor):
    """One thread, without the thread: work is done before anybody can wait for it."""

    def __init__(self, *_: Any) -> None:
        return

    def submit(self, work: Any, /, *args: Any, **options: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(work(*args, **options))
        except BaseException as problem:
            done.set_exception(problem)
        return done


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> Points:
    """Every row is a commit of its own, on a disk that takes no time; no threads.

    It is written by whoever puts it, since waiting for a thread that writes takes longer than
    writing; so it is with work. Connections stay open, since to open a file again at each look
    does so too.
    """
    found = Points()
    commit, update = Record._commit, Record._update_run

    def watched_commit(self: Record, rows: Any) -> None:
        found.reach()
        commit(self, rows)
        found.reach()

    def watched_update(self: Record, **values: Any) -> None:
        found.reach()
        update(self, **values)
        found.reach()

    def put_at_once(self: GroupWriter, key: Any, row: Any) -> None:
        with self._work:
            self._must_work()
            try:
                self._commit({key: row})
            except BaseException as problem:
                self._broken = problem
                raise

    monkeypatch.setattr(Record, "_commit", watched_commit)
    monkeypatch.setattr(Record, "_update_run", watched_update)
    monkeypatch.setattr(GroupWriter, "put", put_at_once)
    monkeypatch.setattr(record_file, "NullPool", QueuePool)
    monkeypatch.setattr(runner, "ThreadPoolExecutor", AtOnce)
    monkeypatch.setattr(run_status, "ThreadPoolExecutor", AtOnce)
    monkeypatch.setattr(service_life, "LOOK_INTERVAL", 0.1)
    return found
