"""What a cycle plans to do, as values: launches, terminations, drains, and what waits. PURE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.messages import InstanceView
from coordinator.controller.brake import Brake
from coordinator.controller.rollout import Turn


@dataclass(frozen=True, kw_only=True)
class Launch:
    """``count`` workers of one kind to launch. ``unique_id`` None: plain ones."""

    count: int
    reason: str
    unique_id: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    is_replacement: bool = False


@dataclass(kw_only=True)
class Actions:
    """What a cycle does, and what it would do if nothing stood in its way.

    ``deferred``: unhealthy workers that the brake (or a missing place for their successor)
    keeps for now; ``missing``: workers still wanted and not launched, with the reasons in
    ``waits``. ``braked``: terminations that the brake counts. ``kept``: failed boots that
    stay for a look, node id to until when. ``turn``: what a rollout does, None without one.
    """

    brake: Brake
    cancels: list[tuple[InstanceView, str]] = field(default_factory=list)
    terminations: list[tuple[InstanceView, str]] = field(default_factory=list)
    drains: list[tuple[InstanceView, str]] = field(default_factory=list)
    launches: list[Launch] = field(default_factory=list)
    zombies: list[str] = field(default_factory=list)
    condemned: list[str] = field(default_factory=list)
    deferred: list[InstanceView] = field(default_factory=list)
    braked: int = 0
    missing: int = 0
    protected_stay: int = 0
    kept: dict[str, float] = field(default_factory=dict)
    turn: Turn | None = None
    waits: list[str] = field(default_factory=list)

    @property
    def launched(self) -> int:
        return sum(launch.count for launch in self.launches)

    @property
    def is_empty(self) -> bool:
        return not (self.cancels or self.terminations or self.drains or self.launches)
