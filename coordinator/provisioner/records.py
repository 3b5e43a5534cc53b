"""All SQL of the provisioner. Short transactions; nothing yields inside one.

A change is written only while the record still is in the state in which it was read, so
two writers never undo each other. Every write that a controller can see gives its pool the
next version; what only we use (back-off, deadlines) does not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import Connection, Select, func, insert, select, update

from agent.messages import (
    ADOPTED_CLOUD,
    BatchAnswer,
    CommandBatch,
    InstanceState,
    PoolSnapshot,
)
from agent.wire import to_wire
from coordinator.provisioner.commands import Launch, NewInstance, named_nodes, plan_batch
from coordinator.provisioner.lifecycle import (
    LAUNCHING,
    Applied,
    Change,
    Record,
    Switches,
    after,
    switches_of,
    transition,
)
from coordinator.store import instance_rows as rows
from coordinator.store.instance_rows import chunks, lock_pool
from coordinator.store.record_statements import RecordStatements
from coordinator.store.schema import batches, instances, launches, pool_versions
from coordinator.store.session import Store

#: How long, s, and how many of a pool's ended instances are told in a first snapshot.
TOLD_FOR, TOLD_AT_MOST = 3600.0, 200
#: How long ended instances, their launches and transitions are kept in the store, s.
KEPT_FOR = 7 * 86400.0

#: What a controller sees of a record; anything else changes no version. Once enrolled a node may
#: work, so no end of it is decided on an older view.
VISIBLE = frozenset(
    {"state", "reason", "cloud_id", "addresses", "price", "outputs", "protected", "retryable"}
    | {"enrolled_at"}
)


_READ = RecordStatements(field.name for field in fields(Record))


class Records:
    """Instances, launches, batches and switches in the provisioner's store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def of_cloud(
        self,
        cloud: str,
        listed: Collection[str] = (),
        launch_ids: Collection[str] | None = None,
    ) -> list[Record]:
        """Records of a cloud that are not final, or whose machine shall be ended again.

        Those of the node ids ``listed`` are there whatever their state, tombstones too.
        ``launch_ids``: of these launches only.
        """
        if launch_ids is None:
            records = self._records(_READ.of_cloud, cloud=cloud)
        else:
            parts = chunks(sorted(set(launch_ids)))
            of_launches = [
                self._records(_READ.of_launches, cloud=cloud, names=part) for part in parts
            ]
            records = [record for some in of_launches for record in some]
        found = {record.node_id: record for record in records}
        found |= self.named(set(listed) - set(found))
        return list(found.values())

    def restless(self, cloud: str) -> list[Record]:
        """As ``of_cloud`` without those that run: what something may have to be done about."""
        return self._records(_READ.restless, cloud=cloud)

    def live(self) -> list[Record]:
        """Every record that is not final."""
        return self._records(_READ.live)

    def live_names(self) -> list[dict[str, str]]:
        """Node id, pool, launch id and state of every record that is not final."""
        with self._store.connect() as connection:
            return [dict(row) for row in connection.execute(_READ.live_names).mappings()]

    def adopted(self) -> list[str]:
        """Node ids of all workers whose machines people booted, those that are gone too."""
        wanted = select(instances.c.node_id).where(instances.c.cloud == ADOPTED_CLOUD)
        with self._store.connect() as connection:
            return sorted(connection.execute(wanted).scalars())

    def drains(self) -> list[Record]:
        """What is DRAINING, and what is RUNNING again with its agent not yet told."""
        return self._records(_READ.drains)

    def ended(self, since: float, most: int) -> list[Record]:
        """Whose node enrolled and is at its end since then; the latest ``most``, latest first."""
        return self._records(_READ.ended, since=since, most=most)

    def named(self, node_ids: Iterable[str]) -> dict[str, Record]:
        """The records of these nodes, by node id; unknown ones are left out."""
        with self._store.connect() as connection:
            return _named(connection, node_ids)

    def role(self, node_id: str) -> dict[str, Any]:
        """The wire form of a node's role."""
        wanted = select(instances.c.role).where(instances.c.node_id == node_id)
        with self._store.connect() as connection:
            return dict(connection.execute(wanted).scalar() or {})

    def node(self, node_id: str, now: float) -> dict[str, Any]:
        """Everything about one node as plain JSON values. Raises NotFound."""
        with self._store.connect() as connection:
            return rows.node_document(connection, node_id, now)

    def launch(self, launch_id: str) -> Launch | None:
        """One intended call, or None."""
        wanted = select(launches).where(launches.c.launch_id == launch_id)
        with self._store.connect() as connection:
            row = connection.execute(wanted).mappings().first()
        return None if row is None else Launch(**row)

    def waiting(self, launch_id: str) -> list[Record]:
        """The records of a launch whose machines are still to be asked for, or to appear."""
        return self._records(_READ.waiting, launch_id=launch_id)

    def last_launch_call(self, cloud: str) -> float:
        """When this cloud was last asked for a machine; 0 when never."""
        wanted = select(func.max(launches.c.called_at)).where(launches.c.cloud == cloud)
        with self._store.connect() as connection:
            return float(connection.execute(wanted).scalar() or 0.0)

    def count_states(self) -> dict[str, int]:
        """How many records are in each state."""
        wanted = select(instances.c.state, func.count()).group_by(instances.c.state)
        with self._store.connect() as connection:
            return dict(connection.execute(wanted).tuples().all())

    def pools(self) -> dict[str, tuple[int, int]]:
        """Version and epoch of every pool that was ever heard of."""
        with self._store.connect() as connection:
            known = connection.execute(select(pool_versions)).mappings()
            return {row["pool"]: (row["version"], row["epoch"]) for row in known}

    def snapshot(self, pool: str, since: int, now: float) -> PoolSnapshot:
        """The pool's instances that changed after version ``since``.

        A first look (``since`` 0) sees the latest 200 that ended in the last hour; later
        ones see every end. A ``since`` that we never reached (our store was lost) is
        answered with everything, as a first look.
        """
        enabled = self.switches().enabled
        with self._store.connect() as connection:
            version, epoch = rows.pool_version(connection, pool)
            since = since if since <= version else 0
            found = rows.snapshot_rows(connection, pool, since, now - TOLD_FOR, TOLD_AT_MOST)
        return PoolSnapshot(
            pool=pool,
            version=version,
            epoch=epoch,
            now=now,
            enabled=enabled,
            since=since,
            instances=tuple(rows.view_of(row) for row in found),
        )

    # ---------------------------------------------------------------- writing

    def commit(self, changes: Sequence[Change], now: float, actor: str) -> list[Applied]:
        """Write changes, each only if its record still is as expected; what took effect."""
        if not changes:
            return []
        with self._store.begin() as connection:
            return _write_changes(connection, changes, now, actor)

    def add(self, new: NewInstance, now: float, actor: str) -> list[Applied]:
        """Store one new record; nothing happens when its node is known."""
        with self._store.begin() as connection:
            lock_pool(connection, new.pool)
            if _named(connection, [new.node_id]):
                return []
            return _write_new(connection, [new], now, actor)

    def intend_call(self, launch: Launch, changes: Sequence[Change], now: float) -> bool:
        """Write ahead: the launch is about to be asked for. False: it is not wanted any more.

        Moves its REQUESTED records on; ``launch`` carries attempt, token expiry and time of
        the call.
        """
        with self._store.begin() as connection:
            connection.execute(
                update(launches)
                .where(launches.c.launch_id == launch.launch_id)
                .values(
                    attempt=launch.attempt,
                    token_expires_at=launch.token_expires_at,
                    user_data_digest=launch.user_data_digest,
                    called_at=launch.called_at,
                )
            )
            _write_changes(connection, changes, now, "provisioner")
            waiting = select(func.count()).where(
                instances.c.launch_id == launch.launch_id,
                instances.c.state == LAUNCHING.value,
            )
            return bool(connection.execute(waiting).scalar())

    def apply(
        self, batch: CommandBatch, clouds: Collection[str], now: float
    ) -> tuple[BatchAnswer, list[Applied]]:
        """Carry out a batch in one transaction, or refuse it; see CommandBatch."""
        with self._store.begin() as connection:
            version, epoch = lock_pool(connection, batch.pool)
            wanted = select(batches.c.detail).where(batches.c.batch_id == batch.batch_id)
            earlier = connection.execute(wanted).first()
            if earlier is not None:
                return _answer(batch, "repeated", earlier.detail), []
            if batch.epoch < epoch:
                return _answer(batch, "superseded", f"epoch {epoch} was claimed"), []
            if batch.based_on != version:
                detail = f"the pool is at version {version}, not {batch.based_on}"
                return _answer(batch, "conflict", detail), []
            plan = plan_batch(
                batch,
                _named(connection, named_nodes(batch)),
                clouds=frozenset(clouds),
                enabled=switches_of(rows.read_flag(connection, "switches")).enabled,
                now=now,
            )
            actor = f"controller (epoch {batch.epoch})"
            applied = _write_changes(connection, plan.changes, now, actor)
            applied += _write_new(connection, plan.instances, now, actor)
            for launch in plan.launches:
                connection.execute(insert(launches).values(asdict(launch)))
            detail = "; ".join(plan.remarks)
            row = {"batch_id": batch.batch_id, "pool": batch.pool, "at": now}
            connection.execute(insert(batches).values(outcome="applied", detail=detail, **row))
            if batch.epoch > epoch:  # our store is older than the controller's
                rows.set_pool(connection, batch.pool, epoch=batch.epoch, owner="")
            return _answer(batch, "applied", detail), applied

    def claim_epoch(self, pools: Sequence[str], owner: str) -> dict[str, int]:
        """A new epoch for each pool: whoever held an older one is superseded.

        ``owner`` has the same one again when it holds the newest already; without a name
        every claim is a new one.
        """
        claimed = {}
        with self._store.begin() as connection:
            for pool in pools:
                _, epoch = lock_pool(connection, pool)
                if not owner or rows.epoch_owner(connection, pool) != owner:
                    epoch += 1
                    rows.set_pool(connection, pool, epoch=epoch, owner=owner)
                claimed[pool] = epoch
        return claimed

    def switches(self) -> Switches:
        """What the last terminate_all or enable stored."""
        return switches_of(self.flag("switches"))

    def set_switches(self, switches: Switches) -> None:
        """Store them; they survive restarts."""
        self.set_flag("switches", asdict(switches))

    def flag(self, name: str) -> Any:
        """What ``set_flag`` stored under ``name``, as plain JSON values; None for nothing."""
        with self._store.connect() as connection:
            return rows.read_flag(connection, name)

    def set_flag(self, name: str, value: Any) -> None:
        """Store plain JSON values under a name; they survive restarts."""
        with self._store.begin() as connection:
            rows.write_flag(connection, name, value)

    def forget(self, now: float) -> None:
        """Delete what ended long ago, with everything that belongs to it."""
        with self._store.begin() as connection:
            rows.forget_ended(connection, now - KEPT_FOR)

    def _records(self, wanted: Select[Any], **given: Any) -> list[Record]:
        with self._store.connect() as connection:
            return list(_select_records(connection, wanted, **given))


# ------------------------------------------------------------------ inside a transaction


def _select_records(connection: Connection, wanted: Select[Any], **given: Any) -> Iterator[Record]:
    for row in connection.execute(wanted, given).mappings():
        values = dict(row)
        values["state"] = InstanceState(values["state"])
        values["addresses"] = tuple(values["addresses"])
        for name in ("heartbeat_interval", "drain_timeout"):
            if values[name] is None:  # a role of before there was such a key
                del values[name]
        yield Record(**values)


def _named(connection: Connection, node_ids: Iterable[str]) -> dict[str, Record]:
    found: dict[str, Record] = {}
    for part in chunks(sorted(set(node_ids))):
        for record in _select_records(connection, _READ.named, names=part):
            found[record.node_id] = record
    return found


def _write_changes(
    connection: Connection, changes: Sequence[Change], now: float, actor: str
) -> list[Applied]:
    # Every transaction that writes begins with its pools, in one order: a lock on each.
    node_ids = [change.node_id for change in changes]
    pools = sorted(rows.pools_of(connection, node_ids))
    versions = {pool: lock_pool(connection, pool)[0] for pool in pools}
    known = _named(connection, node_ids)
    applied: list[Applied] = []
    touched: set[str] = set()
    updates: list[tuple[str, Mapping[str, Any]]] = []
    history: list[Mapping[str, Any]] = []
    for change in changes:
        record = known.get(change.node_id)
        if record is None or record.state is not change.expected:
            continue  # somebody was faster; the next cycle sees what became of it
        values: dict[str, Any] = dict(change.fields)
        if change.to is not None:
            transition(record.state, change.to)
            values |= {"state": change.to.value, "reason": change.reason, "actor": actor}
            history.append(
                rows.transition_row(
                    change.node_id, change.expected, change.to, now, actor, change.reason
                )
            )
        if not VISIBLE.isdisjoint(values):
            values["changed_in"] = versions[record.pool] + 1
            touched.add(record.pool)
        updates.append((change.node_id, values))
        known[change.node_id] = after(record, change)
        if change.to is not None:
            applied.append(Applied(record=known[change.node_id], before=record.state))
    rows.update_instances(connection, updates)
    rows.add_transitions(connection, history)
    for pool in touched:
        rows.set_pool(connection, pool, version=versions[pool] + 1)
    return applied


def _write_new(
    connection: Connection, new: Sequence[NewInstance], now: float, actor: str
) -> list[Applied]:
    applied = []
    for instance in new:
        transition(None, instance.state)
    for pool in sorted({instance.pool for instance in new}):
        version = lock_pool(connection, pool)[0] + 1
        rows.set_pool(connection, pool, version=version)
        made, history = [], []
        for instance in (one for one in new if one.pool == pool):
            row = {field.name: getattr(instance, field.name) for field in fields(instance)}
            row |= {"index_in_launch": row.pop("index"), "role": to_wire(instance.role)}
            row |= {"state": instance.state.value, "wanted_at": now, "state_since": now}
            made.append({**row, "changed_in": version, "actor": actor})
            history.append(
                rows.transition_row(
                    instance.node_id, None, instance.state, now, actor, instance.reason
                )
            )
            applied.append(Applied(record=instance.record(now), before=None))
        rows.add_instances(connection, made)
        rows.add_transitions(connection, history)
    return applied


def _answer(batch: CommandBatch, outcome: str, detail: str) -> BatchAnswer:
    return BatchAnswer(batch_id=batch.batch_id, outcome=outcome, detail=detail)
