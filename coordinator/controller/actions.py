"""Active half of a cycle: from a wanted size to commands, within brake and back-off. PURE.

``plan_actions`` fills the difference between the wanted size and what is there:

* machines that failed to boot and zombies are terminated (no brake: nothing serves there);
* workers we judge unhealthy are replaced as far as the brake lets go; those it holds keep
  their place, so nothing is launched for them either;
* intents that wait on a closed cloud end, and their places are launched on an open one;
* a deficit takes draining workers back first, then launches, unless back-off waits;
* a rollout has some beyond the wanted size, and old ones drain for it;
* a surplus is drained (or terminated, when not yet running) in the order of ``victims``.
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.messages import InstanceState, InstanceView
from coordinator.controller.bounds import payable
from coordinator.controller.brake import BrakeLevel, assess
from coordinator.controller.cloud_choice import CloudChoice
from coordinator.controller.decision import BoundedDecision
from coordinator.controller.failed_boots import development_failures, kept_for_a_look
from coordinator.controller.places import Places, hole_in, places_of
from coordinator.controller.planned import Actions, Launch
from coordinator.controller.pool import PoolMemory
from coordinator.controller.rollout import Turn, Turnover, next_turn, obstacles_to
from coordinator.controller.victims import taken_back, victims
from coordinator.controller.view import Observed
from coordinator.pool_values import PoolSpec


def plan_actions(
    spec: PoolSpec,
    observed: Observed,
    decision: BoundedDecision,
    memory: PoolMemory,
    choice: CloudChoice,
    *,
    now: float,
    turnover: Turnover | None = None,
) -> Actions:
    """The actions of this cycle; pure. ``memory`` is the synced one of ``observed``."""
    census = observed.census
    kept = kept_for_a_look(spec, census, decision.size, now)
    backoff_left = memory.backoff.seconds_left(now)
    # Intents of which nothing was made are no machines: their room is free at once.
    moving = list(choice.moves) if backoff_left <= 0 else []
    room = spec.max + spec.max_surge - census.machines + len(moving)
    if spec.max_surge == 0:
        # Without surge a successor waits until the cloud agrees that the old one is gone.
        room = min(room, decision.size - census.machines + len(moving) + len(kept))
    if (pays := payable(spec, observed.view)) is not None:
        room = min(room, pays + spec.max_surge + len(moving))
    if backoff_left <= 0:
        moving += choice.uncertain[: max(0, room - len(moving))]
    elsewhere = frozenset(one.node_id for one in moving)
    places = places_of(observed, decision, elsewhere)
    leaving = frozenset() if turnover is None else turnover.rollout.leaving
    launchable = max(0, room) if backoff_left <= 0 else 0
    candidates = [one for one in census.unhealthy if not one.protected]
    recallable = [
        one
        for one in census.draining
        if one.node_id not in memory.condemned
        and one.node_id not in leaving
        and not one.by_person
        and (one.unique_id is None or one.unique_id in places.ids)
    ]
    hole = hole_in(places, candidates)
    if spec.rules.suspends("replace"):
        present = len(census.supply) if memory.wanted is None else memory.wanted
        launchable = min(launchable, max(0, decision.size - present))
    replacing = sum(one.count for one in memory.replacements.values())
    size = len(census.supply) + len(census.unhealthy)
    if spec.max_surge == 0:
        # A successor comes cycles after its predecessor went, so it is not known as one:
        # every place that is empty or not yet running counts.
        replacing = hole + census.pending - len(moving)
        size += hole
    actions = Actions(
        brake=assess(
            unhealthy=len(memory.unhealthy),
            live=_live(observed, kept),
            size=size,
            replacing=replacing,
            meltdown_since=memory.meltdown_since,
            braked=memory.braked,
            now=now,
        ),
        kept=kept,
    )
    turn = None
    if turnover is not None:
        obstacles = obstacles_to(
            spec,
            observed,
            held=decision.wish.held,
            melting=actions.brake.level is BrakeLevel.MELTDOWN,
            missing=hole,
            room=launchable,
            least=turnover.least,
            now=now,
        )
        turn = next_turn(turnover.rollout, spec, observed, places, turnover.old, obstacles, now=now)
        gone = elsewhere.union(one.node_id for one in turn.going)
        places = places_of(observed, decision, gone, turn.extra)
        reason = "rollout: it was made from what a new one is not made from any more"
        actions.drains += [(one, reason) for one in turn.going]
        actions.turn = turn
    if spec.development:
        shown = max(0, hole - development_failures(census, memory))
        launchable = min(launchable, shown + (turn.launches if turn is not None else 0))
    actions.terminations += [
        (one, f"{one.cloud} is left for {choice.cloud}: {choice.closed[one.cloud]}")
        for one in moving
    ]
    _end_what_never_served(spec, observed, memory, actions, now)
    replaced = _end_unhealthy(
        spec, observed, places, candidates, actions, room_left=launchable + len(recallable) - hole
    )
    replaced += [one for one in moving if one.launch_id in memory.replacements]
    _fill(observed, places, recallable, launchable, replaced, decision, actions)
    _shrink(spec, observed, places, decision, actions, turnover)
    if turn is not None and turn.waits:
        actions.waits.append(turn.waits)
    if actions.missing and backoff_left > 0:
        actions.waits.append(f"launches wait {backoff_left:.0f} s after {memory.backoff.words}")
    elif actions.missing and spec.development and development_failures(census, memory):
        actions.waits.append("development shows failures and does not compensate them")
    elif actions.missing and spec.rules.suspends("replace"):
        actions.waits.append(f"{actions.missing} are missing: replace is suspended")
    elif actions.missing and launchable < actions.missing + actions.launched:
        actions.waits.append(
            f"{actions.missing} launches wait for old machines to go: {census.machines} of "
            f"at most {spec.max} + {spec.max_surge} are there"
        )
    return actions


def _end_what_never_served(
    spec: PoolSpec, observed: Observed, memory: PoolMemory, actions: Actions, now: float
) -> None:
    """Failed boots and zombies: under no brake, for nothing serves there."""
    if not spec.development:
        for one in observed.census.boot_failed:
            if not one.protected and one.node_id not in actions.kept:
                actions.terminations.append((one, f"did not boot: {one.reason}"))
    for one in observed.census.zombies:
        asked = memory.zombies.get(one.node_id)
        if asked is None or abs(now - asked) >= spec.health.zombie_timeout:
            reason = observed.health[one.node_id].reason
            actions.terminations.append((one, f"ZOMBIE: {reason}"))
            actions.zombies.append(one.node_id)


def _end_unhealthy(
    spec: PoolSpec,
    observed: Observed,
    places: Places,
    candidates: list[InstanceView],
    actions: Actions,
    *,
    room_left: int,
) -> list[InstanceView]:
    """Let unhealthy workers go as far as the brake allows; returns those to be replaced.

    One whose successor could not be launched now stays: half a replacement helps nobody.
    (With ``max_surge`` 0 it goes first, and the brake counts the empty place.)
    """
    surplus = max(
        0,
        len(places.plain)
        + sum(1 for one in candidates if one.unique_id is None)
        - places.plain_target,
    )
    suspended = spec.rules.suspends("replace")
    allowed = 0 if spec.development or suspended else actions.brake.allowance
    replaced: list[InstanceView] = []
    for one in sorted(candidates, key=lambda one: _unhealthy_since(one, observed)):
        if one.unique_id is None:
            needs_successor = surplus <= 0
        else:
            needs_successor = one.unique_id in places.ids and one.unique_id not in places.holders
        stuck = needs_successor and spec.max_surge > 0 and room_left <= 0
        if allowed <= 0 or stuck:
            actions.deferred.append(one)
            continue
        allowed -= 1
        actions.braked += 1
        if needs_successor:
            room_left -= 1
            replaced.append(one)
        elif one.unique_id is None:
            surplus -= 1
        health = observed.health[one.node_id]
        reason = f"{health.status.value}: {health.reason}"
        if health.drain_first:
            actions.drains.append((one, reason))
            actions.condemned.append(one.node_id)
        else:
            actions.terminations.append((one, reason))
    protected = [one.node_id for one in observed.census.unhealthy if one.protected]
    if protected:
        actions.waits.append(f"{', '.join(protected[:5])} unhealthy and protected: left alone")
    if actions.deferred:
        names = ", ".join(one.node_id for one in actions.deferred[:5])
        why = (
            "development shows failures and does not compensate them"
            if spec.development
            else "replace is suspended"
            if suspended
            else actions.brake.reason
            if allowed <= 0
            else "no successor can be launched now"
        )
        actions.waits.append(f"{len(actions.deferred)} unhealthy stay ({names}): {why}")
    return replaced


def _fill(
    observed: Observed,
    places: Places,
    recallable: list[InstanceView],
    launchable: int,
    replaced: list[InstanceView],
    decision: BoundedDecision,
    actions: Actions,
) -> None:
    """Take back draining workers, then launch, for every place that nobody holds."""
    held_ids = set(places.holders)
    if actions.turn is not None:
        held_ids |= actions.turn.blocked_ids  # never two of one id
    plain_there = len(places.plain)
    for one in actions.deferred:
        if one.unique_id is None:
            plain_there += 1
        else:
            held_ids.add(one.unique_id)
    back_by_id = {one.unique_id: one for one in recallable if one.unique_id is not None}
    replaced_ids = {one.unique_id: one for one in replaced if one.unique_id is not None}
    for name, variables in places.ids.items():
        if name in held_ids:
            continue
        if name in back_by_id:
            actions.cancels.append((back_by_id[name], f"wanted again as {name}"))
        elif actions.launched < launchable:
            old = replaced_ids.get(name)
            actions.launches.append(
                Launch(
                    count=1,
                    reason=f"replaces {old.node_id} as {name}" if old else f"unique worker {name}",
                    unique_id=name,
                    variables=variables,
                    is_replacement=old is not None,
                )
            )
        else:
            actions.missing += 1
    deficit = max(0, places.plain_target - plain_there)
    plain_back = [one for one in recallable if one.unique_id is None]
    for one in taken_back(plain_back, deficit):
        actions.cancels.append((one, f"wanted again: {decision.reason}"))
        deficit -= 1
    count = min(deficit, max(0, launchable - actions.launched))
    actions.missing += deficit - count
    plain_replaced = [one for one in replaced if one.unique_id is None]
    as_replacement = min(count, len(plain_replaced))
    if as_replacement:
        names = ", ".join(one.node_id for one in plain_replaced[:5])
        actions.launches.append(
            Launch(count=as_replacement, reason=f"replaces {names}", is_replacement=True)
        )
    if count > as_replacement:
        why = _why_launched(observed, decision, plain_there, actions.turn)
        actions.launches.append(Launch(count=count - as_replacement, reason=why))


def _why_launched(
    observed: Observed, decision: BoundedDecision, there: int, turn: Turn | None
) -> str:
    """What a launch is for: growth is the decision's reason, anything else a loss."""
    wanted = observed.memory.wanted
    present = f"{there} of {decision.size} wanted are there"
    if observed.census.lost and wanted is not None and there < wanted:
        return f"{', '.join(observed.census.lost[:5])} vanished: {present}"
    grown = wanted is None or decision.size > wanted
    if grown or (turn is not None and turn.launches):
        return decision.reason
    return f"{present}: {decision.reason}"


def _shrink(
    spec: PoolSpec,
    observed: Observed,
    places: Places,
    decision: BoundedDecision,
    actions: Actions,
    turnover: Turnover | None,
) -> None:
    """Let retired and surplus workers go, those that run by way of a drain."""
    surplus = max(0, len(places.plain) - places.plain_target)
    others = [one for one in places.plain if not _may_work_already(one)]
    waiting = min(surplus, len(places.plain) - len(others))
    surplus -= waiting
    going = victims(
        others,
        surplus,
        preferred=decision.wish.victims,
        signs=observed.signs,
        template=spec.template,
        old=() if turnover is None else turnover.old,
    )
    actions.protected_stay = surplus - len(going)
    leaving = [(one, decision.reason) for one in going]
    for one in places.retired:
        if one.protected:
            actions.protected_stay += 1
        elif _may_work_already(one):
            waiting += 1
        else:
            leaving.append((one, f"unique worker {one.unique_id} is not wanted any more"))
    for one, reason in leaving:
        if one.state is InstanceState.RUNNING:
            actions.drains.append((one, reason))
        else:
            actions.terminations.append((one, reason))
    if actions.protected_stay:
        actions.waits.append(f"{actions.protected_stay} too many stay: they are protected")
    if waiting:
        actions.waits.append(f"{waiting} too many are starting: they go when they can be drained")


def _may_work_already(one: InstanceView) -> bool:
    """A machine whose agent has its role, and that has not said yet that it is ready.

    Its worker may have a job in hand. Nothing short of a drain ends it well, and only who is
    RUNNING can be drained: it goes when it is, or when its boot has failed.
    """
    return one.state is InstanceState.BOOTING and bool(one.start_step)


def _unhealthy_since(one: InstanceView, observed: Observed) -> tuple[float, str]:
    note = observed.memory.health.get(one.node_id)
    return (note.since if note is not None else 0.0, one.node_id)


def _live(observed: Observed, kept: Mapping[str, float]) -> int:
    """Machines that are not on their way out, and not among the unhealthy of the brake's window.

    Neither is a machine that does not run yet and may stand in for one of those: counted
    with its predecessor, the more are replaced, the larger a pool would seem.
    """
    census, unhealthy = observed.census, observed.memory.unhealthy
    live = census.machines - census.terminating - len(kept)
    if not unhealthy:
        return live
    here = sum(1 for one in (*census.supply, *census.unhealthy) if one.node_id in unhealthy)
    leaving = sum(1 for one in (*census.boot_failed, *census.draining) if one.node_id in unhealthy)
    return live - here - leaving - min(census.pending, len(unhealthy) - here)
