"""How fast we may ask EC2: token buckets that learn from its refusals. PURE.

EC2 throttles per API, region and account, and everybody in the account shares its buckets:
the rates here are where we begin, a refusal halves them, and time brings them back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum


class Family(str, Enum):
    """APIs that EC2 throttles together."""

    RUN = "run"
    TERMINATE = "terminate"
    DESCRIBE = "describe"
    OTHER = "other"


#: A refusal never slows a family below this share of its full rate.
SLOWEST = 1 / 64
#: From nothing back to the full rate, s.
RECOVERY = 60.0


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """``level`` calls are free at ``at`` (any steady clock, s); ``rate`` more each second.

    ``full``: the rate that nothing slowed down.
    """

    full: float
    burst: float
    rate: float
    level: float
    at: float

    @classmethod
    def filled(cls, rate: float, burst: float, now: float) -> Bucket:
        return cls(full=rate, burst=burst, rate=rate, level=burst, at=now)

    def later(self, now: float) -> Bucket:
        """The same bucket at ``now``: filled up by what passed, its rate recovering."""
        passed = max(0.0, now - self.at)
        rate = min(self.full, self.rate + self.full * passed / RECOVERY)
        level = min(self.burst, self.level + passed * self.rate)
        return replace(self, rate=rate, level=level, at=max(now, self.at))

    def wait(self, now: float) -> float:
        """Seconds from ``now`` until a call is free."""
        then = self.later(now)
        return 0.0 if then.level >= 1 else (1 - then.level) / then.rate

    def taken(self, now: float) -> Bucket:
        """After a call at ``now``. Only to be used when ``wait`` is 0."""
        then = self.later(now)
        return replace(then, level=then.level - 1)

    def throttled(self, now: float) -> Bucket:
        """After EC2 refused a call as one too many: half the rate, and nothing left."""
        then = self.later(now)
        return replace(then, rate=max(then.rate / 2, then.full * SLOWEST), level=0.0)


def initial_buckets(now: float) -> dict[Family, Bucket]:
    """What AWS documents as the limits of new accounts, or a little less."""
    return {
        Family.RUN: Bucket.filled(2.0, 5.0, now),
        Family.TERMINATE: Bucket.filled(5.0, 50.0, now),
        Family.DESCRIBE: Bucket.filled(20.0, 50.0, now),
        Family.OTHER: Bucket.filled(10.0, 50.0, now),
    }
