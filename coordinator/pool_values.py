"""PoolSpec and its parts as frozen values. PURE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.node_role import NodeRole
from coordinator.errors import ConfigProblem, Problem


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
    the engine wishes. ``clouds`` are tried in order. ``machine`` are the driver's own keys
    (image, type, …) for its machines on any cloud, ``machine_by_cloud`` more of them by
    cloud; see ``machine_on``. The last ``retain_failed`` machines that failed to boot are
    kept for a look, each for ``retain_failed_for`` seconds.
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
    max_surge: int = 1
    retain_failed: int = 0
    retain_failed_for: float = 3600.0
    declare_queue: bool = True
    development: bool = False

    def machine_on(self, cloud: str) -> dict[str, str]:
        """The settings of a machine on ``cloud``: the common ones, overlaid with its own."""
        return {**self.machine, **self.machine_by_cloud.get(cloud, {})}

    @property
    def engine_type(self) -> str:
        return str(self.engine.get("type", "n_preserving"))


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
