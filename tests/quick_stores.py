"""Stores of the thousand tests of one process: SQL is compiled once, no disk is waited for."""

from __future__ import annotations

from typing import Any

import sqlalchemy

from bootlevels import record_file
from coordinator.store import session


def make_stores_quick() -> None:
    """Have all SQLite stores and records of this process share what their statements compile to.

    SQLAlchemy keeps that for each engine, as a program has one. In a test with a store of its
    own, compiling takes longer than all the rest. And no test pulls the power cord: what a
    commit wrote need not be on the platter. Processes that tests start do both as always.
    """
    shared = sqlalchemy.create_engine("sqlite://")
    shared.connect().close()  # which is when it learns what this SQLite can do

    def create_engine(*args: Any, **options: Any) -> sqlalchemy.Engine:
        engine = sqlalchemy.create_engine(*args, **options)
        if engine.dialect.name == "sqlite":
            engine.dialect = shared.dialect
            engine._compiled_cache = shared._compiled_cache
        return engine

    for module in (record_file, session):
        module.create_engine = create_engine  # type: ignore[attr-defined]
        module.SYNCHRONOUS = "OFF"  # type: ignore[attr-defined]
