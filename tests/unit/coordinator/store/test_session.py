"""Opening stores: modes, migrations, events."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, event, inspect, text

from coordinator.errors import ConfigProblem
from coordinator.events import EventLog
from coordinator.store.events import trim_events
from coordinator.store.schema import HEAD, metadata
from coordinator.store.session import _engine, _migrate, open_store


@pytest.mark.parametrize("made", ["anew", "by all migrations"])
def test_a_store_has_exactly_the_schema(tmp_path: Path, made: str) -> None:
    if made == "by all migrations":
        _migrate(_engine(tmp_path / "a.db"), None)
    store = open_store(tmp_path / "a.db")
    with store.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        revision = connection.execute(text("select version_num from alembic_version")).scalar()
    assert revision == HEAD


def test_a_store_whose_making_was_killed_in_between_is_made_by_the_next_start(
    tmp_path: Path,
) -> None:
    class Killed(BaseException):
        pass

    left = 0

    def watched(*_: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed

    killed = 0
    while True:
        left, path = killed, tmp_path / f"{killed}.db"
        event.listen(Engine, "before_cursor_execute", watched)
        try:
            open_store(path).dispose()
        except Killed:
            killed += 4
        else:
            break
        finally:
            event.remove(Engine, "before_cursor_execute", watched)
        store = open_store(path)
        tables = set(inspect(store).get_table_names())
        store.dispose()
        assert tables == {*metadata.tables, "alembic_version"}
    assert killed > len(metadata.tables)


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
