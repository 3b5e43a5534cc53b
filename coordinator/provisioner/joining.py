"""What the registrar tells the provisioner: who enrols, how far a start is, who is ready."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agent.messages import ADOPTED_CLOUD, InstanceState, NodeRole, ReadyReport
from agent.wire import from_wire
from coordinator.errors import NotFound
from coordinator.provisioner.boot_failure import Evidence, explain_boot_failure
from coordinator.provisioner.cloud_calls import Tools
from coordinator.provisioner.commands import NewInstance
from coordinator.provisioner.history import announce
from coordinator.provisioner.lifecycle import (
    BOOT_FAILED,
    BOOTING,
    DRAINING,
    LAUNCHING,
    REQUESTED,
    RUNNING,
    TERMINATING,
    Change,
    Record,
    after,
    move,
    note,
)

#: How much of what a node says of itself is kept, characters.
STEP_LIMIT, DETAIL_LIMIT = 120, 1500


class Joining:
    """``wake(cloud)``: records of that cloud have changed.

    ``knows_id(cloud)``: whether its machines are told the very id by which it lists them.
    """

    def __init__(
        self, tools: Tools, wake: Callable[[str], None], knows_id: Callable[[str], bool]
    ) -> None:
        self._tools = tools
        self._wake = wake
        self._knows_id = knows_id

    def node_for_enrolment(self, launch_id: str, index: int) -> dict[str, Any]:
        """Who the machine with that launch id and index is. Raises NotFound."""
        return self._known(self.record(f"{launch_id}-{index}"))

    def adopt_node(
        self,
        launch_id: str,
        index: int,
        pool: str,
        wanted: Mapping[str, Any],
        machine: Mapping[str, str],
    ) -> dict[str, Any]:
        """Make a record for a machine that a person booted, once; who it is.

        ``wanted``: wire form of its role, the template, boot_timeout. ``machine``: what it
        says of itself, cloud_id and hostname. While launches are disabled it is REJECTED,
        and there is no record.
        """
        node_id = f"{launch_id}-{index}"
        now = self._tools.clock()
        boot_timeout = float(wanted["boot_timeout"])
        made = NewInstance(
            node_id=node_id,
            launch_id=launch_id,
            index=index,
            pool=pool,
            state=BOOTING,
            reason=f"adopted: a person booted {machine.get('hostname') or 'it'}",
            cloud=ADOPTED_CLOUD,
            template=str(wanted["template"]),
            role=from_wire(NodeRole, wanted["role"]),
            boot_timeout=boot_timeout,
            boot_deadline=now + boot_timeout,
            cloud_id=node_id,
            claimed_cloud_id=machine.get("cloud_id") or None,
        )
        if not self._tools.records.switches().enabled:
            return {"node_id": node_id, "pool": pool, "role": wanted["role"], "cloud_id": None,
                    "state": InstanceState.REJECTED.value}  # fmt: skip
        announce(self._tools.events, self._tools.records.add(made, now, "registrar"), "registrar")
        self._wake(ADOPTED_CLOUD)
        return self._known(self.record(node_id))

    def node_enrolled(
        self, node_id: str, addresses: Sequence[str], cloud_id: str = "", told: str = ""
    ) -> None:
        """A machine spoke to us: the first witness, if no listing was. Raises NotFound.

        ``cloud_id``: what it says its cloud calls it; a claim until a listing says so too.
        ``told``: what its agent did before it enrolled.
        """
        record = self.record(node_id)
        if record.final or record.state is TERMINATING:
            return
        now = self._tools.clock()
        changes = self._witnessed(record, now, "its agent enrolled")
        for change in changes:
            record = after(record, change)
        facts: dict[str, Any] = {"enrolled_at": now, "presence_lost_at": None}
        if not record.addresses:
            facts["addresses"] = tuple(addresses)
        if cloud_id and record.cloud_id is None and self._knows_id(record.cloud):
            facts["claimed_cloud_id"] = cloud_id
        if record.state is BOOTING:
            facts |= {"start_step": "enrolled", "start_step_at": now}
            facts["start_detail"] = told[-DETAIL_LIMIT:]
        self._commit([*changes, note(record, **facts)], record)

    def node_starting(self, node_id: str, step: str, detail: str) -> None:
        """Where a booting node is in its start. Raises NotFound."""
        record = self.record(node_id)
        if record.state is not BOOTING:
            return
        facts = {"start_step": step[:STEP_LIMIT], "start_detail": detail[-DETAIL_LIMIT:]}
        changed = note(record, **facts, start_step_at=self._tools.clock())
        self._tools.commit([changed], "registrar")

    def node_ready(self, report: ReadyReport) -> dict[str, Any]:
        """A node verified itself, or could not. Committed before this returns.

        Not accepted from a node that is not wanted any more. Raises NotFound.
        """
        record = self.record(report.node_id)
        now = self._tools.clock()
        changes = self._witnessed(record, now, "its agent reported")
        for change in changes:
            record = after(record, change)
        if record.state is BOOTING and report.ok:
            enrolled = record.enrolled_at or now
            reason = "verified itself"
            changes.append(
                move(record, RUNNING, now, reason, outputs=report.outputs, enrolled_at=enrolled)
            )
        elif record.state is BOOTING:
            evidence = Evidence(
                occasion="",
                enrolled=True,
                step=report.step or "verification",
                detail=report.problem,
            )
            found = explain_boot_failure(evidence)
            facts = {"boot_cause": found.cause.value, "boot_detail": found.detail}
            changes.append(move(record, BOOT_FAILED, now, found.sentence, **facts))
        self._commit(changes, record)
        state = self.record(report.node_id).state
        accepted = state in (RUNNING, DRAINING) or (state is BOOT_FAILED and not report.ok)
        return {"accepted": accepted, "state": state.value}

    def record(self, node_id: str) -> Record:
        """The record of a node. Raises NotFound."""
        found = self._tools.records.named([node_id]).get(node_id)
        if found is None:
            raise NotFound(f"no instance {node_id}")
        return found

    def _known(self, record: Record) -> dict[str, Any]:
        # Of an adopted machine nobody but itself ever says what its cloud calls it.
        cloud_id = record.cloud_id if self._knows_id(record.cloud) else None
        if record.cloud == ADOPTED_CLOUD:
            cloud_id = record.claimed_cloud_id
        return {
            "node_id": record.node_id,
            "pool": record.pool,
            "run": self._tools.run,
            "state": record.state.value,
            "role": self._tools.records.role(record.node_id),
            "cloud_id": cloud_id,
        }

    def _witnessed(self, record: Record, now: float, reason: str) -> list[Change]:
        """The changes that bring a record to BOOTING: its machine exists, it just spoke."""
        changes: list[Change] = []
        if record.state is REQUESTED:  # our store is from before the call
            changes.append(move(record, LAUNCHING, now, reason))
            record = after(record, changes[-1])
        if record.state is LAUNCHING:
            changes.append(move(record, BOOTING, now, reason))
        return changes

    def _commit(self, changes: Sequence[Change | None], record: Record) -> None:
        if self._tools.commit(changes, "registrar"):
            self._wake(record.cloud)
