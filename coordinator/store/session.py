"""Opening a store: the right file mode, the right pragmas, the newest schema."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    Engine,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    func,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.pool import StaticPool

from agent.watchdog import may_take_long
from coordinator.errors import ConfigProblem, Problem
from coordinator.store.schema import HEAD, metadata

#: How a commit is written: an intent must survive the power cord, not only kill -9.
SYNCHRONOUS = "FULL"

#: What holds a component's records; the name that modules without SQL use for it.
Store = Engine

#: As Alembic makes it.
_VERSION = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))


def open_store(where: Path | str) -> Engine:
    """The engine of a store that is at the newest revision.

    ``where`` is the path of an SQLite file (made with mode 0600 when absent), ``:memory:``
    or an SQLAlchemy URL. An older store is migrated; a newer one is refused with
    ConfigProblem, because this program would misread it.
    """
    engine = _engine(where)
    with engine.connect() as connection:
        known = inspect(connection).has_table("alembic_version")
        revision = (
            connection.execute(text("select version_num from alembic_version")).scalar()
            if known
            else None
        )
        empty = not known and not inspect(connection).get_table_names()
    if empty:
        _create(engine)
    elif revision != HEAD:
        _migrate(engine, revision)
    return engine


def _engine(where: Path | str) -> Engine:
    if isinstance(where, str) and "://" in where:
        return create_engine(where)
    if str(where) == ":memory:":
        return create_engine(
            "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
        )
    path = Path(where)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The mode must be right from the first moment: the records say where machines are.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 10})

    @event.listens_for(engine, "connect")
    def set_pragmas(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute(f"PRAGMA synchronous={SYNCHRONOUS}")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    return engine


def _create(engine: Engine) -> None:
    """All tables at once, in one transaction, without loading Alembic, which takes longer."""
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            # Python's sqlite3 begins no transaction for DDL: a kill would leave half a schema.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        metadata.create_all(connection)  # what another process made meanwhile is let be
        _VERSION.create(connection, checkfirst=True)
        if connection.execute(select(func.count()).select_from(_VERSION)).scalar() == 0:
            connection.execute(insert(_VERSION).values(version_num=HEAD))


def _migrate(engine: Engine, revision: str | None) -> None:
    # Imported here: a store that is new or up to date needs no Alembic.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with may_take_long(), engine.begin() as connection:
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as problem:
            raise ConfigProblem(
                [
                    Problem(
                        where=str(engine.url),
                        what=f"the store is at revision {revision}, which this version "
                        f"does not know (it knows {HEAD})",
                        remedy="run the newer version of EPU that wrote it",
                    )
                ]
            ) from problem
