"""From an engine's wish to a size: contained, bounded, each step with its reason. PURE.

The chain of all bounds' verdicts (``bounds.BOUNDS``) is kept with the decision, so that
``epu explain`` can say who limited what.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from coordinator.controller.bounds import BOUNDS, Limits
from coordinator.engines.base import Decision, DecisionEngine, PoolView

#: A size beyond this is a defect of an engine, not a wish.
ABSURD = 100_000


@dataclass(frozen=True)
class BoundStep:
    """One link of the chain: who, the size after it, and why it changed anything."""

    name: str
    size: int
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class BoundedDecision:
    """The engine's wish, the size after all bounds and the chain between them.

    ``problem`` is what was wrong with the engine, empty when nothing was: then nothing at
    all is done for the pool in this cycle.
    """

    wish: Decision
    size: int
    chain: tuple[BoundStep, ...]
    problem: str = ""

    @property
    def reason(self) -> str:
        """The wish's reason and those of the bounds that changed it."""
        parts = [self.wish.reason, *(step.reason for step in self.chain[1:] if step.reason)]
        return "; ".join(part for part in parts if part)


def decide(engine: DecisionEngine, limits: Limits) -> BoundedDecision:
    """Ask the engine and bound its wish. Never raises, whatever the engine does."""
    wish, problem = _ask(engine, limits.view)
    size = wish.size
    chain = [BoundStep("engine", size, wish.reason)]
    for name, bound in BOUNDS:
        verdict = bound(size, wish, limits)
        size = verdict.size
        chain.append(BoundStep(name, size, verdict.reason))
    return BoundedDecision(wish=wish, size=size, chain=tuple(chain), problem=problem)


def _ask(engine: DecisionEngine, view: PoolView) -> tuple[Decision, str]:
    """The engine's wish, or a decision to hold and what was wrong with the engine."""
    try:
        wish = engine.decide(view)
        problem = _nonsense_in(wish)
        if not problem:
            return _tidied(wish), ""
    except Exception as raised:  # an engine may be anybody's code: one cycle, one event
        problem = f"{type(raised).__name__}: {raised}"[:300]
    size = view.previous.size if view.previous is not None else len(view.supply)
    memory = view.previous.memory if view.previous is not None else {}
    seen = view.previous.seen if view.previous is not None else {}
    reason = f"hold: the engine failed: {problem}"
    held = Decision(size=size, reason=reason, held=True, stable=False, memory=memory, seen=seen)
    return held, problem


def _nonsense_in(wish: Any) -> str:
    """What makes an engine's answer unusable, empty when it can be used."""
    if not isinstance(wish, Decision):
        return f"it answered {type(wish).__name__}, not a Decision"
    size: Any = wish.size
    if isinstance(size, bool) or not isinstance(size, int | float) or size != size:
        return f"it wants {size!r} workers"
    if not 0 <= size <= ABSURD or size != int(size):
        return f"it wants {size!r} workers"
    if not all(
        isinstance(name, str)
        and isinstance(own, dict)
        and all(isinstance(word, str) for pair in own.items() for word in pair)
        for name, own in wish.unique_ids.items()
    ):
        return "its unique_ids are not names with variables"
    memory, victims = vars(wish)["memory"], vars(wish)["victims"]
    if not isinstance(memory, dict) or not isinstance(victims, tuple | list):
        return "its memory is not a dict or its victims are not a list"
    if not isinstance(vars(wish)["seen"], dict):
        return "what it has seen is not a dict"
    return ""


def _tidied(wish: Decision) -> Decision:
    """The wish with plain types. Raises ValueError or TypeError for memory that is no JSON."""
    return replace(
        wish,
        size=int(wish.size),
        reason=str(wish.reason),
        victims=tuple(str(victim) for victim in wish.victims),
        memory=_plain(wish.memory),
        seen=_plain(wish.seen),
    )


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(values, allow_nan=False)) if values else {}
    return plain
