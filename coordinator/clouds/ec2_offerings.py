"""What EC2 offers machines of, in which order it is tried, and what it lately ran out of. PURE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

#: For how long an offering that had no capacity is skipped at first, s; it doubles.
FIRST_SKIP = 180.0
LONGEST_SKIP = 2880.0


class Market(str, Enum):
    """How a machine is paid for, and whether EC2 may take it back."""

    ON_DEMAND = "on-demand"
    SPOT = "spot"


@dataclass(frozen=True, kw_only=True)
class Offering:
    """One thing to ask EC2 for. Without zone and subnet, EC2 chooses where."""

    type: str
    market: Market = Market.ON_DEMAND
    zone: str = ""
    subnet: str = ""

    def on(self, market: Market) -> Offering:
        """The same in another market."""
        return replace(self, market=market)

    def __str__(self) -> str:
        place = self.subnet or self.zone
        return f"{self.market.value} {self.type}" + (f" in {place}" if place else "")


@dataclass(frozen=True, kw_only=True)
class Shortage:
    """EC2 had no room for ``count`` machines of an offering; skipped until ``until``."""

    count: int
    period: float
    until: float
    reason: str


@dataclass(frozen=True, kw_only=True)
class Shortages:
    """The offerings that are out of capacity, as far as we know. Times are epoch s.

    An offering is skipped only for as many machines as were refused, or more: one that has
    no room for fifty may have it for five.
    """

    known: Mapping[Offering, Shortage] = field(default_factory=dict)

    def why_skipped(self, offering: Offering, count: int, now: float) -> str:
        """Why ``offering`` is not to be asked for ``count`` machines now; empty: it may."""
        shortage = self.known.get(offering)
        if shortage is None or now >= shortage.until or count < shortage.count:
            return ""
        return f"{offering}: {shortage.reason} (skipped for {shortage.until - now:.0f} s)"

    def after_refusal(self, offering: Offering, count: int, reason: str, now: float) -> Shortages:
        """``offering`` had no room for ``count`` at ``now``.

        Who asks again after the pause and is refused again waits twice as long. A pause
        that ended long ago counts no more.
        """
        earlier = self.known.get(offering)
        period = FIRST_SKIP
        if earlier is not None and now < earlier.until:
            count, period = min(count, earlier.count), earlier.period
        elif earlier is not None and now < earlier.until + earlier.period:
            period = min(earlier.period * 2, LONGEST_SKIP)
        shortage = Shortage(count=count, period=period, until=now + period, reason=reason)
        return Shortages(known={**self.known, offering: shortage})

    def after_success(self, offering: Offering, count: int) -> Shortages:
        """``offering`` had room for ``count``: what was refused for so few or fewer is over."""
        earlier = self.known.get(offering)
        if earlier is None or count < earlier.count:
            return self
        return Shortages(known={o: s for o, s in self.known.items() if o != offering})
