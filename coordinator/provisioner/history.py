"""From stored state changes to events, in the originals' words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from agent.messages import InstanceState
from coordinator.events import EventLog
from coordinator.provisioner.lifecycle import (
    BOOT_FAILED,
    BOOTING,
    DRAINING,
    LAUNCH_FAILED,
    REJECTED,
    REQUESTED,
    RUNNING,
    TERMINATED,
    TERMINATING,
    Applied,
    Record,
)

#: The name of the event when an instance enters a state; others are not told.
EVENT_OF: Mapping[InstanceState, str] = {
    BOOTING: "new_node",
    RUNNING: "node_ready",
    BOOT_FAILED: "node_ready_failed",
    DRAINING: "drain_started",
    TERMINATING: "node_terminating",
    TERMINATED: "node_terminated",
    LAUNCH_FAILED: "launch_failed",
    REJECTED: "launch_rejected",
}


def announce(events: EventLog, applied: Iterable[Applied], actor: str = "") -> None:
    """Append an event for each change; a launch of many machines is one event.

    After the commit, never inside the transaction: an event that a crash swallows is still
    in the table of transitions.
    """
    launched: dict[str, list[Applied]] = {}
    told: list[tuple[str, dict[str, Any]]] = []
    for change in applied:
        record = change.record
        if record.state is REQUESTED:
            launched.setdefault(record.launch_id, []).append(change)
            continue
        name = EVENT_OF.get(record.state)
        if name is None:
            continue
        if change.before is DRAINING and record.state is RUNNING:
            name = "drain_cancelled"
        extra: dict[str, Any] = {"cloud": record.cloud, "launch_id": record.launch_id}
        if record.cloud_id is not None:
            extra["cloud_id"] = record.cloud_id
        if record.state is BOOT_FAILED:
            extra |= {"cause": record.boot_cause, "detail": record.boot_detail}
        told.append((name, _fields(record, actor, node=record.node_id, extra=extra)))
    for launch_id, changes in launched.items():
        record = changes[0].record
        extra = {"cloud": record.cloud, "launch_id": launch_id, "count": len(changes)}
        told.append(("new_launch", _fields(record, actor, extra=extra)))
    if told:
        events.append_all(told)


def _fields(record: Record, actor: str, **more: Any) -> dict[str, Any]:
    return {"actor": actor, "pool": record.pool, "reason": record.reason, **more}
