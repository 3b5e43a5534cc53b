"""The registrar's own record: which nonce enrolled as which node."""

from __future__ import annotations

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from coordinator.store.schema import adoptions, enrolments
from coordinator.store.session import Store


class Enrolments:
    """Only a hash of the nonce is stored: it is the machine's secret, not ours."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def adopted_as(self, launch_id: str, nonce_hash: str) -> int | None:
        """Which index of an adopting token the machine with this nonce has; None when none."""
        wanted = select(adoptions.c.index_in_launch).where(
            adoptions.c.launch_id == launch_id, adoptions.c.nonce_hash == nonce_hash
        )
        with self._store.connect() as connection:
            return connection.execute(wanted).scalar()

    def adopt(self, launch_id: str, nonce_hash: str, uses: int, now: float) -> int | None:
        """The index of the machine with this nonce, the next free one when it is new.

        None when the token's ``uses`` have all been taken by others.
        """
        known = self.adopted_as(launch_id, nonce_hash)
        if known is not None:
            return known
        taken = select(func.count()).where(adoptions.c.launch_id == launch_id)
        with self._store.begin() as connection:
            index = int(connection.execute(taken).scalar() or 0)
            if index >= uses:
                return None
            row = {"launch_id": launch_id, "index_in_launch": index, "nonce_hash": nonce_hash}
            connection.execute(insert(adoptions).values(adopted_at=now, **row))
        return index

    def claim(self, node_id: str, nonce_hash: str, now: float, kind: str = "launch") -> bool:
        """Bind a node to a nonce for ever. False when another nonce has it already."""
        who = {"node_id": node_id, "nonce_hash": nonce_hash, "kind": kind}
        row = {**who, "enrolled_at": now, "answered": 1}
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

    def kind_of(self, node_id: str) -> str:
        """With which kind of token a node enrolled; empty when it did not."""
        wanted = select(enrolments.c.kind).where(enrolments.c.node_id == node_id)
        with self._store.connect() as connection:
            return str(connection.execute(wanted).scalar() or "")

    def with_accounts(self) -> list[str]:
        """Workers that were given a broker account which has not been removed, sorted."""
        wanted = select(enrolments.c.node_id).where(
            enrolments.c.account_removed_at.is_(None), enrolments.c.kind != "base"
        )
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
