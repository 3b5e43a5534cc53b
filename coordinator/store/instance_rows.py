"""Row by row: instances, their pools' versions, their history. Inside a caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from agent.messages import FINAL_STATES, InstanceState, InstanceView
from coordinator.errors import NotFound
from coordinator.store.schema import batches, flags, instances, launches, pool_versions, transitions

#: The final states as they are stored.
FINAL = sorted(state.value for state in FINAL_STATES)
#: Values in one IN (…): SQLite takes 32,766 variables, PostgreSQL likes few.
CHUNK = 500


def chunks(items: Iterable[str]) -> Iterator[list[str]]:
    """``items`` in lists that fit one IN (…)."""
    every = list(items)
    for start in range(0, len(every), CHUNK):
        yield every[start : start + CHUNK]


def lock_pool(connection: Connection, pool: str) -> tuple[int, int]:
    """Version and epoch of a pool, held until the transaction ends.

    An UPDATE that changes nothing takes the write lock, in SQLite and in PostgreSQL.
    """
    held = connection.execute(
        update(pool_versions)
        .where(pool_versions.c.pool == pool)
        .values(version=pool_versions.c.version)
    )
    if held.rowcount == 0:
        connection.execute(insert(pool_versions).values(pool=pool, version=0, epoch=0))
    return pool_version(connection, pool)


_VERSION = select(pool_versions.c.version, pool_versions.c.epoch).where(
    pool_versions.c.pool == bindparam("pool")
)


def pool_version(connection: Connection, pool: str) -> tuple[int, int]:
    """Version and epoch of a pool; zeros for one that nobody has heard of."""
    row = connection.execute(_VERSION, {"pool": pool}).first()
    return (0, 0) if row is None else (row.version, row.epoch)


def epoch_owner(connection: Connection, pool: str) -> str:
    """Which controller claimed the pool's epoch; empty when none that is known did."""
    wanted = select(pool_versions.c.owner).where(pool_versions.c.pool == pool)
    return str(connection.execute(wanted).scalar() or "")


def set_pool(connection: Connection, pool: str, **values: int | str) -> None:
    """Set ``version``, ``epoch`` or ``owner`` of a pool that is locked."""
    connection.execute(update(pool_versions).where(pool_versions.c.pool == pool).values(**values))


def pools_of(connection: Connection, node_ids: Sequence[str]) -> set[str]:
    """The pools of these nodes. A node's pool never changes."""
    found: set[str] = set()
    for part in chunks(node_ids):
        wanted = select(instances.c.pool).where(instances.c.node_id.in_(part)).distinct()
        found.update(connection.execute(wanted).scalars())
    return found


def transition_row(
    node_id: str, before: InstanceState | None, to: InstanceState, at: float, actor: str, why: str
) -> dict[str, Any]:
    """One line of a node's history, for ``add_transitions``."""
    return {
        "node_id": node_id,
        "from_state": None if before is None else before.value,
        "to_state": to.value,
        "at": at,
        "actor": actor,
        "reason": why,
    }


def add_transitions(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Lines of history, in this order."""
    if rows:
        connection.execute(insert(transitions), list(rows))


def add_instances(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """New instances; every row has the same columns."""
    if rows:
        connection.execute(insert(instances), list(rows))


def update_instances(
    connection: Connection, changes: Iterable[tuple[str, Mapping[str, Any]]]
) -> None:
    """Set columns of instances: (node id, values), applied in this order for each node.

    Changes of the same columns are one statement, which is what makes thousands cheap.
    """
    alike: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    waiting: set[str] = set()

    def flush() -> None:
        for columns, rows in alike.items():
            connection.execute(
                update(instances)
                .where(instances.c.node_id == bindparam("_node"))
                .values({name: bindparam(f"_{name}") for name in columns}),
                rows,
            )
        alike.clear()
        waiting.clear()

    for node_id, values in changes:
        if node_id in waiting:
            flush()
        waiting.add(node_id)
        row = {"_node": node_id, **{f"_{name}": value for name, value in values.items()}}
        alike.setdefault(tuple(sorted(values)), []).append(row)
    flush()


#: What the actor of a change begins with when a person ordered it.
PERSON = "person"


def view_of(row: Mapping[str, Any]) -> InstanceView:
    """A row of ``instances`` as it is told to others."""
    state = InstanceState(row["state"])
    names = {field.name for field in fields(InstanceView)} & set(row.keys())
    same = {name: row[name] for name in names - {"state", "addresses"}}
    return InstanceView(
        **same,
        index=row["index_in_launch"],
        state=state,
        addresses=tuple(row["addresses"]),
        listed=row["cloud_id"] is not None and state not in FINAL_STATES,
        by_person=state is InstanceState.DRAINING and row["actor"].startswith(f"{PERSON} "),
    )


_CHANGED = select(instances).where(
    instances.c.pool == bindparam("pool"), instances.c.changed_in > bindparam("since")
)
_CURRENT = _CHANGED.where(instances.c.state.not_in(FINAL))
_ENDED = _CHANGED.where(instances.c.state.in_(FINAL))
_ENDED_LATELY = (
    _ENDED.where(instances.c.state_since > bindparam("told_after"))
    .order_by(instances.c.state_since.desc())
    .limit(bindparam("at_most"))
)


def snapshot_rows(
    connection: Connection, pool: str, since: int, told_after: float, at_most: int
) -> list[Mapping[str, Any]]:
    """Rows of a pool that changed after version ``since``: all of them.

    The first look, ``since`` 0, is spared old history: of the final ones it gets those that
    ended after ``told_after``, the latest ``at_most``. Who knew them alive must be told.
    """
    asked = {"pool": pool, "since": since}
    rows = [dict(row) for row in connection.execute(_CURRENT, asked).mappings()]
    if since == 0:
        told = {**asked, "told_after": told_after, "at_most": at_most}
        ended = connection.execute(_ENDED_LATELY, told)
    else:
        ended = connection.execute(_ENDED, asked)
    rows += [dict(row) for row in ended.mappings()]
    return sorted(rows, key=lambda row: (row["wanted_at"], row["node_id"]))


#: Columns of an instance that say when something was or will be, epoch seconds, and others.
_MOMENTS = ("wanted_at", "state_since", "enrolled_at", "first_listed_at", "start_step_at",
            "boot_deadline", "launch_deadline", "drain_deadline")  # fmt: skip
_TOLD = ("node_id", "launch_id", "pool", "cloud", "template", "state", "reason", "cloud_id",
         "claimed_cloud_id", "addresses", "price", "unique_id", "outputs", "protected",
         "boot_timeout", "start_step", "start_detail", "boot_cause", "boot_detail",
         "blueprint")  # fmt: skip


def node_document(connection: Connection, node_id: str, now: float) -> dict[str, Any]:
    """One instance with its history, oldest first, as plain JSON values. Raises NotFound."""
    wanted = select(instances).where(instances.c.node_id == node_id)
    row = connection.execute(wanted).mappings().first()
    if row is None:
        raise NotFound(f"no node '{node_id}'")
    lines = select(transitions).where(transitions.c.node_id == node_id).order_by(transitions.c.id)
    return {
        **{name: row[name] for name in _TOLD},
        "index": row["index_in_launch"],
        "now": now,
        **{name: row[name] for name in _MOMENTS},
        "history": [
            {
                "state": line["to_state"],
                "at": line["at"],
                "actor": line["actor"],
                "reason": line["reason"],
            }
            for line in connection.execute(lines).mappings()
        ],
    }


# Made once: to build a statement takes longer than to run it, and this one runs all the time.
_FLAG = select(flags.c.value).where(flags.c.key == bindparam("key"))


def read_flag(connection: Connection, key: str) -> Any:
    """The stored value of a flag, or None."""
    return connection.execute(_FLAG, {"key": key}).scalar()


def write_flag(connection: Connection, key: str, value: Any) -> None:
    """Store a flag in place of its former value."""
    connection.execute(delete(flags).where(flags.c.key == key))
    connection.execute(insert(flags).values(key=key, value=value))


def forget_ended(connection: Connection, before: float) -> None:
    """Delete what ended before then, with everything that belongs to it."""
    old = select(instances.c.node_id).where(
        instances.c.state.in_(FINAL), instances.c.state_since < before
    )
    connection.execute(delete(transitions).where(transitions.c.node_id.in_(old)))
    connection.execute(delete(instances).where(instances.c.node_id.in_(old)))
    unused = launches.c.launch_id.not_in(select(instances.c.launch_id))
    connection.execute(delete(launches).where(launches.c.created_at < before, unused))
    connection.execute(delete(batches).where(batches.c.at < before))
