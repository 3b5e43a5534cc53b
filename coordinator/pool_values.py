"""PoolSpec and its parts as frozen values. PURE."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from agent.node_role import STRICT, NodeRole
from coordinator.errors import ConfigProblem, Problem


@dataclass(frozen=True, kw_only=True)
class HealthSettings:
    """Time-outs of a pool's health, seconds."""

    __pydantic_config__: ClassVar = STRICT

    boot_timeout: float = 300.0
    launch_timeout: float = 300.0
    missing_timeout: float = 120.0
    really_missing_timeout: float = 15.0
    zombie_timeout: float = 120.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value <= 7 * 86400:
                raise ValueError(f"{name} must be above 0 and at most a week, not {value:g}")


#: What an operator may take out of the engine's hands, for a while.
SUSPENDABLE = ("scale_in", "scale_out", "replace")
LONGEST = 366 * 86400.0


@dataclass(frozen=True, kw_only=True)
class ScheduleEntry:
    """Other bounds at times that repeat: from each firing of ``cron`` (five fields, in
    ``timezone``) for ``duration`` seconds. A bound that is None is the pool's own.
    """

    __pydantic_config__: ClassVar = STRICT

    cron: str
    duration: float
    timezone: str = "UTC"
    min: int | None = None
    max: int | None = None

    def __post_init__(self) -> None:
        problems = []
        if not 60 <= self.duration <= LONGEST:
            problems.append(f"duration must be 60 s to a year, not {self.duration:g}")
        if self.min is None and self.max is None:
            problems.append("min or max must be given")
        bounds = [bound for bound in (self.min, self.max) if bound is not None]
        if any(not 0 <= bound <= 100_000 for bound in bounds) or bounds != sorted(bounds):
            problems.append("min and max must be 0 to 100000, min not above max")
        if problems:
            raise ValueError("; ".join(problems))


@dataclass(frozen=True, kw_only=True)
class Override:
    """A size that a person wants until ``until``, epoch seconds; then the engine decides."""

    __pydantic_config__: ClassVar = STRICT

    size: int
    until: float
    reason: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.size <= 100_000:
            raise ValueError(f"size must be 0 to 100000, not {self.size}")
        if not 0 < self.until < 1e11:
            raise ValueError("until must be a time in seconds since the epoch")


@dataclass(frozen=True, kw_only=True)
class Hold:
    """What is not done for the pool. ``recommend_only``: nothing at all, only said."""

    __pydantic_config__: ClassVar = STRICT

    recommend_only: bool = False
    suspend: tuple[str, ...] = ()
    reason: str = ""

    def __post_init__(self) -> None:
        unknown = [word for word in self.suspend if word not in SUSPENDABLE]
        if unknown:
            raise ValueError(f"suspend may name {', '.join(SUSPENDABLE)}, not {unknown[0]}")


@dataclass(frozen=True, kw_only=True)
class ScalingRules:
    """How fast and how far a pool's size may move, outside its engine.

    Steps in workers (0: any), times in seconds (0: none). ``cooldown_up`` counts from the
    last growth, ``cooldown_down`` from the last change either way. Scale-in waits until no
    wish within ``stabilization_window`` was higher. ``budget`` is in $ per hour for all
    machines of the pool; ``machine_price`` is what a machine counts whose price its cloud
    does not tell.
    """

    max_step_up: int = 0
    max_step_down: int = 0
    cooldown_up: float = 0.0
    cooldown_down: float = 0.0
    stabilization_window: float = 0.0
    schedule: tuple[ScheduleEntry, ...] = ()
    override: Override | None = None
    hold: Hold | None = None
    budget: float | None = None
    machine_price: float | None = None

    def __post_init__(self) -> None:
        problems = []
        for name in ("max_step_up", "max_step_down"):
            if not 0 <= getattr(self, name) <= 100_000:
                problems.append(f"{name} must be 0 to 100000, not {getattr(self, name)}")
        for name in ("cooldown_up", "cooldown_down", "stabilization_window"):
            value = getattr(self, name)
            if value != 0 and not 1 <= value <= 7 * 86400:
                problems.append(f"{name} must be 0 s, or 1 s to a week, not {value:g}")
        for name in ("budget", "machine_price"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1e9:
                problems.append(f"{name} must be above 0 $/h, not {value:g}")
        if self.budget is not None and self.machine_price is None:
            problems.append("budget needs machine_price: what a machine costs at most, $/h")
        if problems:
            raise ValueError("; ".join(problems))

    def suspends(self, what: str) -> bool:
        """Whether ``what`` (one of SUSPENDABLE) is not to be done."""
        return self.hold is not None and what in self.hold.suspend


@dataclass(frozen=True, kw_only=True)
class PoolSpec:
    """A named group of workers kept at a size.

    ``engine`` keeps its raw keys (``type`` included) for ``reconfigure``;
    ``engine_settings`` is the engine's own parsed value. ``min``, ``max`` bound whatever
    the engine wishes. ``clouds`` are tried in order. ``machine`` are the driver's own keys
    (image, type, …) for its machines on any cloud, ``machine_by_cloud`` more of them by
    cloud; see ``machine_on``. The last ``retain_failed`` machines that failed to boot are
    kept for a look, each for ``retain_failed_for`` seconds. A rollout counts on a new worker
    when it has been OK for ``settle_time`` seconds.
    """

    name: str
    template: str = "worker"
    clouds: tuple[str, ...] = ()
    machine: dict[str, str] = field(default_factory=dict)
    machine_by_cloud: dict[str, dict[str, str]] = field(default_factory=dict)
    role: NodeRole = field(default_factory=NodeRole)
    variables: dict[str, str] = field(default_factory=dict)
    engine: dict[str, Any] = field(default_factory=lambda: {"type": "n_preserving"})
    engine_settings: Any = None
    health: HealthSettings = field(default_factory=HealthSettings)
    min: int = 0
    max: int = 1000
    rules: ScalingRules = field(default_factory=ScalingRules)
    max_surge: int = 1
    settle_time: float = 30.0
    retain_failed: int = 0
    retain_failed_for: float = 3600.0
    declare_queue: bool = True
    development: bool = False

    def machine_on(self, cloud: str) -> dict[str, str]:
        """The settings of a machine on ``cloud``: the common ones, overlaid with its own."""
        return {**self.machine, **self.machine_by_cloud.get(cloud, {})}

    @cached_property
    def made_from(self) -> str:
        """What all its workers are made from alike, the template's text aside, as one text."""
        role = asdict(self.role)
        del role["drain_timeout"]  # told with each drain: nothing on the machine knows it
        return json.dumps([self.template, role], sort_keys=True, ensure_ascii=True)

    @property
    def engine_type(self) -> str:
        return str(self.engine.get("type", "n_preserving"))


def change_text(changes: Mapping[str, Any]) -> str:
    """What ``changed_section`` changes, for people: keys, with their values where those are
    numbers, yes or no, or nothing. Whole sections and texts would be long, or secret."""
    return ", ".join(
        key if isinstance(value, str | Mapping | list) else f"{key}={json.dumps(value)}"
        for key, value in sorted(changes.items())
    )


def changed_section(given: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``given`` with the dotted keys of ``changes`` set: a present key replaces its subtree.

    ``{"engine.preserve_n": 3}`` changes one value, ``{"engine": {…}}`` the whole section;
    None takes the key away, so that its default holds again. Raises ConfigProblem when a
    key's parent is not a section.
    """
    result: dict[str, Any] = dict(given)
    for dotted, value in changes.items():
        *parents, last = dotted.split(".")
        section = result
        for parent in parents:
            inner = section.get(parent, {})
            if not isinstance(inner, Mapping):
                raise ConfigProblem([Problem(key=dotted, what=f"'{parent}' is not a section")])
            section[parent] = dict(inner)
            section = section[parent]
        if value is None:
            section.pop(last, None)
        else:
            section[last] = value
    return result
