"""What one simulated history is made of: the fleet, and what happens to it. PURE.

A ``History`` is a value: the same one is always lived in the same way, whoever drew it. So
it can be cut down, happening by happening, to what makes it fail (``minimise``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, kw_only=True)
class PoolPlan:
    """A pool: its section as a person writes it, and the jobs that come to its queue.

    ``arrivals``: (second, jobs, seconds of work of each); ``queue`` is empty for none.
    """

    name: str
    section: Mapping[str, Any]
    queue: str = ""
    arrivals: tuple[tuple[float, int, float], ...] = ()


@dataclass(frozen=True, kw_only=True)
class CloudPlan:
    """A cloud: fields of InMemorySettings, the window its driver promises, boot times, s."""

    name: str
    settings: Mapping[str, Any]
    window: float
    boots_in: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Happening:
    """One thing that happens ``at`` a second and, where that means something, ``lasts``."""

    at: float
    what: str
    lasts: float = 0.0
    values: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        lasts = f" for {self.lasts:.0f} s" if self.lasts else ""
        given = ", ".join(f"{name}={value}" for name, value in self.values.items())
        return f"at {self.at:7.1f} s: {self.what}{lasts}" + (f" ({given})" if given else "")


@dataclass(frozen=True, kw_only=True)
class History:
    """A fleet and everything that happens to it, but its own doing. Times in seconds.

    ``latency``: a call takes up to so long. ``quiet_after``: from then on nothing happens
    any more, and the fleet must come to rest.
    """

    seed: int
    pools: tuple[PoolPlan, ...]
    clouds: tuple[CloudPlan, ...]
    happenings: tuple[Happening, ...] = ()
    cycle_interval: float = 2.0
    listing_interval: float = 5.0
    queue_poll_interval: float = 2.0
    loopback_interval: float = 4.0
    blindness_grace: float = 30.0
    latency: float = 0.0
    quiet_after: float = 600.0

    def without(self, happening: Happening) -> History:
        """The same history in which this one thing does not happen."""
        left = tuple(one for one in self.happenings if one is not happening)
        return replace(self, happenings=left)
