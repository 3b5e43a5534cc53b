"""What the controller remembers of a pool between two cycles. PURE.

The records of the provisioner are the truth about machines; this is only what can't be read
from them: since when somebody is judged how, what was decided last, what was said already.
All of it goes to and comes from plain JSON values; an empty memory is a good memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from coordinator.controller.backoff import BackOff
from coordinator.controller.brake import BrakeLevel
from coordinator.controller.cloud_choice import CloudNote
from coordinator.controller.health import HealthNote
from coordinator.controller.rollout_memory import Rollout


class PoolState(str, Enum):
    """How a pool is: as wanted, on its way, waiting for something, or failed (development)."""

    STABLE = "STABLE"
    PENDING = "PENDING"
    HELD = "HELD"
    FAILED = "FAILED"


@dataclass(frozen=True, kw_only=True)
class Replacement:
    """A launch that replaces unhealthy workers, until its machines run.

    ``based_on``: the snapshot version it was decided on. A newer snapshot without the launch
    means that its batch was refused.
    """

    based_on: int
    count: int


@dataclass(frozen=True, kw_only=True)
class PoolMemory:
    """Everything remembered of a pool; never changed in place. Times are epoch seconds.

    ``began``: when the pool had its first cycle; ``wanted``: the size after all bounds in the
    last decision, None before the first; ``engine_memory`` and ``engine_seen``: what the engine
    (of type ``engine``) gave us to keep; ``health``: notes by node id; ``unhealthy``: node id
    to when it was last judged unhealthy, within the brake's window; ``condemned``: nodes that
    drain because they are unhealthy, never taken back; ``replacements``: by launch id;
    ``counted``: failed nodes that back-off has counted; ``pending``: nodes not yet running in
    the last cycle; ``zombies``: node id to when it was terminated again; ``rogues``: unknown
    nodes that were reported; ``braked``: when unhealthy machines were terminated; ``wishes``:
    what scale-in looks back at (see ``bounds``); ``no_growth_until``, ``no_shrinking_until``:
    ends of cooldowns, epoch seconds; ``ready_once``: a worker was RUNNING once (for ``verify:
    launch_one``); ``calm``: the last cycle found everything as wanted; ``said``: what was last
    said of a topic, so that an event comes once per change; ``clouds``: what speaks against
    clouds of the pool; ``rollout``: the last one, None before the first.
    """

    began: float | None = None
    wanted: int | None = None
    reason: str = ""
    engine: str = ""
    engine_memory: dict[str, Any] = field(default_factory=dict)
    engine_seen: dict[str, Any] = field(default_factory=dict)
    health: dict[str, HealthNote] = field(default_factory=dict)
    unhealthy: dict[str, float] = field(default_factory=dict)
    condemned: frozenset[str] = frozenset()
    replacements: dict[str, Replacement] = field(default_factory=dict)
    backoff: BackOff = BackOff()
    counted: frozenset[str] = frozenset()
    pending: frozenset[str] = frozenset()
    zombies: dict[str, float] = field(default_factory=dict)
    rogues: frozenset[str] = frozenset()
    brake: BrakeLevel = BrakeLevel.NORMAL
    meltdown_since: float | None = None
    braked: tuple[float, ...] = ()
    wishes: tuple[tuple[float, int], ...] = ()
    no_growth_until: float = 0.0
    no_shrinking_until: float = 0.0
    ready_once: bool = False
    calm: bool = False
    state: PoolState = PoolState.PENDING
    said: dict[str, str] = field(default_factory=dict)
    clouds: dict[str, CloudNote] = field(default_factory=dict)
    rollout: Rollout | None = None


def changed(memory: PoolMemory, **changes: Any) -> PoolMemory:
    """``memory`` with other values for some fields. Raises TypeError for an unknown one.

    As ``dataclasses.replace`` at a tenth of its time: each cycle has several for each pool.
    """
    fresh = object.__new__(PoolMemory)
    fresh.__dict__.update(memory.__dict__, **changes)
    if len(fresh.__dict__) != len(memory.__dict__):
        raise TypeError(f"no such field: {', '.join(changes.keys() - memory.__dict__.keys())}")
    return fresh


def released(memory: PoolMemory) -> PoolMemory:
    """``memory`` with a brake that begins anew: an operator says that the view is right."""
    return changed(memory, unhealthy={}, brake=BrakeLevel.NORMAL, meltdown_since=None, braked=())


def memory_to_dict(memory: PoolMemory) -> dict[str, Any]:
    """``memory`` as plain JSON values."""
    return {
        "began": memory.began,
        "wanted": memory.wanted,
        "reason": memory.reason,
        "engine": memory.engine,
        "engine_memory": memory.engine_memory,
        "engine_seen": memory.engine_seen,
        "health": {node: note.to_dict() for node, note in memory.health.items()},
        "unhealthy": dict(memory.unhealthy),
        "condemned": sorted(memory.condemned),
        "replacements": {
            launch: [one.based_on, one.count] for launch, one in memory.replacements.items()
        },
        "backoff": memory.backoff.to_dict(),
        "counted": sorted(memory.counted),
        "pending": sorted(memory.pending),
        "zombies": dict(memory.zombies),
        "rogues": sorted(memory.rogues),
        "brake": memory.brake.value,
        "meltdown_since": memory.meltdown_since,
        "braked": list(memory.braked),
        "wishes": [[at, size] for at, size in memory.wishes],
        "no_growth_until": memory.no_growth_until,
        "no_shrinking_until": memory.no_shrinking_until,
        "ready_once": memory.ready_once,
        "calm": memory.calm,
        "state": memory.state.value,
        "said": dict(memory.said),
        "clouds": {cloud: note.to_list() for cloud, note in memory.clouds.items()},
        "rollout": None if memory.rollout is None else memory.rollout.to_dict(),
    }


def memory_from_dict(data: Mapping[str, Any]) -> PoolMemory:
    """The reverse of ``memory_to_dict``. Missing keys have their defaults, unknown are ignored.

    Raises ValueError, TypeError or KeyError for values of another shape.
    """
    wanted = data.get("wanted")
    return PoolMemory(
        began=_time(data.get("began")),
        wanted=None if wanted is None else int(wanted),
        reason=str(data.get("reason", "")),
        engine=str(data.get("engine", "")),
        engine_memory=dict(data.get("engine_memory", {})),
        engine_seen=dict(data.get("engine_seen", {})),
        health={
            str(node): HealthNote.from_dict(note) for node, note in data.get("health", {}).items()
        },
        unhealthy=_times(data.get("unhealthy", {})),
        condemned=frozenset(data.get("condemned", ())),
        replacements={
            str(launch): Replacement(based_on=int(based_on), count=int(count))
            for launch, (based_on, count) in data.get("replacements", {}).items()
        },
        backoff=BackOff.from_dict(data.get("backoff", {})),
        counted=frozenset(data.get("counted", ())),
        pending=frozenset(data.get("pending", ())),
        zombies=_times(data.get("zombies", {})),
        rogues=frozenset(data.get("rogues", ())),
        brake=BrakeLevel(data.get("brake", BrakeLevel.NORMAL.value)),
        meltdown_since=_time(data.get("meltdown_since")),
        braked=tuple(float(at) for at in data.get("braked", ())),
        wishes=tuple((float(at), int(size)) for at, size in data.get("wishes", ())),
        no_growth_until=float(data.get("no_growth_until", 0.0)),
        no_shrinking_until=float(data.get("no_shrinking_until", 0.0)),
        ready_once=bool(data.get("ready_once", False)),
        calm=bool(data.get("calm", False)),
        state=PoolState(data.get("state", PoolState.PENDING.value)),
        said={str(topic): str(text) for topic, text in data.get("said", {}).items()},
        clouds={
            str(cloud): CloudNote.from_list(note) for cloud, note in data.get("clouds", {}).items()
        },
        rollout=None if data.get("rollout") is None else Rollout.from_dict(data["rollout"]),
    )


def _time(value: Any) -> float | None:
    return None if value is None else float(value)


def _times(data: Mapping[str, Any]) -> dict[str, float]:
    return {str(node): float(at) for node, at in data.items()}
