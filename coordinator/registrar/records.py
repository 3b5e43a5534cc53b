"""The registrar's own record: which nonce enrolled as which node."""

from __future__ import annotations

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError

from coordinator.store.schema import enrolments
from coordinator.store.session import Store


class Enrolments:
    """Only a hash of the nonce is stored: it is the machine's secret, not ours."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def claim(self, node_id: str, nonce_hash: str, now: float) -> bool:
        """Bind a node to a nonce for ever. False when another nonce has it already."""
        row = {"node_id": node_id, "nonce_hash": nonce_hash, "enrolled_at": now, "answered": 1}
        try:
            with self._store.begin() as connection:
                connection.execute(insert(enrolments).values(row))
                return True
        except IntegrityError:
            pass
        with self._store.begin() as connection:
            changed = connection.execute(
                update(enrolments)
                .where(enrolments.c.node_id == node_id, enrolments.c.nonce_hash == nonce_hash)
                .values(answered=enrolments.c.answered + 1, account_removed_at=None)
            )
            return changed.rowcount == 1

    def answered(self, node_id: str) -> int:
        """How often a node's enrolment has been answered."""
        wanted = select(enrolments.c.answered).where(enrolments.c.node_id == node_id)
        with self._store.connect() as connection:
            return int(connection.execute(wanted).scalar() or 0)

    def account_removed(self, node_id: str, now: float) -> None:
        """Note that the node's broker account is gone."""
        with self._store.begin() as connection:
            connection.execute(
                update(enrolments)
                .where(enrolments.c.node_id == node_id)
                .values(account_removed_at=now)
            )
