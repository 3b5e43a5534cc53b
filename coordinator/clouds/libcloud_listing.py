"""What a node of libcloud is to us. PURE: nodes are taken as they are, nothing is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coordinator.clouds.base import CloudInstance, MachineState
from coordinator.clouds.libcloud_terms import (
    LAUNCH,
    POOL,
    RUN,
    AskedMachine,
    read_name,
    run_digest,
    tags_of,
)

#: States of nodes by their names in libcloud. All others are on their way.
_STATES = {
    "running": MachineState.RUNNING,
    "terminated": MachineState.GONE,
    "stopping": MachineState.STOPPING,
    "stopped": MachineState.STOPPING,
    "suspended": MachineState.STOPPING,
    "paused": MachineState.STOPPING,
}
#: States that a machine does not get out of by itself.
_TROUBLE = frozenset({"error", "stopped", "suspended", "paused", "unknown"})


def names_of(node: Any) -> tuple[object, ...]:
    """Where a name of ours may stand: clouds whose names are tags show the token sooner."""
    return node.name, (node.extra or {}).get("client_token")


def state_of(node: Any) -> str:
    return str(getattr(node.state, "value", node.state)).lower()


def as_instance(
    node: Any, run: str, by_name: Mapping[str, AskedMachine], by_id: Mapping[str, AskedMachine]
) -> CloudInstance | None:
    """A node as ours; None when it is not of ``run``."""
    extra = node.extra or {}
    named, carried = read_name(names_of(node)), tags_of(extra)
    asked = by_id.get(str(node.id)) or (by_name.get(named[0]) if named else None)
    if asked is None and (named is None or named[1].run_digest != run_digest(run)):
        return None
    if carried and carried.get(RUN) != run:
        return None
    state = state_of(node)
    index = asked.number if asked else (named[1].number if named else 0)
    launch = named[1].launch if named else ""
    created = getattr(node, "created_at", None)
    return CloudInstance(
        cloud_id=str(node.id),
        run=run,
        pool=asked.pool if asked else str(carried.get(POOL, "")),
        launch_id=asked.launch_id if asked else str(carried.get(LAUNCH, launch)),
        index=index,
        state=_STATES.get(state, MachineState.PENDING),
        addresses=tuple(dict.fromkeys([*(node.public_ips or ()), *(node.private_ips or ())])),
        launched_at=created.timestamp() if created else (asked.asked_at if asked else None),
        price=asked.price if asked else None,
        problem=f"the provider says: {state}" if state in _TROUBLE else "",
    )
