"""What a decision engine sees and answers. PURE.

An engine is a class with a frozen ``Settings`` dataclass and ``decide(view)``; it reads no
clock, keeps no state (what it wants to remember comes back as ``view.previous``), and is
found by alias, by the entry-point group ``epu.engines`` or as ``package.module:Class``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from agent.messages import PENDING_STATES, HealthStatus, InstanceState

_SUPPLY = PENDING_STATES | {InstanceState.RUNNING}
_OURS = "coordinator.engines."
#: Health that makes a worker count for nothing and be replaced.
UNHEALTHY = frozenset(
    {
        HealthStatus.PROCESS_ERROR,
        HealthStatus.MONITOR_ERROR,
        HealthStatus.MISSING,
        HealthStatus.ZOMBIE,
    }
)


@dataclass(frozen=True, kw_only=True)
class ViewedInstance:
    """One worker in a PoolView. ``age`` is seconds since it was wanted.

    ``figures`` are those of its last heartbeat, ``heard_age`` seconds ago (None: never);
    ``figure_ages`` is how old those of its own sensors were then, seconds;
    ``price`` in $ per hour, where its cloud tells. ``busy_problem``: why nobody knows whether
    it is busy, although its pool says how to.
    """

    node_id: str
    state: InstanceState
    health: HealthStatus
    busy: bool | None = None
    busy_problem: str = ""
    age: float = 0.0
    unique_id: str | None = None
    protected: bool = False
    template: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    figure_ages: Mapping[str, float] = field(default_factory=dict)
    heard_age: float | None = None
    price: float | None = None

    @property
    def is_pending(self) -> bool:
        return self.state in PENDING_STATES

    @property
    def is_supply(self) -> bool:
        """Pending or running, and not unhealthy. A draining worker is neither."""
        return self.state in _SUPPLY and self.health not in UNHEALTHY


@dataclass(frozen=True, kw_only=True)
class ViewedReading:
    """A sensor value and how old it is, seconds; ``sample`` changes with each measurement."""

    value: float
    age: float
    sample: str = ""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """How many workers are wanted, whom to prefer when shrinking, and why.

    ``stable``: the engine is content with what is there. ``held``: it refuses to decide
    (missing or stale data) and ``size`` merely repeats the supply. ``memory`` is given
    back as ``PoolView.previous.memory`` in the next cycle; plain JSON values only. So is
    ``seen``, which is for what differs in each cycle, such as which measurement a step was
    made on: it is stored together with a change of the pool or of ``memory`` and never for
    itself. After a restart it is that of the last change; what came after changed nothing.
    """

    size: int
    reason: str
    victims: tuple[str, ...] = ()
    stable: bool = True
    held: bool = False
    unique_ids: dict[str, dict[str, str]] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)
    seen: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PoolView:
    """One frozen snapshot of a pool: everything that an engine may look at."""

    pool: str
    now: float
    instances: tuple[ViewedInstance, ...] = ()
    readings: dict[str, ViewedReading] = field(default_factory=dict)
    history: dict[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    poll_interval: float = 1.0
    heartbeat_interval: float = 10.0
    settings: Any = None
    previous: Decision | None = None

    @cached_property
    def supply(self) -> tuple[ViewedInstance, ...]:
        # As ``is_supply``, without a call for each of a thousand workers in each cycle.
        return tuple(
            [one for one in self.instances if one.state in _SUPPLY and one.health not in UNHEALTHY]
        )

    @cached_property
    def pending(self) -> tuple[ViewedInstance, ...]:
        return tuple([one for one in self.instances if one.state in PENDING_STATES])


class DecisionEngine(Protocol):
    """See the module's docstring. ``Settings`` rejects absurd values with ValueError."""

    Settings: type

    def decide(self, view: PoolView) -> Decision:
        """The wanted size for this view; pure."""
        ...


class EngineParser(Protocol):
    """Parses the ``engine:`` section of an engine inside another one.

    A ``Settings`` class that holds engines has a method ``with_engines(parse)``; what it
    returns is what the engine finds in ``view.settings``.
    """

    def __call__(self, section: Any, key: str) -> tuple[DecisionEngine, Any]:
        """The engine and its parsed settings; ``key`` is where the section stands."""
        ...


def is_ours(engine: type, settings: Any) -> bool:
    """Whether an engine, and every member that it asks in turn, is one of this package's."""
    return engine.__module__.startswith(_OURS) and all(
        is_ours(type(member.engine), member.settings) for member in getattr(settings, "members", ())
    )
