"""Documents about nodes."""

from __future__ import annotations

from typing import Any, Literal

from agent.messages import HealthStatus, InstanceState
from mgmt.documents.parts import Missing, Part
from mgmt.documents.pools import FailedProgram

BootCause = Literal[
    "", "no_cloud_init", "slow", "user_data", "cloud_init_module", "packages", "python", "wheel",
    "no_agent", "agent_config", "broker_unreachable", "tls_refused", "login_refused",
    "enrolment_refused", "program", "check", "agent", "unknown",
]  # fmt: skip


class NodeLine(Part):
    """A node in a list of nodes. Ages are on the provisioner's clock."""

    node_id: str
    pool: str
    state: InstanceState
    state_age: float
    age: float
    health: HealthStatus | None
    """Null: the controller does not answer, or does not judge it."""
    busy: bool | None
    cloud: str
    cloud_id: str | None
    """Null until the cloud has told it."""
    addresses: list[str]
    template: str
    unique_id: str | None
    price: float | None
    """$ per hour, where its cloud tells."""
    protected: bool
    """Whether a person keeps it: its pool neither shrinks by it nor replaces it."""
    reason: str


class Nodes(Missing):
    """The nodes of a system or of one pool."""

    nodes: list[NodeLine]


class Transition(Part):
    """A change of a node's state."""

    state: InstanceState
    at: float
    actor: str
    reason: str


class Node(Missing):
    """All that is known of one node. Moments are on the provisioner's clock (`now`)."""

    node_id: str
    launch_id: str
    index: int
    pool: str
    cloud: str
    cloud_id: str | None
    """Null until the cloud has told it."""
    claimed_cloud_id: str | None
    """What the machine says its cloud calls it."""
    template: str
    addresses: list[str]
    price: float | None
    unique_id: str | None
    outputs: dict[str, Any]
    """What its ready programs told."""
    protected: bool
    state: InstanceState
    reason: str
    health: HealthStatus | None
    health_reason: str | None
    """When it is not well."""
    failed_programs: list[FailedProgram]
    busy: bool | None
    busy_for: float | None
    busy_problem: str | None
    jobs: int | None
    figures: dict[str, float]
    """What its own sensors read."""
    figure_ages: dict[str, float]
    sensor_problems: dict[str, str]
    heard_age: float | None
    """Since its last sign of life; null: none was heard, or nobody can be asked."""
    start_step: str
    """Where its agent is in its start."""
    start_detail: str
    start_step_at: float | None
    boot_cause: BootCause
    """Why its boot failed; empty when it did not."""
    boot_detail: str
    kept_until: float | None
    """A failed boot that is kept for a look, until then."""
    now: float
    wanted_at: float
    state_since: float
    enrolled_at: float | None
    first_listed_at: float | None
    boot_deadline: float | None
    launch_deadline: float | None
    drain_deadline: float | None
    boot_timeout: float
    blueprint: str
    """A digest of what it was launched from."""
    history: list[Transition]
    """Oldest first."""


class NodeLogs(Part):
    """The last lines of a node's logs."""

    node_id: str
    program: str
    """Empty: all of them."""
    text: str


class NodeOrder(Part):
    """What a person's order did."""

    node_id: str
    order: Literal["drain", "undrain", "protect", "unprotect", "terminate"]
    changed: bool
    """False: nothing was left to do."""
    state: InstanceState
    protected: bool


class NodeExec(Part):
    """A command that was run on a node."""

    node_id: str
    exec_id: str
    exit_code: int | None
    """Negative for a signal, null without an end of its own."""
    timed_out: bool
    problem: str
    output: str
    """The last MiB."""
    output_omitted: int
    """Bytes before it."""


class Token(Part):
    """An enrolment token for machines that a person boots. A secret until it expires."""

    kind: Literal["pool"]
    pool: str
    run: str
    launch_id: str
    """Nodes are `<launch_id>-0` and so on."""
    uses: int
    expires_at: float
    token: str = ""
    """Not with `-o`."""
    agent_config: dict[str, Any] | None = None
    """The content of the agent's file; not with `-o`."""
    file: str = ""
    """With `-o`: where that was written instead."""
