"""What a policy cost and gave, from its run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coordinator.simulation.policy_run import Point, PolicyRun


@dataclass(frozen=True, kw_only=True)
class PolicyReport:
    """Figures of one policy. Times in seconds; None where the trace can't tell.

    ``cost`` in $; waits are of messages, from their arrival until a worker took them, those
    that still wait at the end (``unserved``) with what they have waited so far.
    ``over_high_water``: with more ready than the mark; ``over_target``: with more in the
    queue than the engine's target for the workers that run. ``waited_longer``: share of
    messages that waited longer than asked for.
    """

    policy: str
    seconds: float
    machine_hours: float
    cost: float | None
    messages: int
    unserved: int
    wait_p50: float | None
    wait_p90: float | None
    wait_p99: float | None
    wait_max: float | None
    waited_longer: float | None
    launches: int
    terminations: int
    over_high_water: float | None
    over_target: float | None
    workers_min: int
    workers_mean: float
    workers_max: int
    queue_max: float
    cycles: int
    failures: dict[str, int]
    held: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def report_of(
    policy: str,
    run: PolicyRun,
    *,
    price: float | None = None,
    high_water: float | None = None,
    wait_target: float | None = None,
) -> PolicyReport:
    """The figures of a run. ``price`` in $ per machine and hour, billed by the second.

    ``high_water``: messages; the engine's own where it has one and none is given.
    """
    waits = sorted([*run.waits, *run.unserved])
    settings: Any = run.spec.engine_settings
    if high_water is None:
        high_water = getattr(settings, "queuelen_high_water", None)
    target = getattr(settings, "target", None) if getattr(settings, "queue", "") else None
    machine_hours = run.machine_seconds / 3600
    group = run.load.group
    mean = _share_of_time(run, lambda point: point.running)
    return PolicyReport(
        policy=policy,
        seconds=run.ends - run.load.began,
        machine_hours=machine_hours,
        cost=None if price is None else price * machine_hours,
        messages=len(waits) * group,
        unserved=len(run.unserved) * group,
        wait_p50=percentile(waits, 50),
        wait_p90=percentile(waits, 90),
        wait_p99=percentile(waits, 99),
        wait_max=waits[-1] if waits else None,
        waited_longer=None
        if wait_target is None or not waits
        else sum(1 for one in waits if one > wait_target) / len(waits),
        launches=run.launches,
        terminations=run.terminations,
        over_high_water=None
        if high_water is None
        else _seconds(run, lambda point: point.ready > high_water),
        over_target=None
        if target is None
        else _seconds(run, lambda point: point.ready + point.in_hand > target * point.running),
        workers_min=min((point.running for point in run.points), default=0),
        workers_mean=mean,
        workers_max=max((point.running for point in run.points), default=0),
        queue_max=max((point.ready for point in run.points), default=0.0),
        cycles=run.cycles,
        failures=run.failures,
        held=dict(sorted(run.held.items(), key=lambda one: -one[1])[:5]),
    )


def percentile(ordered: Sequence[float], percent: float) -> float | None:
    """The least value that at least ``percent`` of ``ordered`` do not exceed; None of none."""
    if not ordered:
        return None
    place = max(1, -int(-len(ordered) * percent // 100))
    return ordered[min(place, len(ordered)) - 1]


def _durations(run: PolicyRun) -> list[float]:
    ends = [*(point.at for point in run.points[1:]), run.ends]
    return [end - point.at for point, end in zip(run.points, ends, strict=True)]


def _seconds(run: PolicyRun, holds: Callable[[Point], bool]) -> float:
    pairs = zip(run.points, _durations(run), strict=True)
    return sum(lasted for point, lasted in pairs if holds(point))


def _share_of_time(run: PolicyRun, value: Callable[[Point], float]) -> float:
    total = run.ends - run.load.began
    pairs = zip(run.points, _durations(run), strict=True)
    return sum(value(point) * lasted for point, lasted in pairs) / total if total > 0 else 0.0
