"""Opening stores: modes, migrations, events."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from coordinator.errors import ConfigProblem
from coordinator.events import EventLog
from coordinator.store.events import trim_events
from coordinator.store.schema import HEAD, metadata
from coordinator.store.session import open_store


def test_the_migrations_make_exactly_the_schema(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a.db")
    with store.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        revision = connection.execute(text("select version_num from alembic_version")).scalar()
    assert revision == HEAD


def test_a_store_and_its_side_files_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a.db")
    EventLog(store, "provisioner", "run", lambda: 1.0).append("new_launch")
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_store_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a.db")
    with store.begin() as connection:
        connection.execute(text("update alembic_version set version_num = '9999'"))
    with pytest.raises(ConfigProblem, match="9999"):
        open_store(tmp_path / "a.db")


def test_events_come_back_in_order_after_any_sequence_number(tmp_path: Path) -> None:
    clock = iter(range(100))
    log = EventLog(open_store(tmp_path / "a.db"), "provisioner", "run", lambda: float(next(clock)))
    for name in ("one", "two", "three"):
        log.append(name, pool="p", count=1)
    assert [event.name for event in log.read()] == ["one", "two", "three"]
    assert [event.name for event in log.read(since=1, limit=1)] == ["two"]
    assert log.read()[0].extra == {"count": 1}


def test_old_events_are_trimmed_and_sequence_numbers_go_on(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a.db")
    log = EventLog(store, "provisioner", "run", lambda: 1.0)
    for number in range(10):
        log.append(f"e{number}")
    trim_events(store, "provisioner", keep=3)
    assert [event.name for event in log.read()] == ["e7", "e8", "e9"]
    assert log.append("e10").sequence == 11
