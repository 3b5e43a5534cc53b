"""One cycle of one pool: observe, judge, decide, bound, brake, act. PURE.

Two halves, and the order matters: ``view.sync_from_observed`` first lets what we remember
agree with what is seen, then ``next_step`` decides what to change. The shell fetches the
snapshot and the sensor report, stores memory and batch, and sends the batch; it may repeat
a stored batch as often as it likes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from agent.messages import CloudStatus, CommandBatch, InstanceView, SensorReport
from coordinator.controller.actions import plan_actions
from coordinator.controller.blueprint import Blueprints
from coordinator.controller.bounds import Limits
from coordinator.controller.brake import WINDOW, BrakeLevel
from coordinator.controller.cloud_choice import CloudChoice, choose_cloud, noted_clouds
from coordinator.controller.commands import batch_of, in_batches
from coordinator.controller.decision import BoundedDecision, decide, remembered
from coordinator.controller.explanation import explain
from coordinator.controller.health import NodeHealth
from coordinator.controller.planned import Actions
from coordinator.controller.pool import PoolMemory, PoolState, Replacement, changed
from coordinator.controller.pool_state import is_calm, sentence_of, state_of, without_figures
from coordinator.controller.rollout import (
    Turnover,
    launched_since,
    looked_at,
    what_happened,
    without_extra,
)
from coordinator.controller.view import Happening, Observed, sync_from_observed
from coordinator.engines.base import DecisionEngine, PoolView
from coordinator.pool_values import PoolSpec, ScheduleEntry

#: Distinct failures of an engine that are told before it works again.
FAILURES_TOLD = 10


@dataclass(frozen=True, kw_only=True)
class CycleOutcome:
    """What one cycle found, decided and wants done.

    ``old``: who was made otherwise than a new worker would be, None when nobody looked;
    ``shown``: the view that the engine decided on, without what a rollout has beyond the size.
    ``memory`` is to be stored together with ``batch`` (None: nothing to command) before the
    batch is sent. ``decision``, ``actions`` and ``choice`` (of a cloud) are None when the
    cycle did not decide (frozen, disabled, a batch unanswered). ``pings``: nodes to ask once
    for a sign of life. ``events``: (name, fields) for the event log, each said once per
    change. ``sentence``: what the cycle did, "no action" included.
    """

    spec: PoolSpec
    now: float
    version: int
    observed: Observed
    memory: PoolMemory
    batch: CommandBatch | None
    decision: BoundedDecision | None
    actions: Actions | None
    choice: CloudChoice | None
    pool_state: PoolState
    reason: str
    sentence: str
    old: frozenset[str] | None = None
    shown: PoolView | None = None
    events: tuple[Happening, ...] = ()
    pings: tuple[str, ...] = ()

    @property
    def health(self) -> Mapping[str, NodeHealth]:
        """The health of every node that has, or may have, a machine."""
        return self.observed.health

    @property
    def wanted(self) -> int | None:
        """The size the pool is to have, after all bounds; None before the first decision."""
        return self.memory.wanted

    @property
    def counts(self) -> dict[str, int]:
        """supply, running, pending, draining, unhealthy … as of this cycle's snapshot."""
        return self.observed.census.counts()

    @property
    def ready_once(self) -> bool:
        """A worker of this pool was RUNNING at least once (``verify: launch_one``)."""
        return self.memory.ready_once

    def explanation(self) -> dict[str, Any]:
        """The whole reasoning as plain JSON values, for ``epu explain`` and replay."""
        return explain(self)


@dataclass(frozen=True, kw_only=True)
class _Step:
    """The active half's part of an outcome."""

    memory: PoolMemory
    batch: CommandBatch | None = None
    decision: BoundedDecision | None = None
    actions: Actions | None = None
    choice: CloudChoice | None = None
    old: frozenset[str] | None = None
    shown: PoolView | None = None
    state: PoolState = PoolState.HELD
    reason: str = ""
    sentence: str = ""
    events: list[Happening] = field(default_factory=list)


def run_cycle(
    spec: PoolSpec,
    engine: DecisionEngine,
    instances: Mapping[str, InstanceView],
    version: int,
    enabled: bool,
    report: SensorReport | None,
    memory: PoolMemory,
    *,
    epoch: int,
    now: float,
    new_id: Callable[[str], str],
    frozen: str | None = None,
    in_flight: bool = False,
    poll_interval: float = 1.0,
    default_cloud: str = "",
    clouds: Mapping[str, CloudStatus] = MappingProxyType({}),
    scheduled: ScheduleEntry | None = None,
    sources: Mapping[str, str] = MappingProxyType({}),
) -> CycleOutcome:
    """One cycle. Never raises for anything that an engine answers or does.

    ``instances`` by node id and ``version`` are one snapshot, not older than the last
    answer to a batch; final states stay in it for a while. ``enabled``: the provisioner
    takes commands. ``report`` None: the sensors service did not answer. ``frozen``: why
    nothing may be done (teardown, operator). ``in_flight``: a stored batch of this pool has
    no answer yet, so the cycle looks but does not decide. ``clouds``: how the provisioner's
    clouds are, as of the snapshot. ``new_id(prefix)`` gives
    ``<prefix>-<unique>`` without a dot; a launch's id is ``<pool>-<unique>``. ``scheduled``:
    the entry of the pool's schedule that is in force (``coordinator.schedule``). ``sources``:
    the digest of the template's text on each cloud.
    """
    observed = sync_from_observed(
        spec, instances, version, report, memory, now=now, poll_interval=poll_interval
    )
    noted = noted_clouds(spec, instances.values(), clouds, observed.memory.clouds, now)
    observed = replace(observed, memory=changed(observed.memory, clouds=noted))
    if frozen is not None:
        step = _no_decision(observed, f"frozen: {frozen}")
    elif not enabled:
        step = _no_decision(observed, "the provisioner is disabled and takes no commands")
    elif in_flight:
        step = _no_decision(observed, "waiting for the answer to the last commands", memory.state)
    else:
        step = next_step(
            spec,
            engine,
            observed,
            report,
            instances,
            version=version,
            epoch=epoch,
            now=now,
            new_id=new_id,
            default_cloud=default_cloud,
            clouds=clouds,
            scheduled=scheduled,
            sources=sources,
        )
    said, events = _changes_said(step, observed)
    return CycleOutcome(
        spec=spec,
        now=now,
        version=version,
        observed=observed,
        memory=changed(step.memory, state=step.state, said=said),
        batch=step.batch,
        decision=step.decision,
        actions=step.actions,
        choice=step.choice,
        pool_state=step.state,
        reason=step.reason,
        sentence=step.sentence,
        old=step.old,
        shown=step.shown,
        events=(*observed.events, *step.events, *events),
        pings=observed.pings,
    )


def next_step(
    spec: PoolSpec,
    engine: DecisionEngine,
    observed: Observed,
    report: SensorReport | None,
    instances: Mapping[str, InstanceView],
    *,
    version: int,
    epoch: int,
    now: float,
    new_id: Callable[[str], str],
    default_cloud: str,
    clouds: Mapping[str, CloudStatus],
    scheduled: ScheduleEntry | None,
    sources: Mapping[str, str],
) -> _Step:
    """Active half: ask the engine, bound its wish, and turn the difference into commands.

    Starts from memory that already agrees with what is seen. What it remembers beyond that
    holds, or errs on the careful side, when the batch is refused (stale view): then the
    next cycle simply decides again.
    """
    blueprints = Blueprints(spec, sources)
    census, rollout, wanted = observed.census, observed.memory.rollout, observed.memory.wanted
    if rollout is not None and rollout.active and rollout.surge(spec) == 0:
        spec = replace(spec, max_surge=0)
    view = observed.view
    if rollout is not None and rollout.extra:
        view = without_extra(view, rollout, wanted, blueprints.old(census.supply, {}))
    limits = Limits(view=view, spec=spec, memory=observed.memory, scheduled=scheduled)
    decision = decide(engine, limits)
    if decision.problem:
        step = _no_decision(observed, decision.wish.reason)
        return replace(step, decision=decision)
    unique_ids = decision.wish.unique_ids
    old = blueprints.old([*census.supply, *census.unhealthy], unique_ids)
    turnover = None
    if rollout is not None:
        since = blueprints.old(launched_since(rollout, instances.values()), unique_ids)
        target = blueprints.of_launch((spec.clouds or (default_cloud,))[0], {})
        seen = looked_at(rollout, instances.values(), observed, old | since, target, now)
        turnover = Turnover(rollout=seen, old=old, least=limits.least)
    choice = choose_cloud(
        spec, observed.census.supply, clouds, observed.memory.clouds, default_cloud, now
    )
    actions = plan_actions(
        spec, observed, decision, observed.memory, choice, now=now, turnover=turnover
    )
    actions.launches = in_batches(actions.launches, choice.batch_limit)
    if not choice.is_open and (actions.launches or observed.census.pending):
        actions.waits.append(choice.reason)
    if spec.rules.hold is not None and spec.rules.hold.recommend_only:
        step = _no_decision(
            observed, f"only recommends: {sentence_of(observed, decision, actions)}"
        )
        return replace(step, decision=decision, actions=actions, old=old, shown=view)
    batch = batch_of(
        actions,
        spec,
        version=version,
        epoch=epoch,
        cloud=choice.cloud,
        blueprints=blueprints,
        new_id=new_id,
    )
    memory = _remembered(spec, observed, decision, actions, batch, version, now)
    calm = is_calm(observed, decision, actions, report)
    state, reason = state_of(spec, observed, decision, actions, report, calm)
    return _Step(
        memory=changed(memory, calm=calm),
        batch=batch,
        decision=decision,
        actions=actions,
        choice=choice,
        old=old,
        shown=view,
        state=state,
        reason=reason,
        sentence=sentence_of(observed, decision, actions),
        events=what_happened(rollout, actions.turn),
    )


def _no_decision(observed: Observed, why: str, state: PoolState = PoolState.HELD) -> _Step:
    """A step that commands nothing and remembers only what was seen."""
    return _Step(
        memory=changed(observed.memory, calm=False),
        state=state,
        reason=why,
        sentence=f"no action: {why}",
    )


def _remembered(
    spec: PoolSpec,
    observed: Observed,
    decision: BoundedDecision,
    actions: Actions,
    batch: CommandBatch | None,
    version: int,
    now: float,
) -> PoolMemory:
    """The synced memory with what was decided and done in this cycle."""
    memory = remembered(observed.memory, spec, decision, len(observed.census.supply), now)
    replacements = memory.replacements
    if batch is not None and any(launch.is_replacement for launch in actions.launches):
        replacements = dict(replacements)
        for command, launch in zip(batch.launches, actions.launches, strict=True):
            if launch.is_replacement:
                replacements[command.launch_id] = Replacement(based_on=version, count=launch.count)
    braked = tuple(at for at in memory.braked if abs(now - at) < WINDOW)
    level = actions.brake.level
    meltdown_since = memory.meltdown_since
    if level is not BrakeLevel.MELTDOWN:
        meltdown_since = None
    elif meltdown_since is None:
        meltdown_since = now
    return changed(
        memory,
        condemned=memory.condemned.union(actions.condemned),
        replacements=replacements,
        zombies={**memory.zombies, **dict.fromkeys(actions.zombies, now)},
        brake=level,
        meltdown_since=meltdown_since,
        braked=(*braked, *[now] * actions.braked),
        rollout=memory.rollout if actions.turn is None else actions.turn.after,
    )


def _changes_said(step: _Step, observed: Observed) -> tuple[dict[str, str], list[Happening]]:
    """Events for what is different from what was said last, and what is said now."""
    said = dict(observed.memory.said)
    events: list[Happening] = []

    def say(topic: str, text: str, fields: dict[str, Any]) -> None:
        if said.get(topic) != text:
            said[topic] = text
            events.append((topic, fields))

    if step.decision is not None:
        problem = step.decision.problem
        if problem:
            # Distinct failures once each, until the engine works again.
            told = said.get("engine_failed", "").splitlines()
            words = without_figures(" ".join(problem.split()))
            if words not in told and len(told) < FAILURES_TOLD:
                say("engine_failed", "\n".join([*told, words]), {"reason": problem})
        else:
            said.pop("engine_failed", None)
            before = observed.memory.wanted
            fields = {
                "reason": step.decision.reason,
                "size": step.decision.size,
                "was": before,
                "supply": len(observed.census.supply),
            }
            say("decision", str(step.decision.size), fields)
    if step.actions is not None:
        brake = step.actions.brake
        if brake.level is not BrakeLevel.NORMAL or "brake" in said:
            say("brake", brake.level.value, {"reason": brake.reason, "level": brake.level.value})
        if step.actions.protected_stay:
            stay = f"{step.actions.protected_stay} too many stay: they are protected"
            say("protected", stay, {"reason": stay})
        else:
            said.pop("protected", None)
    if step.choice is not None and (step.choice.closed or "cloud_chosen" in said):
        fields = {"cloud": step.choice.cloud, "reason": step.choice.reason or "its first choice"}
        say("cloud_chosen", step.choice.cloud, fields)
    fields = {"reason": step.reason, "state": step.state.value}
    say("pool_state", step.state.value, fields)
    return said, events
