"""The brake: the guard that stops mass replacement. PURE.

It limits *terminating machines that the cloud still lists*, that is, RUNNING workers which
we judge unhealthy: there our judgement may be what is wrong. Machines that are confirmed
gone, and failed launches and boots, are under back-off only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

#: Over how long distinct unhealthy nodes are counted, seconds.
WINDOW = 600.0
MELTDOWN_COUNT = 5
MELTDOWN_SHARE = 0.2


class BrakeLevel(str, Enum):
    """NORMAL: nobody is unhealthy; MANAGED: a few at a time; MELTDOWN: hands off."""

    NORMAL = "NORMAL"
    MANAGED = "MANAGED"
    MELTDOWN = "MELTDOWN"


@dataclass(frozen=True, kw_only=True)
class Brake:
    """The brake of one pool in one cycle.

    ``unhealthy``: distinct nodes within the window; ``total``: live nodes and those;
    ``at_once``: how many replacements may be on the way together in MANAGED;
    ``allowance``: how many unhealthy machines may be terminated now.
    """

    level: BrakeLevel
    unhealthy: int
    total: int
    at_once: int
    allowance: int
    reason: str

    @property
    def share(self) -> float:
        """Unhealthy of all, 0 to 1."""
        return self.unhealthy / self.total if self.total else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, for explanations."""
        return {
            "level": self.level.value,
            "unhealthy": self.unhealthy,
            "total": self.total,
            "share": round(self.share, 4),
            "allowance": self.allowance,
            "reason": self.reason,
        }


def within_window(judged: Mapping[str, float], now: float) -> dict[str, float]:
    """Nodes judged unhealthy (node id to the last time) that still count."""
    return {node: at for node, at in judged.items() if abs(now - at) < WINDOW}


def level_of(unhealthy: int, total: int) -> BrakeLevel:
    """The level for ``unhealthy`` distinct nodes of ``total`` (live and those)."""
    if unhealthy <= 0:
        return BrakeLevel.NORMAL
    # Whole numbers: 20 of 100 are exactly a fifth, whatever floats say.
    if unhealthy >= MELTDOWN_COUNT and unhealthy * 5 >= total:
        return BrakeLevel.MELTDOWN
    return BrakeLevel.MANAGED


def assess(
    *,
    unhealthy: int,
    live: int,
    size: int,
    replacing: int,
    meltdown_since: float | None,
    braked: Sequence[float],
    now: float,
) -> Brake:
    """The brake now.

    ``live``: live nodes that are not among the unhealthy, nor stand in for one of them and
    do not run yet; ``size``: workers of the pool, one that leaves and its replacement counted
    once; ``replacing``: replacements that are wanted or on the way and not yet RUNNING;
    ``meltdown_since``: when the present MELTDOWN began; ``braked``: times at which unhealthy
    machines were terminated.
    """
    total = live + unhealthy
    level = level_of(unhealthy, total)
    at_once = max(1, size // 10)
    if level is BrakeLevel.NORMAL:
        return Brake(
            level=level,
            unhealthy=0,
            total=total,
            at_once=at_once,
            allowance=at_once,
            reason="nobody is unhealthy",
        )
    if level is BrakeLevel.MANAGED:
        return Brake(
            level=level,
            unhealthy=unhealthy,
            total=total,
            at_once=at_once,
            allowance=max(0, at_once - replacing),
            reason=f"{unhealthy} of {total} unhealthy within {WINDOW:.0f} s: "
            f"at most {at_once} replaced at once, {replacing} still on the way or missing",
        )
    began = now if meltdown_since is None else meltdown_since
    waited = now - began
    if waited < WINDOW:
        allowance = 0
        rule = f"no replacement for {WINDOW - max(0.0, waited):.0f} s more"
    else:
        spent = sum(1 for at in braked if abs(now - at) < WINDOW)
        allowance = max(0, at_once - max(spent, replacing))
        rule = f"at most {at_once} replacements in {WINDOW:.0f} s, {spent} made"
    return Brake(
        level=level,
        unhealthy=unhealthy,
        total=total,
        at_once=at_once,
        allowance=allowance,
        reason=f"{unhealthy} of {total} unhealthy within {WINDOW:.0f} s, "
        f"more likely our view than theirs: {rule}",
    )
