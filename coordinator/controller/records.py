"""The controller's records: pools, what it remembers of them, batches not yet answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from agent.messages import CommandBatch
from agent.wire import from_wire, to_wire
from coordinator.store.schema import decisions, flags, pending_batches, pools
from coordinator.store.session import Store

#: Decisions kept per pool; only changed ones are stored, so this is days of history.
DECISIONS_KEPT = 1000
_FROZEN = "frozen"
#: Beside an explanation's own keys: people and programs see it through ``recordings`` only.
_RECORDING = "recording"


@dataclass(frozen=True, kw_only=True)
class StoredPool:
    """A pool as it was added: its section as text values, and the controller's memory."""

    name: str
    section: dict[str, Any]
    revision: int
    added_at: float
    memory: dict[str, Any]


class PoolRecords:
    """Every method is one short transaction."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def frozen(self) -> str | None:
        """Why the engines are to decide nothing, also after a restart; None: they decide."""
        with self._store.connect() as connection:
            query = select(flags.c.value).where(flags.c.key == _FROZEN)
            reason = connection.execute(query).scalar()
        return None if reason is None else str(reason)

    def set_frozen(self, reason: str | None) -> None:
        """Remember it, or that it is over."""
        with self._store.begin() as connection:
            connection.execute(delete(flags).where(flags.c.key == _FROZEN))
            if reason is not None:
                connection.execute(insert(flags).values(key=_FROZEN, value=reason))

    def load(self) -> list[StoredPool]:
        """All pools, by name."""
        with self._store.connect() as connection:
            rows = connection.execute(select(pools).order_by(pools.c.name)).mappings()
            return [StoredPool(**row) for row in rows]

    def add(self, name: str, section: Mapping[str, Any], now: float) -> bool:
        """Store a new pool; False when there is one of that name."""
        row = {"name": name, "section": dict(section), "added_at": now, "revision": 1}
        try:
            with self._store.begin() as connection:
                connection.execute(insert(pools).values(**row, memory={}))
        except IntegrityError:
            return False
        return True

    def change(self, name: str, section: Mapping[str, Any]) -> None:
        """Replace a pool's section."""
        with self._store.begin() as connection:
            connection.execute(
                update(pools)
                .where(pools.c.name == name)
                .values(section=dict(section), revision=pools.c.revision + 1)
            )

    def remove(self, name: str) -> None:
        """Forget a pool, its unanswered batch and its decisions."""
        with self._store.begin() as connection:
            connection.execute(delete(pools).where(pools.c.name == name))
            connection.execute(delete(pending_batches).where(pending_batches.c.pool == name))
            connection.execute(delete(decisions).where(decisions.c.pool == name))

    def store_cycle(
        self,
        pool: str,
        memory: Mapping[str, Any] | None,
        batch: CommandBatch | None,
        explanation: Mapping[str, Any] | None,
        now: float,
        recording: str | None = None,
    ) -> None:
        """What one cycle changed, in one transaction; None is "as before".

        ``recording`` goes with the explanation: what replays it.

        A batch is stored here before it is sent: until it is answered it is sent again,
        with the same ids, by this process or the next one.
        """
        with self._store.begin() as connection:
            if memory is not None:
                connection.execute(
                    update(pools).where(pools.c.name == pool).values(memory=dict(memory))
                )
            if batch is not None:
                connection.execute(delete(pending_batches).where(pending_batches.c.pool == pool))
                connection.execute(
                    insert(pending_batches).values(
                        pool=pool, batch_id=batch.batch_id, batch=to_wire(batch), stored_at=now
                    )
                )
            if explanation is not None:
                kept = (
                    dict(explanation)
                    if recording is None
                    else {**explanation, _RECORDING: recording}
                )
                key = connection.execute(
                    insert(decisions).values(pool=pool, at=now, explanation=kept)
                ).inserted_primary_key
                connection.execute(
                    delete(decisions).where(
                        decisions.c.pool == pool,
                        decisions.c.id <= (key[0] if key else 0) - DECISIONS_KEPT,
                    )
                )

    def pending(self) -> dict[str, CommandBatch]:
        """Batches without an answer, by pool."""
        with self._store.connect() as connection:
            rows = connection.execute(select(pending_batches)).mappings()
            return {row["pool"]: from_wire(CommandBatch, row["batch"]) for row in rows}

    def answered(self, batch_id: str) -> None:
        """Forget a batch that the provisioner answered."""
        with self._store.begin() as connection:
            connection.execute(
                delete(pending_batches).where(pending_batches.c.batch_id == batch_id)
            )

    def pools_recorded(self) -> list[str]:
        """Pools of which decisions are stored, by name."""
        with self._store.connect() as connection:
            query = select(decisions.c.pool).distinct().order_by(decisions.c.pool)
            return [str(name) for name in connection.execute(query).scalars()]

    def recordings(
        self, pool: str, before: int | None = None, at: float | None = None, limit: int = 50
    ) -> list[dict[str, Any]]:
        """Stored decisions with what they were made of (``recording``), newest first.

        ``before``: only older ones than that ``id``; ``at``: only those up to a time.
        """
        wanted = select(decisions).where(decisions.c.pool == pool)
        if before is not None:
            wanted = wanted.where(decisions.c.id < before)
        if at is not None:
            wanted = wanted.where(decisions.c.at <= at)
        wanted = wanted.order_by(decisions.c.id.desc()).limit(limit)
        with self._store.connect() as connection:
            rows = connection.execute(wanted).mappings().all()
        return [
            {"id": row["id"], "at": row["at"], "recording": row["explanation"].get(_RECORDING)}
            for row in rows
        ]

    def explanation_at(self, pool: str, at: float | None = None) -> dict[str, Any] | None:
        """The newest stored decision of a pool, or the newest up to ``at`` (epoch s)."""
        wanted = select(decisions.c.explanation).where(decisions.c.pool == pool)
        if at is not None:
            wanted = wanted.where(decisions.c.at <= at)
        wanted = wanted.order_by(decisions.c.id.desc()).limit(1)
        with self._store.connect() as connection:
            found = connection.execute(wanted).scalar()
        if found is None:
            return None
        return {key: value for key, value in found.items() if key != _RECORDING}

    def decisions(self, pool: str, since: float = 0.0, limit: int = 500) -> list[dict[str, Any]]:
        """Up to ``limit`` stored decisions of a pool, made after ``since`` (epoch s)."""
        wanted = select(decisions.c.explanation).where(
            decisions.c.pool == pool, decisions.c.at > since
        )
        with self._store.connect() as connection:
            rows = connection.execute(wanted.order_by(decisions.c.at, decisions.c.id).limit(limit))
            return [
                {key: value for key, value in row.items() if key != _RECORDING}
                for row in rows.scalars()
            ]
