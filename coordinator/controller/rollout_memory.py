"""What is remembered of a pool's rollout between two cycles. PURE."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from coordinator.controller.backoff import LONGEST_DELAY
from coordinator.pool_values import PoolSpec


class RolloutState(str, Enum):
    """RUNNING and PAUSED go on by themselves; the others are ends."""

    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    STOPPED = "STOPPED"
    FINISHED = "FINISHED"


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """What is remembered of a pool's last rollout. Times are epoch seconds.

    ``max_surge``: as the person said, None for the pool's own; ``target``: the blueprint it
    leads to, by which a change on the way is noticed; ``extra``: how many workers beyond the
    wanted size it has, which the engine is not shown; ``leaving``: old ones that it sent away
    and whose machines are not gone; ``replaced``: how many those were in all; ``failures``:
    how often new ones failed since the last that did not, ``counted`` who; ``until``: no turn
    before this time.
    """

    started_at: float
    max_surge: int | None = None
    state: RolloutState = RolloutState.RUNNING
    reason: str = ""
    target: str = ""
    extra: int = 0
    leaving: frozenset[str] = frozenset()
    replaced: int = 0
    failures: int = 0
    counted: frozenset[str] = frozenset()
    until: float = 0.0
    ended_at: float | None = None

    @property
    def active(self) -> bool:
        """Whether it still has something to do."""
        return self.state in (RolloutState.RUNNING, RolloutState.PAUSED)

    def seconds_left(self, now: float) -> float:
        """For how long it still waits after a failure."""
        # The second bound keeps a clock that jumped back from stretching the wait.
        return min(max(0.0, self.until - now), LONGEST_DELAY)

    def surge(self, spec: PoolSpec) -> int:
        """How many workers it may have beyond the wanted size."""
        if spec.max_surge == 0 or self.max_surge is None:
            return spec.max_surge
        return self.max_surge

    def status(self, old: Collection[str] | None, now: float) -> dict[str, Any]:
        """How it is, for people. ``old``: workers still to be replaced, None: nobody looked."""
        return {
            "state": self.state.value,
            "reason": self.reason,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "max_surge": self.max_surge,
            "old": None if old is None else len(old),
            "replaced": self.replaced,
            "leaving": sorted(self.leaving),
            "beyond": self.extra,
            "failures": self.failures,
            "seconds_left": self.seconds_left(now) if self.active else 0.0,
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            **vars(self),
            "state": self.state.value,
            "leaving": sorted(self.leaving),
            "counted": sorted(self.counted),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Rollout:
        """The reverse of ``to_dict``."""
        surge, ended = data.get("max_surge"), data.get("ended_at")
        return cls(
            started_at=float(data["started_at"]),
            max_surge=None if surge is None else int(surge),
            state=RolloutState(data.get("state", RolloutState.RUNNING.value)),
            reason=str(data.get("reason", "")),
            target=str(data.get("target", "")),
            extra=int(data.get("extra", 0)),
            leaving=frozenset(data.get("leaving", ())),
            replaced=int(data.get("replaced", 0)),
            failures=int(data.get("failures", 0)),
            counted=frozenset(data.get("counted", ())),
            until=float(data.get("until", 0.0)),
            ended_at=None if ended is None else float(ended),
        )
