"""The SQL of the event log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

from sqlalchemy import Engine, delete, insert, select

from agent.messages import Event
from coordinator.store.schema import events


def append_events(store: Engine, new: Sequence[Event]) -> list[Event]:
    """Store events in one transaction; the same with their sequence numbers."""
    stored = []
    with store.begin() as connection:
        for event in new:
            row = asdict(event)
            del row["sequence"]
            key = connection.execute(insert(events).values(row)).inserted_primary_key
            stored.append(replace(event, sequence=key[0] if key else 0))
    return stored


def read_events(store: Engine, source: str, since: int, limit: int) -> list[Event]:
    """Up to ``limit`` events of ``source`` after sequence ``since``, oldest first.

    A negative ``limit`` asks for the newest so many instead of the oldest.
    """
    newest_first = limit < 0
    order = events.c.sequence.desc() if newest_first else events.c.sequence
    wanted = (
        select(events)
        .where(events.c.source == source, events.c.sequence > since)
        .order_by(order)
        .limit(abs(limit))
    )
    with store.connect() as connection:
        found = [Event(**row) for row in connection.execute(wanted).mappings()]
    return found[::-1] if newest_first else found


def trim_events(store: Engine, source: str, keep: int) -> None:
    """Delete all but about the newest ``keep`` events of ``source``."""
    with store.begin() as connection:
        newest = connection.execute(
            select(events.c.sequence)
            .where(events.c.source == source)
            .order_by(events.c.sequence.desc())
            .offset(keep)
            .limit(1)
        ).scalar()
        if newest is not None:
            connection.execute(
                delete(events).where(events.c.source == source, events.c.sequence <= newest)
            )
