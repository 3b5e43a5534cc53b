"""How a pool is after a cycle, and the sentence that says what the cycle did. PURE."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.messages import HealthStatus, SensorReport
from coordinator.controller.brake import BrakeLevel
from coordinator.controller.decision import BoundedDecision
from coordinator.controller.failed_boots import development_failures
from coordinator.controller.planned import Actions
from coordinator.controller.pool import PoolMemory, PoolState
from coordinator.controller.view import Observed
from coordinator.pool_values import PoolSpec

if TYPE_CHECKING:
    from coordinator.controller.cycle import CycleOutcome

_FIGURES = re.compile(r"0x[0-9a-f]+|\d+(?:\.\d+)?")


def is_calm(
    observed: Observed,
    decision: BoundedDecision,
    actions: Actions,
    report: SensorReport | None,
) -> bool:
    """Everything is as wanted, on fresh readings, and nothing had to be done or is under way."""
    census = observed.census
    if actions.turn is not None and actions.turn.after.active:
        return False
    return (
        report is not None
        and not report.blind
        and not decision.wish.held
        and decision.stable
        and actions.is_empty
        and not actions.missing
        and len(census.supply) == decision.size
        and not (census.pending or census.unhealthy)
        and len(census.boot_failed) == len(actions.kept)
        and all(observed.health[one.node_id].status is HealthStatus.OK for one in census.supply)
    )


def state_of(
    spec: PoolSpec,
    observed: Observed,
    decision: BoundedDecision,
    actions: Actions,
    report: SensorReport | None,
    calm: bool,
) -> tuple[PoolState, str]:
    """How the pool is, and why it is not STABLE."""
    census = observed.census
    before = observed.memory
    if spec.development and (census.unhealthy or development_failures(census, before)):
        return PoolState.FAILED, "; ".join(actions.waits) or "a worker failed (development)"
    if decision.wish.held:
        return PoolState.HELD, decision.reason
    if report is None:
        return PoolState.HELD, "the sensors service does not answer: nobody's health is known"
    if report.blind:
        return PoolState.HELD, "the sensors service does not hear itself: silence proves nothing"
    if actions.brake.level is BrakeLevel.MELTDOWN:
        return PoolState.HELD, f"MELTDOWN: {actions.brake.reason}"
    if calm and before.calm and before.wanted == decision.size:
        return PoolState.STABLE, decision.reason
    if actions.waits:
        return PoolState.PENDING, "; ".join(actions.waits)
    if calm:
        return PoolState.PENDING, f"as wanted since this cycle; {decision.reason}"
    there = f"{census.running} running and {census.pending} pending of {decision.size} wanted"
    backoff = observed.memory.backoff
    if len(census.supply) - census.pending < decision.size and backoff.lasts(census.supply):
        there += f"; before, {backoff.words}"
    return PoolState.PENDING, f"{there}; {decision.reason}"


def sentence_of(observed: Observed, decision: BoundedDecision, actions: Actions) -> str:
    """What the cycle did, in one sentence."""
    done = []
    if actions.launches:
        done.append(f"launched {actions.launched}")
    if actions.cancels:
        done.append(f"took back {len(actions.cancels)}")
    if actions.terminations:
        done.append(f"terminated {len(actions.terminations)}")
    if actions.drains:
        done.append(f"drained {len(actions.drains)}")
    there = f"{len(observed.census.supply)} of {decision.size} wanted"
    did = ", ".join(done) if done else "no action"
    return "; ".join([f"{did}: {there}, {decision.reason}", *actions.waits])


def decision_signature(outcome: CycleOutcome) -> tuple[object, ...]:
    """What makes a cycle's reasoning another one than the last cycle's.

    Sentences count without their figures: a queue's length or an age differs in every cycle,
    and a history of those alone would push out the days before.
    """
    level = None if outcome.actions is None else outcome.actions.brake.level
    words = without_figures(f"{outcome.sentence}; {outcome.reason}")
    return outcome.wanted, outcome.pool_state, level, outcome.batch is not None, words


def worth_storing(before: PoolMemory, after: PoolMemory) -> bool:
    """Whether ``after`` is another memory; a reason with only other figures makes none.

    Nor does what the engine has seen: a step that commanded nothing and left the wanted size
    as it was may be made again on the same measurement after a restart, as its first.
    """
    if without_figures(before.reason) == without_figures(after.reason):
        before = replace(before, reason=after.reason)
    return replace(before, engine_seen=after.engine_seen) != after


def without_figures(text: str) -> str:
    """``text`` with every number made the same."""
    return _FIGURES.sub("#", text)
