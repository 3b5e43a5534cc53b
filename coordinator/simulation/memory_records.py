"""The provisioner's records as values in memory: what SQL does, without its milliseconds.

Plans, transitions and views are production code (``commands``, ``lifecycle``); what is here
is only the keeping. A test holds the two to the same histories, seed by seed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from agent.messages import (
    ADOPTED_CLOUD,
    FINAL_STATES,
    BatchAnswer,
    CommandBatch,
    InstanceState,
    InstanceView,
    PoolSnapshot,
)
from agent.wire import to_wire
from coordinator.errors import NotFound
from coordinator.provisioner.commands import Launch, NewInstance, named_nodes, plan_batch
from coordinator.provisioner.lifecycle import (
    DRAINING,
    LAUNCHING,
    REQUESTED,
    RUNNING,
    Applied,
    Change,
    Record,
    after,
    transition,
)
from coordinator.provisioner.records import KEPT_FOR, TOLD_AT_MOST, TOLD_FOR, VISIBLE, Records
from coordinator.store.instance_rows import view_of
from coordinator.store.schema import instances

#: Told of each write: the record before it (None: a new one), after it, who, and when.
Watch = Callable[[Record | None, Record, str, float], None]

_RECORD_FIELDS = {one.name for one in fields(Record)}


def _default(column: Any) -> Any:
    """What SQL would put into a column of a new row."""
    default = column.default
    if default is None:
        return None
    return default.arg(None) if default.is_callable else default.arg


_BLANK: dict[str, Any] = {column.name: _default(column) for column in instances.columns}


@dataclass
class _Pool:
    version: int = 0
    epoch: int = 0
    owner: str = ""


@dataclass
class _Row:
    """One instance: its columns, and the two values that are read from it all the time."""

    values: dict[str, Any]
    record: Record | None = None
    view: InstanceView | None = None
    history: list[tuple[float, str, str, str]] = field(default_factory=list)


class MemoryRecords(Records):
    """``Records`` without a store: every method does what its namesake does."""

    def __init__(self, watch: Watch = lambda *_: None) -> None:
        self._watch = watch
        self._rows: dict[str, _Row] = {}
        self._launches: dict[str, Launch] = {}
        self._pools: dict[str, _Pool] = {}
        self._batches: dict[str, tuple[str, float]] = {}
        self._flags: dict[str, Any] = {}
        #: Nodes that something may have to be done about: not final, or to be ended again.
        self._current: set[str] = set()

    # ---------------------------------------------------------------- reading

    def of_cloud(
        self,
        cloud: str,
        listed: Collection[str] = (),
        launch_ids: Collection[str] | None = None,
    ) -> list[Record]:
        found = [
            one
            for one in self._sorted(self._current)
            if one.cloud == cloud and (launch_ids is None or one.launch_id in launch_ids)
        ]
        known = {one.node_id for one in found}
        return [*found, *self._sorted(node for node in set(listed) - known if node in self._rows)]

    def restless(self, cloud: str) -> list[Record]:
        return [
            one
            for one in self._sorted(self._current)
            if one.cloud == cloud
            and (one.next_attempt_at is not None or not (one.final or one.state is RUNNING))
        ]

    def live(self) -> list[Record]:
        return [one for one in self._sorted(self._current) if not one.final]

    def adopted(self) -> list[str]:
        return sorted(node for node in self._rows if self._record(node).cloud == ADOPTED_CLOUD)

    def drains(self) -> list[Record]:
        return [
            one
            for one in self._sorted(self._current)
            if one.state is DRAINING or (one.state is RUNNING and one.drain_deadline is not None)
        ]

    def ended(self, since: float, most: int) -> list[Record]:
        every = (self._record(node) for node in self._rows)
        found = [one for one in every if one.final and one.enrolled_at is not None]
        found = [one for one in found if one.state_since >= since]
        return sorted(found, key=lambda one: (-one.state_since, one.node_id))[:most]

    def named(self, node_ids: Iterable[str]) -> dict[str, Record]:
        wanted = (node for node in set(node_ids) if node in self._rows)
        return {one.node_id: one for one in self._sorted(wanted)}

    def role(self, node_id: str) -> dict[str, Any]:
        row = self._rows.get(node_id)
        return dict(row.values["role"]) if row is not None else {}

    def node(self, node_id: str, now: float) -> dict[str, Any]:
        row = self._rows.get(node_id)
        if row is None:
            raise NotFound(f"no node '{node_id}'")
        history = [
            {"state": state, "at": at, "actor": actor, "reason": reason}
            for at, state, actor, reason in row.history
        ]
        return {**row.values, "now": now, "history": history}

    def launch(self, launch_id: str) -> Launch | None:
        return self._launches.get(launch_id)

    def waiting(self, launch_id: str) -> list[Record]:
        return [
            one
            for one in self._sorted(self._current)
            if one.launch_id == launch_id and one.state in (REQUESTED, LAUNCHING)
        ]

    def last_launch_call(self, cloud: str) -> float:
        called = (one.called_at or 0.0 for one in self._launches.values() if one.cloud == cloud)
        return max(called, default=0.0)

    def count_states(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for row in self._rows.values():
            state = row.values["state"]
            counts[state] = counts.get(state, 0) + 1
        return counts

    def pools(self) -> dict[str, tuple[int, int]]:
        return {name: (one.version, one.epoch) for name, one in self._pools.items()}

    def snapshot(self, pool: str, since: int, now: float) -> PoolSnapshot:
        own = self._pools.get(pool, _Pool())
        since = since if since <= own.version else 0
        changed = [
            node
            for node, row in self._rows.items()
            if row.values["pool"] == pool and row.values["changed_in"] > since
        ]
        if since == 0:
            ended = [
                node
                for node in changed
                if self._record(node).final and self._record(node).state_since > now - TOLD_FOR
            ]
            ended.sort(key=lambda node: -self._record(node).state_since)
            told = set(ended[:TOLD_AT_MOST])
            changed = [node for node in changed if not self._record(node).final or node in told]
        views = [self._view(node) for node in changed]
        return PoolSnapshot(
            pool=pool,
            version=own.version,
            epoch=own.epoch,
            now=now,
            enabled=self.switches().enabled,
            since=since,
            instances=tuple(sorted(views, key=lambda one: (one.wanted_at, one.node_id))),
        )

    # ---------------------------------------------------------------- writing

    def commit(self, changes: Sequence[Change], now: float, actor: str) -> list[Applied]:
        applied: list[Applied] = []
        versions = {pool: one.version for pool, one in self._pools.items()}
        touched: set[str] = set()
        for change in changes:
            row = self._rows.get(change.node_id)
            if row is None:
                continue
            record = self._record(change.node_id)
            if record.state is not change.expected:
                continue
            values: dict[str, Any] = dict(change.fields)
            if change.to is not None:
                transition(record.state, change.to)
                values |= {"state": change.to.value, "reason": change.reason, "actor": actor}
                row.history.append((now, change.to.value, actor, change.reason))
            if not VISIBLE.isdisjoint(values):
                values["changed_in"] = versions.get(record.pool, 0) + 1
                touched.add(record.pool)
            if change.to is not None:
                applied.append(Applied(record=after(record, change), before=record.state))
            self._write(change.node_id, row, values)
            self._watch(record, self._record(change.node_id), actor, now)
        for pool in touched:
            self._pool(pool).version = versions.get(pool, 0) + 1
        return applied

    def add(self, new: NewInstance, now: float, actor: str) -> list[Applied]:
        self._pool(new.pool)
        return [] if new.node_id in self._rows else self._add([new], now, actor)

    def intend_call(self, launch: Launch, changes: Sequence[Change], now: float) -> bool:
        known = self._launches.get(launch.launch_id)
        if known is not None:
            self._launches[launch.launch_id] = replace(
                known,
                attempt=launch.attempt,
                token_expires_at=launch.token_expires_at,
                user_data_digest=launch.user_data_digest,
                called_at=launch.called_at,
            )
            for row in self._rows.values():
                if row.values["launch_id"] == launch.launch_id:
                    row.record = None
        self.commit(changes, now, "provisioner")
        return any(one.state is LAUNCHING for one in self.waiting(launch.launch_id))

    def apply(
        self, batch: CommandBatch, clouds: Collection[str], now: float
    ) -> tuple[BatchAnswer, list[Applied]]:
        def answer(outcome: str, detail: str) -> BatchAnswer:
            return BatchAnswer(batch_id=batch.batch_id, outcome=outcome, detail=detail)

        pool = self._pool(batch.pool)
        earlier = self._batches.get(batch.batch_id)
        if earlier is not None:
            return answer("repeated", earlier[0]), []
        if batch.epoch < pool.epoch:
            return answer("superseded", f"epoch {pool.epoch} was claimed"), []
        if batch.based_on != pool.version:
            detail = f"the pool is at version {pool.version}, not {batch.based_on}"
            return answer("conflict", detail), []
        plan = plan_batch(
            batch,
            self.named(named_nodes(batch)),
            clouds=frozenset(clouds),
            enabled=self.switches().enabled,
            now=now,
        )
        actor = f"controller (epoch {batch.epoch})"
        applied = self.commit(plan.changes, now, actor)
        applied += self._add(plan.instances, now, actor)
        self._launches |= {one.launch_id: one for one in plan.launches}
        detail = "; ".join(plan.remarks)
        self._batches[batch.batch_id] = (detail, now)
        if batch.epoch > pool.epoch:
            pool.epoch, pool.owner = batch.epoch, ""
        return answer("applied", detail), applied

    def claim_epoch(self, pools: Sequence[str], owner: str) -> dict[str, int]:
        for name in pools:
            pool = self._pool(name)
            if not owner or pool.owner != owner:
                pool.epoch, pool.owner = pool.epoch + 1, owner
        return {name: self._pools[name].epoch for name in pools}

    def flag(self, name: str) -> Any:
        return self._flags.get(name)

    def set_flag(self, name: str, value: Any) -> None:
        self._flags[name] = value

    def forget(self, now: float) -> None:
        before = now - KEPT_FOR
        for node in list(self._rows):
            record = self._record(node)
            if record.final and record.state_since < before:
                del self._rows[node]
                self._current.discard(node)
        used = {row.values["launch_id"] for row in self._rows.values()}
        self._launches = {
            name: one
            for name, one in self._launches.items()
            if one.created_at >= before or name in used
        }
        self._batches = {name: one for name, one in self._batches.items() if one[1] >= before}

    # ---------------------------------------------------------------- inside

    def _pool(self, name: str) -> _Pool:
        return self._pools.setdefault(name, _Pool())

    def _record(self, node_id: str) -> Record:
        row = self._rows[node_id]
        if row.record is None:
            values, role = row.values, row.values["role"]
            launch = self._launches.get(values["launch_id"])
            known = {name: values[name] for name in _RECORD_FIELDS & values.keys()}
            known |= {name: role[name] for name in ("heartbeat_interval", "drain_timeout")}
            known |= {
                "index": values["index_in_launch"],
                "state": InstanceState(values["state"]),
                "addresses": tuple(values["addresses"]),
                "called_at": None if launch is None else launch.called_at,
            }
            row.record = Record(**known)
        return row.record

    def _view(self, node_id: str) -> InstanceView:
        row = self._rows[node_id]
        if row.view is None:
            row.view = view_of(row.values)
        return row.view

    def _sorted(self, node_ids: Iterable[str]) -> list[Record]:
        found = (self._record(node) for node in node_ids)
        return sorted(found, key=lambda one: (one.wanted_at, one.node_id))

    def _write(self, node_id: str, row: _Row, values: Mapping[str, Any]) -> None:
        row.values.update(values)
        row.record = row.view = None
        ended = InstanceState(row.values["state"]) in FINAL_STATES
        if ended and row.values["next_attempt_at"] is None:
            self._current.discard(node_id)
        else:
            self._current.add(node_id)

    def _add(self, new: Sequence[NewInstance], now: float, actor: str) -> list[Applied]:
        for one in new:
            transition(None, one.state)
        touched = {one.pool for one in new}
        for one in new:
            given = {name: getattr(one, name) for name in _NEW_FIELDS}
            given |= {"index_in_launch": given.pop("index"), "role": to_wire(one.role)}
            given |= {"state": one.state.value, "wanted_at": now, "state_since": now}
            given |= {"changed_in": self._pool(one.pool).version + 1, "actor": actor}
            row = self._rows[one.node_id] = _Row({**_BLANK, **given})
            row.history.append((now, one.state.value, actor, one.reason))
            self._write(one.node_id, row, {})
            self._watch(None, self._record(one.node_id), actor, now)
        for pool in touched:
            self._pools[pool].version += 1
        # As SQL tells them: pool by pool.
        return [
            Applied(record=one.record(now), before=None)
            for pool in sorted(touched)
            for one in new
            if one.pool == pool
        ]


_NEW_FIELDS = [one.name for one in fields(NewInstance)]
