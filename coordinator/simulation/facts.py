"""What is true of a simulated world at one moment, for invariants to be judged by. PURE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.messages import CommandBatch, InstanceState
from coordinator.pool_values import PoolSpec


@dataclass(frozen=True)
class Machine:
    """A machine that a cloud made. ``ours``: its run is ours; ``alive``: its cloud runs it."""

    cloud: str
    cloud_id: str
    node_id: str
    pool: str
    ours: bool
    alive: bool
    born_at: float


@dataclass(frozen=True)
class Known:
    """The record of a node. ``price`` None: nobody told. ``adopted``: a person's machine."""

    node_id: str
    pool: str
    state: InstanceState
    final: bool
    price: float | None = None
    adopted: bool = False


@dataclass(frozen=True)
class Moved:
    """A state change that was stored. ``busy``: it had a job in hand; ``deadline``: its drain's.
    ``mute``: its agent hung, so nobody could have asked it to drain.

    ``at`` and ``deadline`` are the provisioner's clock. Of one that a rollout sends away:
    ``left`` are RUNNING and have nothing that could be known, ``promised`` are to be.
    """

    node_id: str
    pool: str
    before: InstanceState | None
    to: InstanceState
    reason: str
    actor: str
    at: float
    deadline: float | None = None
    busy: bool = False
    mute: bool = False
    left: int = 0
    promised: int = 0


@dataclass(frozen=True)
class Decided:
    """A batch as the controller stored it, before it was sent.

    ``memory`` is the pool's memory with the batch, ``before`` the one before it. ``unheard``:
    node → for how long it really had not been heard while it could have been (s), for every
    node that the batch ends.
    """

    pool: str
    batch: CommandBatch
    spec: PoolSpec
    now: float
    memory: Mapping[str, Any]
    before: Mapping[str, Any]
    unheard: Mapping[str, float] = field(default_factory=dict)
    sees: bool = True


@dataclass(frozen=True)
class Sized:
    """A pool is to have another size than before, as the controller stored it.

    ``launched``: machines that it commanded with that. ``reading_age``: how long ago (s) what
    the pool's engine decides by was really read, or its workers really heard, and ``allowed``
    how old that may be; both None for an engine that looks at neither.
    """

    pool: str
    spec: PoolSpec
    was: int
    wanted: int
    launched: int
    reason: str
    reading_age: float | None = None
    allowed: float | None = None


@dataclass(frozen=True)
class Redelivery:
    """A job that went back to its queue, and why."""

    node_id: str
    cause: str


@dataclass(frozen=True, kw_only=True)
class Facts:
    """One moment. ``moved``, ``decided``, ``sized`` and ``redelivered`` happened since the last.

    ``specs``: the pools as they are configured now; ``caps``: pool → the largest cap it had
    lately, ``budgets`` likewise ($ an hour); ``wanted``: sizes that were stored since.
    ``orphaned``: cloud id → for how long (s) a live machine has had no live record while
    everything that is needed to end it worked. ``teardown_at_once``: busy workers may go.
    """

    now: float
    machines: tuple[Machine, ...]
    records: Mapping[str, Known]
    specs: Mapping[str, PoolSpec] = field(default_factory=dict)
    caps: Mapping[str, int] = field(default_factory=dict)
    budgets: Mapping[str, float] = field(default_factory=dict)
    moved: tuple[Moved, ...] = ()
    decided: tuple[Decided, ...] = ()
    sized: tuple[Sized, ...] = ()
    redelivered: tuple[Redelivery, ...] = ()
    orphaned: Mapping[str, float] = field(default_factory=dict)
    foreign_ended: tuple[str, ...] = ()
    teardown_at_once: bool = False
    patience: float = 180.0
