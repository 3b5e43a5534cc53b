"""PoolSpec: what a person wants of a pool, from text to a frozen value.

The boot tool checks a plan's ``pool:`` section with the same parser before anything is
launched; that is why this module stands beside the controller and not inside it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.messages import NodeRole
from coordinator.errors import ConfigProblem, Problem
from coordinator.plugins import find_plugin
from coordinator.settings import parse_settings

NAME_RULE = "lower-case letters, digits and single dashes, starting with a letter, at most 40"
_NAME = re.compile(r"[a-z](?:-?[a-z0-9]){0,39}\Z")


@dataclass(frozen=True, kw_only=True)
class HealthSettings:
    """Time-outs of a pool's health, seconds."""

    boot_timeout: float = 300.0
    launch_timeout: float = 300.0
    missing_timeout: float = 120.0
    really_missing_timeout: float = 15.0
    zombie_timeout: float = 120.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value <= 7 * 86400:
                raise ValueError(f"{name} must be above 0 and at most a week, not {value:g}")


@dataclass(frozen=True, kw_only=True)
class PoolSpec:
    """A named group of workers kept at a size.

    ``engine`` keeps its raw keys (``type`` included) for ``reconfigure``;
    ``engine_settings`` is the engine's own parsed value. ``min``, ``max`` bound whatever
    the engine wishes. ``clouds`` are tried in order.
    """

    name: str
    template: str = "worker"
    clouds: tuple[str, ...] = ()
    role: NodeRole = field(default_factory=NodeRole)
    variables: dict[str, str] = field(default_factory=dict)
    engine: dict[str, Any] = field(default_factory=lambda: {"type": "n_preserving"})
    engine_settings: Any = None
    health: HealthSettings = field(default_factory=HealthSettings)
    min: int = 0
    max: int = 1000
    max_surge: int = 1
    declare_queue: bool = True
    development: bool = False

    @property
    def engine_type(self) -> str:
        return str(self.engine.get("type", "n_preserving"))


@dataclass(frozen=True, kw_only=True)
class _PoolText:
    """The keys of a ``pool:`` section as people write them."""

    template: str = "worker"
    clouds: tuple[str, ...] = ()
    programs: dict[str, Any] = field(default_factory=dict)
    checks: tuple[dict[str, Any], ...] = ()
    outputs: dict[str, str] = field(default_factory=dict)
    work_queues: tuple[str, ...] = ()
    busy_file: str | None = None
    heartbeat_interval: float = 10.0
    drain_timeout: float = 300.0
    variables: dict[str, str] = field(default_factory=dict)
    engine: dict[str, Any] = field(default_factory=dict)
    health: HealthSettings = field(default_factory=HealthSettings)
    min: int = 0
    max: int = 1000
    max_surge: int = 1
    declare_queue: bool = True
    development: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.min <= self.max:
            raise ValueError(f"min ({self.min}) must be between 0 and max ({self.max})")
        if self.max > 100_000:
            raise ValueError(f"max must be at most 100000, not {self.max}")
        if self.max_surge < 0:
            raise ValueError(f"max_surge must not be negative, not {self.max_surge}")
        if not 0.1 <= self.heartbeat_interval <= 3600:
            raise ValueError("heartbeat_interval must be between 0.1 and 3600 s")
        if not 0 <= self.drain_timeout <= 7 * 86400:
            raise ValueError("drain_timeout must be between 0 s and a week")


def parse_pool(name: str, given: object, where: str = "", key: str = "") -> PoolSpec:
    """The PoolSpec of a section, or one ConfigProblem with everything that is wrong."""
    problems: list[Problem] = []
    if not _NAME.match(name):
        problems.append(Problem(where=where, key=key or name, what=f"a name is {NAME_RULE}"))
    try:
        text = parse_settings(_PoolText, given, where, key)
    except ConfigProblem as found:
        raise ConfigProblem([*problems, *found.problems]) from None
    engine = {"type": "n_preserving", **text.engine}
    settings: Any = None
    prefix = f"{key}." if key else ""
    try:
        engine_class = find_plugin("epu.engines", str(engine["type"]), f"{prefix}engine.type")
        own = {k: v for k, v in engine.items() if k != "type"}
        settings = parse_settings(engine_class.Settings, own, where, f"{prefix}engine")
    except ConfigProblem as found:
        problems.extend(found.problems)
    role = _role(text, where, prefix, problems)
    if problems or role is None:
        raise ConfigProblem(problems)
    queue = getattr(settings, "queue", None)
    if queue and queue not in role.work_queues:
        role = NodeRole(**{**vars(role), "work_queues": (*role.work_queues, queue)})
    return PoolSpec(
        name=name,
        template=text.template,
        clouds=text.clouds,
        role=role,
        variables=text.variables,
        engine=engine,
        engine_settings=settings,
        health=text.health,
        min=text.min,
        max=text.max,
        max_surge=text.max_surge,
        declare_queue=text.declare_queue,
        development=text.development,
    )


def _role(text: _PoolText, where: str, prefix: str, problems: list[Problem]) -> NodeRole | None:
    own = {
        "programs": text.programs,
        "checks": text.checks,
        "outputs": text.outputs,
        "work_queues": text.work_queues,
        "busy_file": text.busy_file,
        "heartbeat_interval": text.heartbeat_interval,
        "drain_timeout": text.drain_timeout,
    }
    try:
        return parse_settings(NodeRole, own, where, prefix.rstrip("."))
    except ConfigProblem as found:
        problems.extend(found.problems)
        return None


def changed_section(given: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``given`` with the dotted keys of ``changes`` set: a present key replaces its subtree.

    ``{"engine.preserve_n": 3}`` changes one value, ``{"engine": {…}}`` the whole section.
    Raises ConfigProblem when a key's parent is not a section.
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
        section[last] = value
    return result
