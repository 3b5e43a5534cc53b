"""One pool's policy over a load trace: the production engine and bounds, in no time.

Decided is by ``controller.decision.decide`` with its bounds, and who goes and who comes back
by ``controller.victims``: what a running controller does, less what goes wrong (no machine
fails here; ``make simulate`` is for that). A cycle is run each second after a change and
ever more seldom while nothing changes, at least every ``step`` seconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

from agent.messages import HealthStatus, InstanceState, InstanceView, NodeSigns
from coordinator.controller.bounds import Limits
from coordinator.controller.decision import decide, remembered
from coordinator.controller.pool import PoolMemory
from coordinator.controller.victims import taken_back, victims
from coordinator.controller.view import previous_decision
from coordinator.engines.base import (
    DecisionEngine,
    PoolView,
    ViewedInstance,
    ViewedReading,
    is_ours,
)
from coordinator.pool_values import PoolSpec
from coordinator.schedule import entry_in_force
from coordinator.simulation.policy_workers import Fleet, Sight, Worker
from coordinator.simulation.trace_load import Load
from coordinator.simulation.trace_times import Times

#: Seconds between two cycles after a change: the controller's own interval. While nothing
#: changes the next one is so many times later, up to the step.
SHORTEST = 1.0
LATER = 4.0
_PARTS = ("ready", "unacknowledged", "arrivals", "departures")


class Point(NamedTuple):
    """The pool from one cycle to the next. ``wanted`` after all bounds."""

    at: float
    wanted: int
    running: int
    booting: int
    draining: int
    ready: float
    in_hand: float


@dataclass(kw_only=True)
class PolicyRun:
    """What came of a policy. ``failures``: what its engine did wrong, each once."""

    spec: PoolSpec
    load: Load
    ends: float
    points: list[Point] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    unserved: list[float] = field(default_factory=list)
    machine_seconds: float = 0.0
    launches: int = 0
    terminations: int = 0
    cycles: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)


def run_policy(
    spec: PoolSpec,
    engine: DecisionEngine,
    load: Load,
    boot_time: Times,
    *,
    seed: int,
    step: float = 30.0,
    workers: int | None = None,
) -> PolicyRun:
    """Run the pool over the load. ``workers`` run at its beginning (default: the pool's min).

    The same arguments give the same run.
    """
    fleet = Fleet(load=load, boot_time=boot_time, random=Random(seed))
    for _ in range(spec.min if workers is None else workers):
        fleet.launch(load.began, boots=False)
    run = PolicyRun(spec=spec, load=load, ends=load.ends)
    began = fleet.launched
    policy = _Policy(spec, engine, fleet, run)
    now, gap = load.began, SHORTEST
    while now < load.ends:
        changed = policy.cycle(now)
        gap = SHORTEST if changed else min(gap * LATER, step)
        until = min(now + gap, load.ends)
        # Machines come up and go in between; the controller hears of it within its cycle.
        while (soonest := fleet.next_change(now)) < until:
            fleet.work(soonest)
            fleet.settle(soonest)
            until, gap = min(until, soonest + SHORTEST), SHORTEST
            now = soonest
        fleet.work(until)
        fleet.settle(until)
        now = until
    run.waits, run.unserved = fleet.waits, fleet.unserved(load.ends)
    run.launches, run.terminations = fleet.launched - began, fleet.ended
    run.machine_seconds = fleet.machine_seconds + sum(
        load.ends - worker.wanted_at for worker in fleet.workers.values()
    )
    return run


class _Policy:
    """The controller's part: view, decision, and its carrying out."""

    def __init__(
        self, spec: PoolSpec, engine: DecisionEngine, fleet: Fleet, run: PolicyRun
    ) -> None:
        self._spec = spec
        self._engine = engine
        self._fleet = fleet
        self._run = run
        self._memory = PoolMemory()
        #: By the parts of a Sight.
        self._readings = tuple(
            tuple(f"queue.{queue}.{part}" for part in _PARTS) for queue in spec.role.work_queues
        )
        ours = is_ours(type(engine), spec.engine_settings)
        self._figures = not ours or _has_metric(spec.engine)
        self._same_for = math.inf if ours else 0.0

    def cycle(self, now: float) -> bool:
        """One decision; whether it changed the pool."""
        fleet, spec, run = self._fleet, self._spec, self._run
        sight = fleet.sight(now)
        view = self._view(now, sight)
        rules = spec.rules
        scheduled = entry_in_force(rules.schedule, now) if rules.schedule else None
        limits = Limits(view=view, spec=spec, memory=self._memory, scheduled=scheduled)
        decision = decide(self._engine, limits)
        run.cycles += 1
        changed = False
        if decision.problem:
            run.failures[decision.problem] = run.failures.get(decision.problem, 0) + 1
        else:
            if decision.wish.held:
                reason = decision.wish.reason
                run.held[reason] = run.held.get(reason, 0) + 1
            supply = len(view.supply)
            self._memory = remembered(self._memory, spec, decision, supply, now)
            if decision.size != supply:
                changed = self._carry_out(decision.size - supply, decision.wish.victims, now)
        running, booting, draining = fleet.counts()
        run.points.append(
            Point(
                at=now,
                wanted=decision.size,
                running=running,
                booting=booting,
                draining=draining,
                ready=sight.ready,
                in_hand=sight.in_hand,
            )
        )
        return changed

    def _view(self, now: float, sight: Sight) -> PoolView:
        sample = str(self._run.cycles)
        readings = {
            name: ViewedReading(value=value, age=0.0, sample=sample)
            for names in self._readings
            for name, value in zip(names, sight, strict=True)
            if value is not None
        }
        return PoolView(
            pool=self._spec.name,
            now=now,
            instances=self._viewed(now),
            readings=readings,
            heartbeat_interval=self._spec.role.heartbeat_interval,
            settings=self._spec.engine_settings,
            previous=previous_decision(self._memory, self._spec),
        )

    def _viewed(self, now: float) -> tuple[ViewedInstance, ...]:
        """The workers as an engine sees them.

        Nearly all the time of a simulation would go into making these anew in each cycle; so
        one that looks the same is the same, its age apart, which no engine of ours looks at.
        """
        figures, too_old = self._figures, now - self._same_for
        instances = []
        for worker in self._fleet.workers.values():
            looks = worker.looks
            if worker.looks_since <= too_old:
                looks.clear()
            busy = worker.free_at > now
            known = looks.get(busy)
            if (
                known is None
                or known.state is not worker.state
                or (figures and known.figures != _figures(worker, now))
            ):
                if not looks:
                    worker.looks_since = now
                known = looks[busy] = _viewed(worker, self._spec, now, figures)
            instances.append(known)
        return tuple(instances)

    def _carry_out(self, difference: int, preferred: tuple[str, ...], now: float) -> bool:
        """Launch or take back so many more, or drain so many fewer."""
        fleet = self._fleet
        by_id = {worker.node_id: worker for worker in fleet.workers.values()}
        if difference > 0:
            draining = [_record(worker, self._spec) for worker in fleet.draining]
            back = taken_back(draining, difference)
            for one in back:
                fleet.take_back(by_id[one.node_id], now)
            for _ in range(difference - len(back)):
                fleet.launch(now)
            return True
        candidates = [
            _record(worker, self._spec)
            for worker in by_id.values()
            if worker.state is not InstanceState.DRAINING
        ]
        signs = {
            name: NodeSigns(node_id=name, busy=worker.is_busy(now), figures=_figures(worker, now))
            for name, worker in by_id.items()
        }
        going = victims(
            candidates,
            -difference,
            preferred=preferred,
            signs=signs,
            template=self._spec.template,
        )
        for one in going:
            fleet.drain(by_id[one.node_id], now)
        return bool(going)


def _has_metric(section: Mapping[str, Any]) -> bool:
    """Whether an engine's section, or one inside it, follows a figure of the workers."""
    return bool(section.get("metric")) or any(
        _has_metric(inner) for inner in section.values() if isinstance(inner, Mapping)
    )


def _figures(worker: Worker, now: float) -> dict[str, float]:
    """What a simulated worker tells of itself: how busy it was, as CPU load."""
    if worker.state is InstanceState.BOOTING:
        return {}
    return {"cpu_percent": 100.0 * worker.busy_share(now)}


def _viewed(worker: Worker, spec: PoolSpec, now: float, figures: bool) -> ViewedInstance:
    """The worker as an engine sees it."""
    running = worker.state is not InstanceState.BOOTING
    return ViewedInstance(
        node_id=worker.node_id,
        state=worker.state,
        health=HealthStatus.OK if running else HealthStatus.UNKNOWN,
        busy=worker.free_at > now if running else None,
        age=now - worker.wanted_at,
        template=spec.template,
        figures=_figures(worker, now) if figures else {},
        heard_age=0.0 if running else None,
    )


def _record(worker: Worker, spec: PoolSpec) -> InstanceView:
    known = worker.record
    if known is None or known.state is not worker.state or known.state_since != worker.since:
        known = worker.record = InstanceView(
            node_id=worker.node_id,
            launch_id=worker.node_id.removesuffix("-0"),
            index=0,
            pool=spec.name,
            cloud="simulated",
            template=spec.template,
            state=worker.state,
            wanted_at=worker.wanted_at,
            state_since=worker.since,
        )
    return known
