"""What a command batch means for the records. PURE."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from agent.messages import (
    CancelDrain,
    CommandBatch,
    DrainInstance,
    InstanceState,
    LaunchInstances,
    NodeRole,
    TerminateInstance,
)
from coordinator.errors import ConfigProblem, Problem, did_you_mean
from coordinator.provisioner.lifecycle import (
    DRAINING,
    LAUNCH_FAILED,
    REJECTED,
    REQUESTED,
    RUNNING,
    TERMINATED,
    Change,
    Record,
    after,
    drained_by,
    move,
    note,
    unwanted,
)

#: The most machines of one launch; a typing error must not empty a bank account.
LARGEST_LAUNCH = 10_000


@dataclass(frozen=True, kw_only=True)
class NewInstance:
    """A record that does not exist yet. The last three are of adopted machines only.

    ``blueprint``: digest of what its machine is made from, in the controller's words.
    """

    node_id: str
    launch_id: str
    index: int
    pool: str
    state: InstanceState
    reason: str
    cloud: str = ""
    template: str = ""
    unique_id: str | None = None
    variables: dict[str, str] = field(default_factory=dict)
    role: NodeRole = NodeRole()
    boot_timeout: float = 300.0
    launch_timeout: float = 300.0
    blueprint: str = ""
    boot_deadline: float | None = None
    cloud_id: str | None = None
    claimed_cloud_id: str | None = None

    def record(self, now: float) -> Record:
        """The record that this becomes when it is stored at ``now``."""
        return Record(
            node_id=self.node_id,
            launch_id=self.launch_id,
            index=self.index,
            pool=self.pool,
            cloud=self.cloud,
            state=self.state,
            reason=self.reason,
            wanted_at=now,
            state_since=now,
        )


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One intended call to a cloud: everything that is needed to build it again exactly.

    ``token_expires_at`` and ``user_data_digest`` are set at the first call of an ``attempt``
    and kept with it; ``called_at`` is the last call.
    """

    launch_id: str
    pool: str
    cloud: str
    count: int
    created_at: float
    template: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    attempt: int = 1
    token_expires_at: float | None = None
    user_data_digest: str = ""
    called_at: float | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to write for a batch. ``remarks`` say what was asked for and not needed."""

    changes: tuple[Change, ...] = ()
    instances: tuple[NewInstance, ...] = ()
    launches: tuple[Launch, ...] = ()
    remarks: tuple[str, ...] = ()


def named_nodes(batch: CommandBatch) -> list[str]:
    """Every node id that the batch is about, launched ones included."""
    nodes = [c.node_id for c in batch.commands if not isinstance(c, LaunchInstances)]
    return nodes + [
        f"{launch.launch_id}-{index}" for launch in batch.launches for index in range(launch.count)
    ]


def check_batch(batch: CommandBatch) -> None:
    """Raise ConfigProblem for a batch that no provisioner could ever carry out."""
    problems = []
    for launch in batch.launches:
        if not 1 <= launch.count <= LARGEST_LAUNCH:
            what = f"must be between 1 and {LARGEST_LAUNCH}, not {launch.count}"
            problems.append(Problem(key=f"{launch.command_id}.count", what=what))
        if not launch.launch_id or "." in launch.launch_id:
            what = f"'{launch.launch_id}' is empty or holds a dot"
            problems.append(Problem(key=f"{launch.command_id}.launch_id", what=what))
    for command in batch.terminations:
        if not command.node_id.rpartition("-")[2].isdigit():
            what = f"'{command.node_id}' is not <launch id>-<index>"
            problems.append(Problem(key=f"{command.command_id}.node_id", what=what))
    if problems:
        raise ConfigProblem(problems)


def plan_batch(
    batch: CommandBatch,
    known: Mapping[str, Record],
    *,
    clouds: Set[str],
    enabled: bool,
    now: float,
) -> Plan:
    """What ``batch`` changes, given the records of the nodes that it names.

    A command that finds its work done is no error: commands may be repeated every cycle.
    """
    current = dict(known)
    changes: list[Change] = []
    instances: list[NewInstance] = []
    launches: list[Launch] = []
    remarks: list[str] = []

    def take(change: Change | None, remark: str) -> None:
        if change is None:
            remarks.append(remark)
        else:
            changes.append(change)
            current[change.node_id] = after(current[change.node_id], change)

    for command in batch.commands:
        if isinstance(command, LaunchInstances):
            made = _launched(command, batch.pool, current, clouds, enabled)
            instances += made
            if not made:
                remarks.append(f"{command.launch_id} is known already")
            elif any(instance.state is REQUESTED for instance in made):
                launches.append(_launch(command, batch.pool, now))
            continue
        record = current.get(command.node_id)
        if record is None:
            if isinstance(command, TerminateInstance):
                instances.append(_tombstone(command, batch.pool))
            else:
                remarks.append(f"{command.node_id} is not known")
        elif record.pool != batch.pool:
            remarks.append(f"{command.node_id} is not of pool {batch.pool}")
        elif isinstance(command, CancelDrain):
            take(_cancelled(record, enabled, now, command.reason), f"{command.node_id} stays")
        elif isinstance(command, DrainInstance):
            take(
                drained_by(record, now, command.drain_timeout, command.reason),
                f"{command.node_id} is {record.state.value}",
            )
        else:
            take(_terminated(record, now, command.reason), f"{command.node_id} is ending")
    return Plan(
        changes=tuple(changes),
        instances=tuple(instances),
        launches=tuple(launches),
        remarks=tuple(remarks),
    )


def _cancelled(record: Record, enabled: bool, now: float, reason: str) -> Change | None:
    if record.state is not DRAINING or not enabled:  # in a teardown everything goes
        return None
    # The deadline stays until the agent has confirmed; see Record.
    return move(record, RUNNING, now, reason)


def _terminated(record: Record, now: float, reason: str) -> Change | None:
    if record.state is TERMINATED and record.cloud:
        return note(record, next_attempt_at=now)  # a zombie: ask the cloud, or its agent
    return unwanted(record, now, reason)


def _tombstone(command: TerminateInstance, pool: str) -> NewInstance:
    launch_id, _, index = command.node_id.rpartition("-")
    return NewInstance(
        node_id=command.node_id,
        launch_id=launch_id,
        index=int(index),
        pool=pool,
        state=TERMINATED,
        reason=f"terminated before its launch: {command.reason}",
    )


def _launched(
    command: LaunchInstances,
    pool: str,
    current: Mapping[str, Record],
    clouds: Set[str],
    enabled: bool,
) -> list[NewInstance]:
    state, reason = REQUESTED, command.reason
    if not enabled:
        state, reason = REJECTED, "launches are disabled"
    elif command.cloud not in clouds:
        remedy = did_you_mean(command.cloud, clouds)
        state, reason = LAUNCH_FAILED, f"unknown cloud '{command.cloud}' ({remedy})"
    nodes = {f"{command.launch_id}-{index}": index for index in range(command.count)}
    if any(node in current and current[node].cloud for node in nodes):
        return []  # the same launch again; only tombstones may stand in the way of a new one
    return [
        NewInstance(
            node_id=node_id,
            launch_id=command.launch_id,
            index=index,
            pool=pool,
            state=state,
            reason=reason,
            cloud=command.cloud,
            template=command.template,
            unique_id=command.unique_id,
            variables=command.variables,
            role=command.role,
            boot_timeout=command.boot_timeout,
            launch_timeout=command.launch_timeout,
            blueprint=command.blueprint,
        )
        for node_id, index in nodes.items()
        if node_id not in current
    ]


def _launch(command: LaunchInstances, pool: str, now: float) -> Launch:
    return Launch(
        launch_id=command.launch_id,
        pool=pool,
        cloud=command.cloud,
        count=command.count,
        created_at=now,
        template=command.template,
        variables=command.variables,
        settings=command.settings,
    )
