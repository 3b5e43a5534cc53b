"""Everything that travels on the bus, as frozen values. PURE.

One module for both directions, owned by the smallest program: the agent. ``agent.wire``
turns these into plain JSON values and back. Rules of the wire: every message that is sent
on its own carries ``version``; unknown fields are ignored, missing ones have defaults, so
an old agent and a new coordinator understand each other.

All times are seconds since the epoch on the *sender's* clock unless the name says ``age``
(seconds since the thing happened, measured on one clock) or ``timeout``/``interval``
(durations, seconds).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from agent.broker_access import BrokerAccess as BrokerAccess
from agent.broker_access import BrokerAccount as BrokerAccount
from agent.broker_access import mask_url as mask_url
from agent.cloud_status import CloudStatus as CloudStatus
from agent.command_messages import BatchAnswer as BatchAnswer
from agent.command_messages import CancelDrain as CancelDrain
from agent.command_messages import Command as Command
from agent.command_messages import CommandBatch as CommandBatch
from agent.command_messages import DrainInstance as DrainInstance
from agent.command_messages import LaunchInstances as LaunchInstances
from agent.command_messages import TerminateInstance as TerminateInstance
from agent.enrolment_messages import POOL_TOKEN as POOL_TOKEN
from agent.enrolment_messages import UNASSIGNED as UNASSIGNED
from agent.enrolment_messages import WIRE_VERSION as WIRE_VERSION
from agent.enrolment_messages import EnrolAnswer as EnrolAnswer
from agent.enrolment_messages import EnrolRequest as EnrolRequest
from agent.enrolment_messages import ReadyReport as ReadyReport
from agent.enrolment_messages import StartReport as StartReport
from agent.enrolment_messages import StartStep as StartStep
from agent.node_role import BusySource as BusySource
from agent.node_role import CheckSpec as CheckSpec
from agent.node_role import DrainProgram as DrainProgram
from agent.node_role import Hook as Hook
from agent.node_role import NodeRole as NodeRole
from agent.node_role import NodeSensor as NodeSensor
from agent.node_role import ProgramSpec as ProgramSpec
from agent.words import Word

#: Shared topic exchange of heartbeats and job events; declared by the registrar only.
EVENTS_EXCHANGE = "agent.events"
#: nameko's exchange for requests and replies.
RPC_EXCHANGE = "nameko-rpc"
#: Name under which the sensors service hears itself (see ``Blindness`` in ARCHITECTURE.md).
LOOPBACK_POOL = "loopback"
#: In place of a pool for nodes of a launch plan's levels; no pool can have this name.
BASE_POOL = "_base"
#: In place of a cloud for machines that people booted: adopted workers. Nobody can end them.
ADOPTED_CLOUD = "adopted"


def agent_service(node_id: str) -> str:
    """The nameko service name of one node's agent."""
    return f"agent-{node_id}"


def agent_queue(node_id: str) -> str:
    """The queue that exists exactly while the agent of ``node_id`` is connected."""
    return f"rpc-{agent_service(node_id)}"


def beat_key(pool: str, node_id: str) -> str:
    """Routing key of a node's heartbeats; pools and node ids never contain a dot."""
    return f"beat.{pool}.{node_id}"


def job_key(pool: str, node_id: str) -> str:
    """Routing key of the job events of a node's workers."""
    return f"job.{pool}.{node_id}"


class InstanceState(Word):
    """Where one intended machine is in its life (the table is ``provisioner.lifecycle``)."""

    REQUESTED = "REQUESTED"
    LAUNCHING = "LAUNCHING"
    BOOTING = "BOOTING"
    RUNNING = "RUNNING"
    BOOT_FAILED = "BOOT_FAILED"
    DRAINING = "DRAINING"
    TERMINATING = "TERMINATING"
    TERMINATED = "TERMINATED"
    LAUNCH_FAILED = "LAUNCH_FAILED"
    REJECTED = "REJECTED"


#: Launch wanted, not yet usable.
PENDING_STATES = frozenset(
    {InstanceState.REQUESTED, InstanceState.LAUNCHING, InstanceState.BOOTING}
)
#: No machine behind the record any more, for ever.
FINAL_STATES = frozenset(
    {InstanceState.TERMINATED, InstanceState.LAUNCH_FAILED, InstanceState.REJECTED}
)


class HealthStatus(Word):
    """What the controller judges of a node; never mixed into the state."""

    UNKNOWN = "UNKNOWN"
    OK = "OK"
    PROCESS_ERROR = "PROCESS_ERROR"
    MONITOR_ERROR = "MONITOR_ERROR"
    OUT_OF_CONTACT = "OUT_OF_CONTACT"
    MISSING = "MISSING"
    ZOMBIE = "ZOMBIE"


# ------------------------------------------------------------------ heartbeats


@dataclass(frozen=True, kw_only=True)
class ProcessState:
    """One program as the node's supervisord sees it (its own state words)."""

    name: str
    state: str
    pid: int = 0
    exit_status: int = 0
    problem: str = ""
    stderr_tail: str = ""


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """One sign of life. ``sequence`` counts from 1 for each ``boot_id``.

    ``supervisor_ok`` is whether the agent could ask its supervisord; ``busy`` is None
    where the role names no source, or with a ``busy_problem``: then nobody may take the node
    for idle. ``busy_for``: seconds for which it has been busy, or idle; ``jobs`` in hand, where
    the source tells. ``figures`` are the machine's and its sensors' by name, ``figure_ages`` how
    many seconds ago a sensor measured its own, ``sensor_problems`` why one of that name is silent.
    """

    node_id: str
    pool: str
    boot_id: str
    sequence: int
    sent_at: float
    ready: bool = False
    draining: bool = False
    drained: bool = False
    busy: bool | None = None
    busy_for: float | None = None
    busy_problem: str = ""
    jobs: int | None = None
    supervisor_ok: bool = True
    processes: tuple[ProcessState, ...] = ()
    figures: dict[str, float] = field(default_factory=dict)
    figure_ages: dict[str, float] = field(default_factory=dict)
    sensor_problems: dict[str, str] = field(default_factory=dict)
    version: int = WIRE_VERSION


@dataclass(frozen=True, kw_only=True)
class DrainAnswer:
    """Answer of ``agent-<node id>.drain``: level, not edge, so it can be asked again."""

    node_id: str
    draining: bool
    drained: bool
    busy: bool | None = None
    detail: str = ""


# ------------------------------------------------------------------ sensors


@dataclass(frozen=True, kw_only=True)
class SensorReading:
    """A timed value with a name; ``age`` seconds old when it was answered.

    Queue readings are named ``queue.<name>.ready`` and ``queue.<name>.unacknowledged``.
    ``sample`` changes whenever the source measured anew.
    """

    name: str
    value: float
    age: float
    sample: str = ""


@dataclass(frozen=True, kw_only=True)
class NodeSigns:
    """What the sensors service last heard of a node. Ages in seconds, on its clock.

    ``busy``, ``busy_for``, ``busy_problem``, ``jobs``: as in Heartbeat, or as the broker sees it
    where the pool's busy source is a queue.
    """

    node_id: str
    heard_age: float | None = None
    presence_lost_age: float | None = None
    boot_id: str = ""
    sequence: int = 0
    ready: bool = False
    drained: bool = False
    busy: bool | None = None
    busy_for: float | None = None
    busy_problem: str = ""
    jobs: int | None = None
    supervisor_failures: int = 0
    processes: tuple[ProcessState, ...] = ()
    figures: dict[str, float] = field(default_factory=dict)
    figure_ages: dict[str, float] = field(default_factory=dict)
    sensor_problems: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SensorReport:
    """``sensors.latest(pool)``.

    ``observing_age``: for how long silence has been meaningful; *negative* while the
    service is still inside the grace time after a gap. ``blind``: its own loopback beat
    does not come back, so nothing here may be taken as silence.
    """

    pool: str
    observing_age: float
    blind: bool
    nodes: dict[str, NodeSigns] = field(default_factory=dict)
    readings: dict[str, SensorReading] = field(default_factory=dict)
    presence_source: str = ""
    version: int = WIRE_VERSION


# ------------------------------------------------------------------ provisioner


@dataclass(frozen=True, kw_only=True)
class InstanceView:
    """One instance record as the provisioner tells it.

    ``start_step`` is where its agent last said it is in its start, received at
    ``start_step_at``; ``boot_cause`` the class of a failed boot (``boot_failure.Cause``).
    ``blueprint`` is that of its launch command; ``by_person``: a person lets it drain.
    """

    node_id: str
    launch_id: str
    index: int
    pool: str
    cloud: str
    template: str
    state: InstanceState
    wanted_at: float
    state_since: float
    reason: str = ""
    cloud_id: str | None = None
    addresses: tuple[str, ...] = ()
    price: float | None = None
    unique_id: str | None = None
    variables: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    listed: bool = False
    protected: bool = False
    retryable: bool = False
    changed_in: int = 0
    start_step: str = ""
    start_detail: str = ""
    start_step_at: float | None = None
    boot_cause: str = ""
    blueprint: str = ""
    by_person: bool = False

    @property
    def adopted(self) -> bool:
        """Whether a person booted its machine, which then nobody but that person can end."""
        return self.cloud == ADOPTED_CLOUD


@dataclass(frozen=True, kw_only=True)
class PoolSnapshot:
    """``provisioner.instances(pool, since)``: instances changed after version ``since``.

    ``version`` grows with every change of the pool's instances and is what a command
    batch is ``based_on``. ``now`` is the provisioner's clock when it answered. ``clouds``
    are all that it has, whatever the pool.
    """

    pool: str
    version: int
    epoch: int
    now: float
    enabled: bool = True
    since: int = 0
    instances: tuple[InstanceView, ...] = ()
    clouds: dict[str, CloudStatus] = field(default_factory=dict)
    wire_version: int = WIRE_VERSION


# ------------------------------------------------------------------ history


@dataclass(frozen=True, kw_only=True)
class Event:
    """One line of history: when, who, what, why. ``id`` is ``<source>:<sequence>``."""

    time: float
    source: str
    name: str
    sequence: int = 0
    actor: str = ""
    run: str = ""
    pool: str = ""
    node: str = ""
    reason: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.source}:{self.sequence}"
