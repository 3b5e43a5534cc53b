"""What limits an engine's wish: each bound a function that adds its reason. PURE.

The order is the meaning: what a later bound says is final. First the careful ones (missing
data, stabilization, steps, cooldowns), then what a person set for a while, then the pool's
own minimum, maximum and budget, and last what is suspended.

The *present size* is the one that was wanted last, not what is there: a lost worker is
replaced whatever steps and cooldowns say.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from coordinator.controller.pool import PoolMemory
from coordinator.engines.base import Decision, PoolView, ViewedInstance
from coordinator.pool_values import PoolSpec, ScheduleEntry

#: The window of scale-in is remembered in so many pieces: a wish may count one longer.
PIECES = 10


@dataclass(frozen=True)
class Verdict:
    """What a bound makes of a size, and why."""

    size: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the bounds know beside the size: the cycle's inputs, and the schedule's entry."""

    view: PoolView
    spec: PoolSpec
    memory: PoolMemory
    scheduled: ScheduleEntry | None = None

    @property
    def present(self) -> int:
        """The size that was wanted last; before the first decision, what is there."""
        wanted = self.memory.wanted
        return len(self.view.supply) if wanted is None else wanted

    @property
    def least(self) -> int:
        """The minimum in force now."""
        entry = self.scheduled
        return self.spec.min if entry is None or entry.min is None else entry.min

    @property
    def most(self) -> int:
        """The maximum in force now; a schedule's minimum above the pool's maximum raises it."""
        entry = self.scheduled
        most = self.spec.max if entry is None or entry.max is None else entry.max
        return max(most, self.least) if entry is not None and entry.max is None else most


class Bound(Protocol):
    """One bound. ``size`` is what the bounds before it left of the engine's ``wish``.

    None when it has nothing against that.
    """

    def __call__(self, size: int, wish: Decision, limits: Limits) -> Verdict | None: ...


def hold_without_data(size: int, wish: Decision, limits: Limits) -> Verdict | None:
    """An engine that holds for want of data shrinks nothing."""
    there = len(limits.view.supply)
    if wish.held and size < there:
        return Verdict(there, f"nobody goes while data is missing: {there} stay")
    return None


def stabilized(size: int, wish: Decision, limits: Limits) -> Verdict | None:
    """Scale-in to the highest wish of the window, never below it."""
    window = limits.spec.rules.stabilization_window
    if window <= 0 or size >= limits.present:
        return None
    highest = max(
        (was for at, was in limits.memory.wishes if abs(limits.view.now - at) < window),
        default=size,
    )
    steady = min(max(size, highest), limits.present)
    if steady > size:
        return Verdict(steady, f"{highest} were wanted within the last {window:g} s")
    return None


def in_steps(size: int, wish: Decision, limits: Limits) -> Verdict | None:
    """At most ``max_step_up`` more and ``max_step_down`` fewer in one decision."""
    rules, present = limits.spec.rules, limits.present
    if rules.max_step_up and size > present + rules.max_step_up:
        return Verdict(present + rules.max_step_up, f"max_step_up is {rules.max_step_up}")
    if rules.max_step_down and size < present - rules.max_step_down:
        return Verdict(present - rules.max_step_down, f"max_step_down is {rules.max_step_down}")
    return None


def after_cooldown(size: int, wish: Decision, limits: Limits) -> Verdict | None:
    """No growth, or no shrinking, until its stored time has come."""
    memory, rules, present = limits.memory, limits.spec.rules, limits.present
    if size > present:
        left = _left(memory.no_growth_until, rules.cooldown_up, limits.view.now)
        return Verdict(present, f"cooldown_up has {left:.0f} s left") if left > 0 else None
    if size < present:
        left = _left(memory.no_shrinking_until, rules.cooldown_down, limits.view.now)
        return Verdict(present, f"cooldown_down has {left:.0f} s left") if left > 0 else None
    return None


def _left(until: float, cooldown: float, now: float) -> float:
    """What is left of a cooldown; never more than all of it: then the clock has jumped back
    since, or a person has made it shorter, and what is left is not known.
    """
    left = until - now
    return left if left <= cooldown + 1.0 else 0.0


def overridden(size: int, wish: Decision, limits: Limits) -> Verdict | None:
    """The size that a person wants for a while."""
    override = limits.spec.rules.override
    if override is None or override.until <= limits.view.now:
        return None
    left = override.until - limits.view.now
    why = f": {override.reason}" if override.reason else ""
    return Verdict(override.size, f"override to {override.size} for {left:.0f} s more{why}")


def at_least_min(size: int, wish: Decision, limits: Limits) -> Verdict | None:
    """The pool's ``min``, or the schedule's."""
    if size < limits.least:
        return Verdict(limits.least, f"min is {limits.least}{_by_schedule(limits)}")
    return None


def at_most_max(size: int, wish: Decision, limits: Limits) -> Verdict | None:
    """The pool's ``max``, or the schedule's."""
    if size > limits.most:
        return Verdict(limits.most, f"max is {limits.most}{_by_schedule(limits)}")
    return None


def within_budget(size: int, wish: Decision, limits: Limits) -> Verdict | None:
    """No larger a size than the budget pays.

    Machines on their way out are paid as well: what is launched meanwhile waits for that
    (``payable``), the size does not.
    """
    rules, view = limits.spec.rules, limits.view
    if rules.budget is None or rules.machine_price is None:
        return None
    left = rules.budget - _cost(view.supply, rules.machine_price)
    affordable = max(0, len(view.supply) + math.floor(left / rules.machine_price + 1e-9))
    if size > affordable:
        return Verdict(affordable, f"budget of {rules.budget:g} $/h pays {affordable}")
    return None


def not_suspended(size: int, wish: Decision, limits: Limits) -> Verdict | None:
    """Neither growth nor shrinking that an operator suspended."""
    rules, present = limits.spec.rules, limits.present
    if size > present and rules.suspends("scale_out"):
        return Verdict(present, f"scale_out is suspended{_why_held(limits)}")
    if size < present and rules.suspends("scale_in"):
        return Verdict(present, f"scale_in is suspended{_why_held(limits)}")
    return None


#: In this order; what a later one says is final.
BOUNDS: tuple[tuple[str, Bound], ...] = (
    ("hold", hold_without_data),
    ("stabilization", stabilized),
    ("step", in_steps),
    ("cooldown", after_cooldown),
    ("override", overridden),
    ("min", at_least_min),
    ("max", at_most_max),
    ("budget", within_budget),
    ("suspended", not_suspended),
)

#: Those that hold until somebody changes the pool; the others let go by themselves.
LASTING = frozenset({"override", "min", "max", "budget", "suspended"})


def payable(spec: PoolSpec, view: PoolView) -> int | None:
    """How many more machines the budget pays beside all that are there, draining and failed
    ones too; negative while those cost more, None without a budget.
    """
    rules = spec.rules
    if rules.budget is None or rules.machine_price is None:
        return None
    left = rules.budget - _cost(view.instances, rules.machine_price)
    return math.floor(left / rules.machine_price + 1e-9)


def wishes_after(
    wishes: Sequence[tuple[float, int]], window: float, size: int, now: float
) -> tuple[tuple[float, int], ...]:
    """The wishes that a later scale-in must look at, with ``size`` wished at ``now``.

    A lower wish before a higher one will never be the highest again, so what stays falls
    from entry to entry. Times are rounded up to pieces of the window: a wish that stays the
    same changes nothing in store for as long as a piece lasts.
    """
    if window <= 0:
        return ()
    piece = window / PIECES
    at = math.ceil(now / piece) * piece
    kept = [(then, was) for then, was in wishes if was > size and abs(now - then) < window]
    return (*kept, (at, size))


def _cost(machines: Iterable[ViewedInstance], unknown: float) -> float:
    """$ per hour; a machine whose price nobody told costs ``unknown``."""
    return sum(unknown if one.price is None else one.price for one in machines)


def _by_schedule(limits: Limits) -> str:
    return f" by schedule ({limits.scheduled.cron})" if limits.scheduled is not None else ""


def _why_held(limits: Limits) -> str:
    hold = limits.spec.rules.hold
    return f": {hold.reason}" if hold is not None and hold.reason else ""
