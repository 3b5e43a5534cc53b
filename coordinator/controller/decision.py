"""From an engine's wish to a size: contained, bounded, each step with its reason. PURE.

The chain of all bounds' verdicts (``bounds.BOUNDS``) is kept with the decision, so that
``epu explain`` can say who limited what.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from functools import lru_cache
from numbers import Real
from typing import Any

from coordinator.controller.bounds import BOUNDS, LASTING, Limits, wishes_after
from coordinator.controller.pool import PoolMemory, changed
from coordinator.engines.base import Decision, DecisionEngine, PoolView
from coordinator.errors import EngineFailed
from coordinator.pool_values import PoolSpec

#: A size beyond this is a defect of an engine, not a wish.
ABSURD = 100_000
#: What an engine may say and remember, in characters and bytes: both are stored.
LONGEST_REASON = 2000
LONGEST_PROBLEM = 300
LARGEST_MEMORY = 64_000
#: What is not worth JSON: so many values of so many characters, and numbers below this.
_SIMPLE_LENGTH, _SIMPLE_TEXT, _SIMPLE_NUMBER = 8, 200, 2**63


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
    def stable(self) -> bool:
        """Whether nothing more is to come: the engine is content, or a lasting bound is final.

        An engine that wants none is never content with the two of ``min``; the pool is.
        """
        lasting = any(step.reason and step.name in LASTING for step in self.chain[1:])
        return self.wish.stable or (lasting and not self.wish.held)

    @property
    def reason(self) -> str:
        """The wish's reason and those of the bounds that changed it."""
        parts = [self.wish.reason, *(step.reason for step in self.chain[1:] if step.reason)]
        return "; ".join(part for part in parts if part)


@lru_cache(maxsize=10_000)
def _passed(name: str, size: int) -> BoundStep:
    """The link of a bound that had nothing against ``size``: nearly all are, in each cycle."""
    return BoundStep(name, size)


def decide(engine: DecisionEngine, limits: Limits) -> BoundedDecision:
    """Ask the engine and bound its wish. Never raises, whatever the engine does."""
    wish, problem = _ask(engine, limits.view)
    size = wish.size
    chain = [BoundStep("engine", size, wish.reason)]
    for name, bound in BOUNDS:
        verdict = bound(size, wish, limits)
        if verdict is None:
            chain.append(_passed(name, size))
        else:
            size = verdict.size
            chain.append(BoundStep(name, size, verdict.reason))
    return BoundedDecision(wish=wish, size=size, chain=tuple(chain), problem=problem)


def remembered(
    memory: PoolMemory, spec: PoolSpec, decision: BoundedDecision, there: int, now: float
) -> PoolMemory:
    """What the next decision has to know of this one; ``there``: the supply it was made on."""
    present = there if memory.wanted is None else memory.wanted
    rules = spec.rules
    return changed(
        memory,
        wanted=decision.size,
        reason=decision.reason,
        engine=spec.engine_type,
        engine_memory=decision.wish.memory,
        engine_seen=decision.wish.seen,
        wishes=wishes_after(memory.wishes, rules.stabilization_window, decision.chain[1].size, now),
        no_growth_until=now + rules.cooldown_up
        if decision.size > present
        else memory.no_growth_until,
        no_shrinking_until=now + rules.cooldown_down
        if decision.size != present
        else memory.no_shrinking_until,
    )


def _ask(engine: DecisionEngine, view: PoolView) -> tuple[Decision, str]:
    """The engine's wish, or a decision to hold and what was wrong with the engine."""
    try:
        return _of_this_pool(usable(engine.decide(view)), view), ""
    except EngineFailed as failed:
        problem = str(failed)[:LONGEST_PROBLEM]
    except (Exception, SystemExit) as raised:  # an engine may be anybody's code
        problem = _said_by(raised)
    size = view.previous.size if view.previous is not None else len(view.supply)
    memory = view.previous.memory if view.previous is not None else {}
    seen = view.previous.seen if view.previous is not None else {}
    reason = f"hold: the engine failed: {problem}"
    held = Decision(size=size, reason=reason, held=True, stable=False, memory=memory, seen=seen)
    return held, problem


def usable(answer: Any) -> Decision:
    """An engine's answer with plain types throughout. Raises EngineFailed for nonsense."""
    if not isinstance(answer, Decision):
        raise EngineFailed(f"it answered {type(answer).__name__}, not a Decision")
    size: Any = answer.size
    is_number = type(size) is int or (  # numpy's are Real too
        isinstance(size, Real) and not isinstance(size, bool)
    )
    if not is_number:
        raise EngineFailed(f"it wants {str(size)[:40]!r} workers, which is no number")
    if not 0 <= size <= ABSURD or size != int(size):  # neither is true of NaN
        raise EngineFailed(f"it wants {float(size):g} workers")
    own = vars(answer)
    victims: Any = own["victims"]
    if not isinstance(victims, (tuple, list)) or not all(isinstance(v, str) for v in victims):
        raise EngineFailed("its victims are not a list of node ids")
    if not (isinstance(own["held"], bool) and isinstance(own["stable"], bool)):
        raise EngineFailed("its 'held' or 'stable' is neither true nor false")
    return Decision(
        size=int(size),
        reason=str(answer.reason)[:LONGEST_REASON],
        victims=tuple(victims),
        stable=answer.stable,
        held=answer.held,
        unique_ids=_named_variables(own["unique_ids"]),
        memory=_plain("memory", own["memory"]),
        seen=_plain("seen", own["seen"]),
    )


def _named_variables(given: Any) -> dict[str, dict[str, str]]:
    if given == {}:
        return {}
    if isinstance(given, dict) and all(
        isinstance(name, str)
        and isinstance(own, dict)
        and all(isinstance(word, str) for pair in own.items() for word in pair)
        for name, own in given.items()
    ):
        return given
    raise EngineFailed("its unique_ids are not names with variables")


def _of_this_pool(wish: Decision, view: PoolView) -> Decision:
    """The wish, if it names only workers of this view as victims, each once.

    Protected ones are passed over as in any shrinking, and it is said: a person may protect
    a node at any time, and an engine that does not look at that is not broken.
    """
    if not wish.victims:
        return wish
    known = {one.node_id: one for one in view.instances}
    for node_id in wish.victims:
        if node_id not in known:
            raise EngineFailed(f"it names {node_id[:80]} as a victim, which this pool has not")
    if len(set(wish.victims)) < len(wish.victims):
        raise EngineFailed("it names a victim twice")
    kept = [node_id for node_id in wish.victims if known[node_id].protected]
    if not kept:
        return wish
    said = f"{', '.join(kept[:5])} are protected and no victims"
    victims = tuple(node_id for node_id in wish.victims if not known[node_id].protected)
    return replace(wish, victims=victims, reason=f"{wish.reason}; {said}")


def _said_by(raised: BaseException) -> str:
    """An exception in one line, even one whose own text can't be had."""
    name = type(raised).__name__
    try:
        return f"{name}: {raised}"[:LONGEST_PROBLEM]
    except Exception:
        return name


def _plain(name: str, given: Any) -> dict[str, Any]:
    """What comes back to the engine, as JSON has it. Raises EngineFailed."""
    if not isinstance(given, dict):
        raise EngineFailed(f"its {name} is not a dict")
    if (simple := _simple(given)) is not None:
        return simple
    try:
        text = json.dumps(given, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as problem:
        raise EngineFailed(f"its {name} is not plain JSON: {problem}") from None
    if len(text) > LARGEST_MEMORY:
        raise EngineFailed(f"its {name} is larger than {LARGEST_MEMORY} bytes")
    plain: dict[str, Any] = json.loads(text)
    return plain


def _simple(given: dict[Any, Any]) -> dict[str, Any] | None:
    """A copy of a few short values that are the same as JSON has them, without making JSON of
    them: what our engines remember is no more. None for all else.
    """
    if len(given) > _SIMPLE_LENGTH:
        return None
    simple: dict[str, Any] = {}
    for name, value in given.items():
        is_list = type(value) is list and len(value) <= _SIMPLE_LENGTH
        if not _is_simple(name) or type(name) is not str:
            return None
        if not (all(map(_is_simple, value)) if is_list else _is_simple(value)):
            return None
        simple[name] = list(value) if is_list else value
    return simple


def _is_simple(value: Any) -> bool:
    kind = type(value)
    if kind is str:
        return len(value) <= _SIMPLE_TEXT
    if kind is float:
        return math.isfinite(value)
    return kind is bool or value is None or (kind is int and abs(value) < _SIMPLE_NUMBER)
