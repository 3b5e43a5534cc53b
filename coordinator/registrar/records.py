"""The registrar's own record: which nonce enrolled as which node."""

from __future__ import annotations

from sqlalchemy import delete, insert, select, update
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

    def is_bound(self, node_id: str, nonce_hash: str) -> bool:
        """Whether this very nonce has enrolled as this node."""
        wanted = select(enrolments.c.nonce_hash).where(enrolments.c.node_id == node_id)
        with self._store.connect() as connection:
            return connection.execute(wanted).scalar() == nonce_hash

    def with_accounts(self) -> list[str]:
        """Nodes that were given a broker account which has not been removed, sorted."""
        wanted = select(enrolments.c.node_id).where(enrolments.c.account_removed_at.is_(None))
        with self._store.connect() as connection:
            return sorted(connection.execute(wanted).scalars())

    def answered(self, node_id: str) -> int:
        """How often a node's enrolment has been answered."""
        wanted = select(enrolments.c.answered).where(enrolments.c.node_id == node_id)
        with self._store.connect() as connection:
            return int(connection.execute(wanted).scalar() or 0)

    def account_made(self, node_id: str) -> None:
        """Note that the node has an account now, whatever was noted while it was made."""
        self._note_removal(node_id, None)

    def account_removed(self, node_id: str, now: float) -> None:
        """Note that the node's broker account is gone."""
        self._note_removal(node_id, now)

    def forget(self, before: float) -> None:
        """Delete what is known of nodes whose accounts were removed before then."""
        with self._store.begin() as connection:
            connection.execute(delete(enrolments).where(enrolments.c.account_removed_at < before))

    def _note_removal(self, node_id: str, at: float | None) -> None:
        with self._store.begin() as connection:
            connection.execute(
                update(enrolments)
                .where(enrolments.c.node_id == node_id)
                .values(account_removed_at=at)
            )
