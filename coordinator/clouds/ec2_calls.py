"""Which RunInstances call of a launch comes next. PURE.

A launch is one call, unless its first machines are on demand and the rest is spot, or a
batch is split because no offering had room for all of it. Calls are numbered through the
launch; each number is a client token of its own and is used for one offering and one set of
parameters only. A number is given up, and the next one taken, only when it is proven that
nothing was made under it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from coordinator.clouds.ec2_offerings import Market, Offering, Shortages
from coordinator.clouds.ec2_settings import Ec2Machine


class CallState(str, Enum):
    """What is known of a call.

    ``ASKED``: written before it is sent, so that its outcome is unknown as long as this
    stands. ``UNSENT``: EC2 did not take it up; its number may be used anew. ``MADE``: its
    machines exist, or did. ``NOTHING``: nothing was made, and nothing will be.
    """

    ASKED = "asked"
    UNSENT = "unsent"
    MADE = "made"
    NOTHING = "nothing"


@dataclass(frozen=True, kw_only=True)
class RunCall:
    """One RunInstances call: machines ``base`` … ``base + count - 1`` of its launch.

    ``asked_at``: when its number was first used, epoch s. ``parameters``: all that is sent
    but token and user-data.
    """

    number: int
    base: int
    count: int
    offering: Offering
    state: CallState
    asked_at: float
    parameters: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A new call, to be written down and made."""

    number: int
    base: int
    count: int
    offering: Offering


@dataclass(frozen=True, kw_only=True)
class Resolve:
    """A call whose outcome is unknown comes before anything else."""

    call: RunCall


@dataclass(frozen=True, kw_only=True)
class Exhausted:
    """No offering has room now, and why."""

    reasons: tuple[str, ...]


def next_step(
    count: int,
    on_demand: int,
    calls: Sequence[RunCall],
    machine: Ec2Machine,
    shortages: Shortages,
    now: float,
) -> Ask | Resolve | Exhausted | None:
    """What to do for a launch of ``count``, the first ``on_demand`` on demand; None: done."""
    for call in calls:
        if call.state is CallState.ASKED:
            return Resolve(call=call)
    used = [call.number for call in calls if call.state is not CallState.UNSENT]
    number = max(used, default=0) + 1
    reasons: dict[str, None] = {}
    wanting = gaps(count, on_demand, calls)
    for first, end in wanting:
        spot = machine.market is Market.SPOT and first >= on_demand
        size = end - first
        while size:
            for offering in machine.offerings(Market.SPOT if spot else Market.ON_DEMAND):
                why = shortages.why_skipped(offering, size, now)
                if not why:
                    return Ask(number=number, base=first, count=size, offering=offering)
                reasons[why] = None
            size = size // 2 if machine.split_batches else 0
    return Exhausted(reasons=tuple(reasons)) if wanting else None


def gaps(count: int, on_demand: int, calls: Sequence[RunCall]) -> list[tuple[int, int]]:
    """The runs of indexes that no call made, as (first, end), none over the markets' border."""
    made = {
        index
        for call in calls
        if call.state is CallState.MADE
        for index in range(call.base, call.base + call.count)
    }
    found: list[tuple[int, int]] = []
    for index in range(count):
        if index in made:
            continue
        if found and found[-1][1] == index and index != on_demand:
            found[-1] = (found[-1][0], index + 1)
        else:
            found.append((index, index + 1))
    return found
