"""Documents about pools."""

from __future__ import annotations

from typing import Any, Literal

from agent.messages import HealthStatus, InstanceState
from mgmt.documents.parts import Missing, Part

PoolStateName = Literal["STABLE", "PENDING", "HELD", "FAILED"]
BrakeLevel = Literal["NORMAL", "MANAGED", "MELTDOWN"]


class FailedProgram(Part):
    """A program of a node that failed."""

    name: str
    state: str
    """As supervisord calls it."""
    exit_status: int | None
    problem: str
    stderr_tail: str
    """The last it said, secrets blotted out."""


class Instance(Part):
    """A worker of a pool, as of the controller's last cycle."""

    node_id: str
    state: InstanceState
    health: HealthStatus
    busy: bool | None
    """Whether it has work in hand; null: not known."""
    busy_for: float | None
    busy_problem: str
    """Why it is not known whether it is busy."""
    jobs: int | None
    """How many it has in hand."""
    age: float
    state_age: float
    cloud: str
    cloud_id: str | None
    reason: str
    """Of its health, where that is not well, else of its state."""
    old: bool | None
    """Whether it was made otherwise than a new one would be; null: not looked at."""
    failed_programs: list[FailedProgram]
    kept_until: float | None
    """A failed boot that is kept for a look, until then."""


class Rollout(Part):
    """A replacement of old workers."""

    state: Literal["RUNNING", "PAUSED", "STOPPED", "FINISHED"]
    reason: str
    started_at: float
    ended_at: float | None
    max_surge: int | None
    """How many beyond the pool's size; null: the pool's own `max_surge`."""
    old: int | None
    """How many are left; null: not looked at."""
    replaced: int
    leaving: list[str]
    """Node ids whose machines are still there."""
    beyond: int
    """Workers beyond the wanted size."""
    failures: int
    """Of new workers, in a row."""
    seconds_left: float
    """Of the pause after a failure."""


class Reading(Part):
    """What a sensor last read."""

    value: float
    age: float


class Zombie(Part):
    """A node that beats although its cloud calls its machine gone."""

    node_id: str
    cloud: str
    cloud_id: str | None
    """What the cloud calls the machine; null: nobody ever learned it."""


class Failing(Part):
    """Launches or boots that failed, and nobody came to run after them."""

    count: int
    last: str
    """The newest: node id, state, why."""
    last_age: float
    seconds_left: float
    """For how long launches still wait."""


class Suspended(Part):
    """What a person does not let a pool do."""

    recommend_only: bool
    """Nothing at all is done, only said."""
    suspend: list[Literal["scale_in", "scale_out", "replace"]]
    reason: str


class PoolLine(Part):
    """A pool in a list of pools."""

    name: str
    state: PoolStateName
    reason: str
    wanted: int | None
    """The size that was last decided; null: nothing was yet."""
    supply: int
    """Workers that count for the size: those that run and those on the way."""
    running: int
    pending: int
    draining: int
    unhealthy: int
    price: float | None
    """$ per hour of all its machines whose cloud tells; null: none does."""
    old: int | None
    """Workers made otherwise than new ones would be; null: not looked at."""
    rollout: Rollout | None
    """The last one; null before the first."""
    failing: Failing | None
    """Since the last worker came to run; null: none failed since then."""
    kept: int
    """Failed boots that are kept for a look."""
    zombies: list[Zombie]
    """They beat although their cloud calls them gone."""
    rogues: list[str]
    """Nodes that beat in its name and that no record knows."""
    was_running: bool
    """Whether a worker of it ever ran."""
    brake: BrakeLevel
    engine: dict[str, Any]
    """`type`, and its settings."""
    min: int
    max: int
    hold: Suspended | None
    """Null: nothing is suspended."""
    template: str
    clouds: list[str]
    """In the order in which they are tried."""
    cloud: str | None
    """Where launches go now."""
    cloud_reason: str
    """Why there, when it is not the first."""
    machine: dict[str, Any]
    """Settings of its machines on all clouds."""
    machine_by_cloud: dict[str, dict[str, Any]]
    revision: int
    """Counts its reconfigurations."""
    decided_age: float | None
    readings: dict[str, Reading]


class Pool(PoolLine):
    """A pool with its workers."""

    section: dict[str, Any]
    """As it was written."""
    instances: list[Instance]
    """All that are not at their end."""


class Pools(Missing):
    """The pools of a system."""

    pools: list[PoolLine]
    """Sorted by name."""


class PoolAdded(Part):
    """What adding a pool did."""

    added: bool
    """False when it was there with the same section."""


class PoolRemoved(Part):
    """A pool that is kept no more."""

    name: str
    workers: list[str]
    """Node ids of those that went with it."""


class PoolRollout(Part):
    """How far a pool's rollout is."""

    name: str
    old: int | None
    rollout: Rollout | None


class Hold(Part):
    """Whether all pools are held."""

    held: bool
    reason: str = ""


class Wish(Part):
    """What the engine wanted."""

    size: int
    reason: str
    held: bool
    """It could not judge, so the size stays as it was."""
    unique_ids: list[str]


class Bound(Part):
    """One limit that the wish passed through, and the size after it."""

    name: str
    size: int
    reason: str


class InputReading(Part):
    """A reading that was decided by."""

    value: float | str
    """A number, or the word for one that JSON has not: `nan`, `inf`."""
    age: float | str
    sample: int | None = None
    """Changes with each independent measurement."""


class Unhealthy(Part):
    """Why a node counts as ill."""

    health: HealthStatus
    reason: str


class Inputs(Part):
    """What a decision was made of."""

    counts: dict[str, int]
    readings: dict[str, InputReading]
    unhealthy: dict[str, Unhealthy]
    """By node id."""
    previous_size: int | None


class ClosedCloud(Part):
    """A cloud that is not asked for now."""

    reason: str
    seconds_left: float


class CloudChoice(Part):
    """Where launches go."""

    chosen: str
    reason: str
    closed: dict[str, ClosedCloud]


class Brake(Part):
    """How far mass replacement is held up."""

    level: BrakeLevel
    unhealthy: int
    total: int
    share: float
    allowance: int | None
    """How many may be replaced now; null: any number."""
    reason: str


class Backoff(Part):
    """Launches that wait after failures."""

    seconds_left: float
    failures: int
    until: float
    last: str
    """What failed last."""


class Command(Part):
    """What the cycle ordered."""

    command: Literal["LaunchInstances", "DrainInstance", "CancelDrain", "TerminateInstance"]
    reason: str
    node_id: str = ""
    launch_id: str = ""
    count: int = 0
    unique_id: str | None = None
    cloud: str = ""


class Explanation(Part):
    """Why a pool has the size it has."""

    pool: str
    time: float
    based_on: int
    """The version of its instances that was seen."""
    sentence: str
    """What the cycle did."""
    state: PoolStateName
    reason: str
    engine: str
    inputs: Inputs
    wish: Wish | None
    """Null: nothing was decided in this cycle."""
    bounds: list[Bound]
    """In the order in which they limit."""
    wanted: int | None
    cloud: CloudChoice | None
    brake: Brake | None
    backoff: Backoff
    rollout: Rollout | None
    commands: list[Command]
    why_not_more: list[str]
    why_not_fewer: list[str]
