"""Why a pool has no more workers now, and why it has no fewer: one sentence each. PURE.

Every case has one: what a person asks at night is why *nothing* happens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.messages import InstanceState
from coordinator.controller.decision import BoundedDecision
from coordinator.controller.planned import Actions
from coordinator.controller.view import Observed

if TYPE_CHECKING:
    from coordinator.controller.cycle import CycleOutcome


def why_not_more(outcome: CycleOutcome) -> str:
    """What keeps the pool from having more workers now."""
    decision, actions = outcome.decision, outcome.actions
    if decision is None or decision.problem or actions is None:
        return f"nothing is decided: {outcome.reason}"
    said = _said_before(outcome, decision)
    said += _limited(decision, lower=True)
    if actions.missing or actions.deferred:
        said += actions.waits
    said += _without_room(outcome.observed)
    if actions.launches:
        said.append(f"{_are(actions.launched)} launched now")
    if actions.cancels:
        said.append(f"{_are(len(actions.cancels))} taken back from draining now")
    census, backoff = outcome.observed.census, outcome.memory.backoff
    if not said and census.pending:
        said.append(f"{_are(census.pending)} on the way; {decision.wish.reason}")
    if (actions.launches or census.pending) and backoff.lasts(census.supply):
        said.append(f"before, {backoff.words}")
    return "; ".join(said) or f"no more are wanted: {decision.wish.reason}"


def why_not_fewer(outcome: CycleOutcome) -> str:
    """What keeps the pool from having fewer workers now."""
    decision, actions = outcome.decision, outcome.actions
    if decision is None or decision.problem or actions is None:
        return f"nothing is decided: {outcome.reason}"
    said = _said_before(outcome, decision)
    said += _limited(decision, lower=False)
    said += _not_gone(actions)
    if actions.drains:
        said.append(f"{_are(len(actions.drains))} told to drain now")
    if actions.terminations:
        said.append(f"{_are(len(actions.terminations))} terminated now")
    census = outcome.observed.census
    there = len(census.draining) + census.terminating
    if there:
        said.append(f"{_are(there)} on the way out")
    if not said and not census.machines:
        return f"there are none: {decision.wish.reason}"
    return "; ".join(said) or f"all that are there are wanted: {decision.wish.reason}"


def _are(count: int) -> str:
    return f"{count} is" if count == 1 else f"{count} are"


def _said_before(outcome: CycleOutcome, decision: BoundedDecision) -> list[str]:
    """What holds for both: commands are only recommended, or data is missing."""
    hold = outcome.spec.rules.hold
    if hold is not None and hold.recommend_only:
        why = f": {hold.reason}" if hold.reason else ""
        return [f"nothing is done, only recommended{why}"]
    return [decision.wish.reason] if decision.wish.held else []


def _limited(decision: BoundedDecision, *, lower: bool) -> list[str]:
    """The bounds that made the wish lower (or higher), and those alone that still do."""
    wish, size = decision.wish.size, decision.size
    reasons = [
        step.reason
        for before, step in zip(decision.chain, decision.chain[1:], strict=False)
        if (step.size < before.size if lower else step.size > before.size)
    ]
    if not reasons or (size >= wish if lower else size <= wish):
        return []
    return [f"{wish} are wished for, but {' and '.join(reasons)}"]


def _not_gone(actions: Actions) -> list[str]:
    """Who would go and does not."""
    said = []
    if actions.protected_stay:
        said.append(f"{actions.protected_stay} too many stay: they are protected")
    if actions.turn is not None and actions.turn.extra:
        said.append(f"{actions.turn.extra} beyond the size take over from old ones (rollout)")
    if actions.kept:
        said.append(f"{len(actions.kept)} that did not boot are kept for a look")
    return said


def _without_room(observed: Observed) -> list[str]:
    """Launches that their cloud has no room for, or whose answer is to be repeated."""
    waiting = [
        one
        for one in observed.census.supply
        if one.state is InstanceState.LAUNCHING and one.retryable
    ]
    if not waiting:
        return []
    return [f"{len(waiting)} wait for the cloud {waiting[0].cloud}: {waiting[0].reason}"]
