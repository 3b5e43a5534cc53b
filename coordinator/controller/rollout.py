"""Replace a pool's old workers by new ones, a few at a time, and never at a worker's cost. PURE.

*Old* is who was made from another blueprint than a launch has now (``blueprint``). One turn:
launch up to ``max_surge`` beyond the wanted size; when those are RUNNING and have been OK for
the pool's ``settle_time``, let as many old ones drain; when their machines are gone, the next
turn. So healthy workers never fall below the wanted size, and machines never exceed it by more
than ``max_surge``. Without surge, and for unique ids (of which there are never two), the old
one goes first, if the pool's minimum lets it.

Level-triggered: each cycle decides from the records; what is stored (``Rollout``) is only
what can't be read there. A refused batch, a restart, a changed size or template just lead to
another decision. Everything else comes first: while anybody is unhealthy or missing, launches
wait, or something is suspended, no turn is made. A new worker that fails pauses the rollout
for a while that doubles with each failure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from agent.messages import FINAL_STATES, HealthStatus, InstanceState, InstanceView
from coordinator.controller.backoff import delay_after
from coordinator.controller.places import Places
from coordinator.controller.rollout_memory import Rollout, RolloutState
from coordinator.controller.victims import victims
from coordinator.controller.view import Happening, Observed
from coordinator.engines.base import PoolView
from coordinator.pool_values import PoolSpec

_FAILED = (InstanceState.BOOT_FAILED, InstanceState.LAUNCH_FAILED, InstanceState.REJECTED)
_LEAVING = (InstanceState.DRAINING, InstanceState.TERMINATING)


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What a rollout does in this cycle.

    ``extra``: workers beyond the wanted size, ``launches`` of them are to be launched now;
    ``going``: old ones that drain now;
    ``blocked_ids``: unique ids whose old machine is still there. ``after`` is to be
    remembered with the batch; ``waits`` says what it waits for.
    """

    after: Rollout
    extra: int = 0
    launches: int = 0
    going: tuple[InstanceView, ...] = ()
    blocked_ids: frozenset[str] = frozenset()
    waits: str = ""


@dataclass(frozen=True, kw_only=True)
class Obstacles:
    """What comes before a rollout. ``first``: what it just waits for; ``pauses``: what needs
    somebody, or time. Empty texts: nothing. ``room``: machines that may be launched now;
    ``least``: the minimum in force.
    """

    first: str = ""
    pauses: str = ""
    room: int = 0
    least: int = 0


@dataclass(frozen=True, kw_only=True)
class Turnover:
    """A rollout as it was found in this cycle: who is ``old``, and the minimum in force."""

    rollout: Rollout
    old: frozenset[str]
    least: int


def launched_since(rollout: Rollout, instances: Iterable[InstanceView]) -> list[InstanceView]:
    """Our own of ``instances`` that were wanted since the rollout began, ended ones too."""
    return [one for one in instances if one.wanted_at >= rollout.started_at and not one.adopted]


def looked_at(
    rollout: Rollout,
    instances: Iterable[InstanceView],
    observed: Observed,
    old: frozenset[str],
    target: str,
    now: float,
) -> Rollout:
    """Passive: ``rollout`` brought up to what is seen. Counts new workers that failed.

    ``old`` tells of all ``instances`` that were launched since it began, too.
    """
    there = {one.node_id: one for one in instances}
    leaving = frozenset(
        node for node in rollout.leaving if node in there and there[node].state in _LEAVING
    )
    seen = replace(rollout, leaving=leaving)
    if not rollout.active:
        return seen
    if rollout.target != target:
        # The first look, or a person changed (most likely mended) what workers are made from.
        return replace(seen, target=target, failures=0, until=0.0)
    unhealthy = {one.node_id for one in observed.census.unhealthy}
    gone_early = observed.memory.counted
    failed = {
        one.node_id: one
        for one in launched_since(rollout, there.values())
        if one.node_id not in old
        and (one.state in _FAILED or one.node_id in unhealthy or one.node_id in gone_early)
    }
    fresh = sorted(failed.keys() - rollout.counted)
    seen = replace(seen, counted=frozenset(failed))
    if not fresh:
        return seen
    one = failed[fresh[-1]]
    health = observed.health.get(one.node_id)
    what = (
        f"{health.status.value}: {health.reason}"
        if one.node_id in unhealthy and health
        else (f"{one.state.value}: {one.reason}")
    )
    failures = rollout.failures + 1
    return replace(
        seen,
        failures=failures,
        until=now + delay_after(failures),
        reason=f"the new {one.node_id} is {what}"[:300],
    )


def obstacles_to(
    spec: PoolSpec,
    observed: Observed,
    *,
    held: bool,
    melting: bool,
    missing: int,
    room: int,
    least: int,
    now: float,
) -> Obstacles:
    """What comes before a rollout in this cycle.

    ``held``: the engine decides nothing; ``melting``: the brake is in MELTDOWN; ``missing``:
    places that nobody holds.
    """
    backoff = observed.memory.backoff
    unhealthy = sum(1 for one in observed.census.unhealthy if not one.protected)
    pauses = first = ""
    if spec.rules.suspends("replace"):
        pauses = "replace is suspended"
    elif melting:
        pauses = "the brake is in MELTDOWN"
    elif backoff.seconds_left(now) > 0:
        pauses = f"launches wait, for {backoff.reason}"
    elif held:
        pauses = "the engine holds, for data is missing"
    if unhealthy:
        first = f"{unhealthy} unhealthy ones are replaced first"
    elif missing:
        first = f"{missing} missing ones come first"
    return Obstacles(first=first, pauses=pauses, room=room, least=least)


def next_turn(
    rollout: Rollout,
    spec: PoolSpec,
    observed: Observed,
    places: Places,
    old: frozenset[str],
    obstacles: Obstacles,
    *,
    now: float,
) -> Turn:
    """Active: the turn of this cycle. ``places`` are those of the wanted size, without it."""
    surge = rollout.surge(spec)
    beyond = max(0, len(places.plain) - places.plain_target)
    blocked = _ids_of(rollout.leaving, observed)
    if not rollout.active:
        # What it had beyond the size goes as any surplus does; until then nobody is shown it.
        after = replace(rollout, extra=min(rollout.extra, beyond))
        return Turn(after=after, blocked_ids=blocked)
    had = min(beyond, rollout.extra)
    plain = [one for one in places.plain if one.node_id in old and not one.protected]
    unique = [one for one in places.holders.values() if one.node_id in old and not one.protected]
    left = len(plain) + len(unique)
    kept = min(had, len(plain))

    def resting(state: RolloutState, why: str) -> Turn:
        after = replace(rollout, state=state, reason=why, extra=kept)
        said = f"rollout: {why}" if state is RolloutState.RUNNING else f"rollout paused: {why}"
        return Turn(after=after, extra=kept, blocked_ids=blocked, waits=said)

    if not left and not rollout.leaving:
        stay = len(old & {one.node_id for one in observed.census.supply})
        why = f"done, {stay} protected ones stay as they are" if stay else "done"
        if obstacles.first or observed.census.pending:
            return resting(RolloutState.RUNNING, "all are new; waiting until all are RUNNING")
        done = replace(
            rollout, state=RolloutState.FINISHED, reason=why, extra=0, until=0.0, ended_at=now
        )
        return Turn(after=done)
    if rollout.seconds_left(now) > 0:
        return resting(RolloutState.PAUSED, rollout.reason)
    if obstacles.pauses:
        return resting(RolloutState.PAUSED, obstacles.pauses)
    if obstacles.first:
        return resting(RolloutState.RUNNING, obstacles.first)
    good = _good(spec, observed, old, now)
    holding = [*places.plain, *places.holders.values()]
    well = sum(1 for one in holding if one.node_id in good)
    wanted = places.plain_target + len(places.ids)
    if plain and surge > 0:
        plain_well = sum(1 for one in places.plain if one.node_id in good)
        spare = min(plain_well - places.plain_target, well - wanted)
        count = min(max(0, spare), surge - len(rollout.leaving))
        going = _first(spec, observed, [one for one in plain if one.node_id in good], count)
        leaving = rollout.leaving | {one.node_id for one in going}
        still_old = len(plain) - len(going)
        still_beyond = min(beyond - len(going), max(had, surge))
        more = max(0, min(surge - len(leaving), still_old) - still_beyond)
        not_well = len(holding) - well
        if more and not_well > had:
            return resting(RolloutState.RUNNING, f"{not_well - had} are not OK, or not yet")
        extra = min(still_beyond + min(more, obstacles.room), still_old)
        if not going and not leaving and extra == 0:
            leave = observed.census.draining or observed.census.terminating
            state = RolloutState.RUNNING if leave else RolloutState.PAUSED
            return resting(state, f"no room for one beyond {wanted}")
    else:
        extra, going = 0, []
        if rollout.leaving:
            return resting(RolloutState.RUNNING, f"{_said(rollout.leaving)} still go")
        if well < wanted:
            return resting(RolloutState.RUNNING, f"{well} of {wanted} are OK and settled")
        if well - 1 < obstacles.least:
            why = f"min is {obstacles.least} and nobody can go before a new one is there"
            return resting(RolloutState.PAUSED, why)
        going = _first(spec, observed, [one for one in plain or unique if one.node_id in good], 1)
        leaving = frozenset(one.node_id for one in going)
    why = f"{left - len(going)} old ones left"
    if leaving:
        why += f", {_said(leaving)} go"
    if extra:
        why += f", {extra} beyond {wanted} to take over"
    after = replace(
        rollout,
        state=RolloutState.RUNNING,
        reason=why,
        extra=extra,
        leaving=leaving,
        replaced=rollout.replaced + len(going),
        failures=0 if going else rollout.failures,
    )
    return Turn(
        after=after,
        extra=extra,
        launches=max(0, extra - (beyond - len(going))),
        going=tuple(going),
        blocked_ids=blocked | {one.unique_id for one in going if one.unique_id is not None},
        waits=f"rollout: {why}",
    )


def without_extra(
    view: PoolView, rollout: Rollout | None, wanted: int | None, old: frozenset[str]
) -> PoolView:
    """The view for the engine: workers beyond the wanted size are none of its business.

    An engine that steps from what is there would take them for its own wish.
    """
    if rollout is None or not rollout.extra or wanted is None:
        return view
    count = min(rollout.extra, len(view.supply) - wanted)
    if count <= 0:
        return view
    new = [one for one in view.supply if one.unique_id is None and one.node_id not in old]
    new.sort(key=lambda one: (not one.is_pending, one.age, one.node_id))
    hidden = {one.node_id for one in new[:count]}
    seen = tuple(one for one in view.instances if one.node_id not in hidden)
    return replace(view, instances=seen)


def what_happened(before: Rollout | None, turn: Turn | None) -> list[Happening]:
    """Events for what a turn changed, each said once."""
    if before is None or turn is None:
        return []
    after = turn.after
    fields: dict[str, Any] = {"reason": after.reason, "replaced": after.replaced}
    if after.state is RolloutState.FINISHED and before.active:
        return [("rollout_finished", fields)]
    if after.state is RolloutState.PAUSED and (
        before.state is not RolloutState.PAUSED or before.reason != after.reason
    ):
        again = {"until": after.until} if after.until > 0 else {}
        return [("rollout_paused", {**fields, **again})]
    if turn.going or (after.active and after.extra > before.extra):
        return [("rollout_step", {**fields, "nodes": [one.node_id for one in turn.going]})]
    return []


def _good(spec: PoolSpec, observed: Observed, old: frozenset[str], now: float) -> set[str]:
    """Who can be counted on: RUNNING and OK, new ones for their settle time."""
    found = set()
    for one in observed.census.supply:
        judged = observed.health[one.node_id]
        if one.state is not InstanceState.RUNNING or judged.status is not HealthStatus.OK:
            continue
        since = max(one.state_since, judged.note.since if judged.note is not None else now)
        # A clock that jumped back must not make a worker wait for its own future.
        if one.node_id in old or not 0 <= now - since < spec.settle_time:
            found.add(one.node_id)
    return found


def _first(
    spec: PoolSpec, observed: Observed, candidates: list[InstanceView], count: int
) -> list[InstanceView]:
    return victims(candidates, count, preferred=(), signs=observed.signs, template=spec.template)


def _ids_of(leaving: frozenset[str], observed: Observed) -> frozenset[str]:
    """Unique ids of the nodes in ``leaving``."""
    return frozenset(
        one.unique_id
        for one in observed.view.instances
        if one.node_id in leaving and one.unique_id is not None and one.state not in FINAL_STATES
    )


def _said(nodes: Iterable[str]) -> str:
    named = sorted(nodes)
    return ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")
