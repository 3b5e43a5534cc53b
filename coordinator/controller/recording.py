"""A decision with all that it was made of, small enough to keep: for ``epu replay``.

What the engine saw and what the bounds looked at goes in as it was, so that the same engine
and the same bounds give the same decision, to the last bit and word. It is stored with a
change of the reasoning only; an idle pool stores none.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from agent.wire import MalformedMessage, from_wire, to_wire
from coordinator.controller.bounds import Limits
from coordinator.controller.cycle import CycleOutcome
from coordinator.controller.decision import BoundedDecision
from coordinator.controller.pool import PoolMemory, memory_from_dict, memory_to_dict
from coordinator.engines.base import PoolView
from coordinator.pool_values import PoolSpec, ScheduleEntry


@dataclass(frozen=True, kw_only=True)
class Recording:
    """``section`` is the pool's as it was then; ``answer`` what was decided (``answer_of``)."""

    section: dict[str, Any]
    view: PoolView
    memory: PoolMemory
    scheduled: ScheduleEntry | None
    answer: dict[str, Any]

    def limits(self, spec: PoolSpec) -> Limits:
        """What the engine and the bounds had before them; ``spec`` is ``section``, parsed."""
        view = replace(self.view, settings=spec.engine_settings)
        return Limits(view=view, spec=spec, memory=self.memory, scheduled=self.scheduled)


def answer_of(decision: BoundedDecision) -> dict[str, Any]:
    """A decision as plain values: the wish with all it has, and each bound's size and words."""
    answer: dict[str, Any] = {
        "size": decision.size,
        "wish": to_wire(decision.wish),
        "bounds": [[step.name, step.size, step.reason] for step in decision.chain[1:]],
        "problem": decision.problem,
    }
    plain: dict[str, Any] = json.loads(json.dumps(answer))
    return plain


def record(section: Mapping[str, Any], limits: Limits, decision: BoundedDecision) -> str:
    """The decision and what it was made of, as text."""
    memory = limits.memory
    seen_by_bounds = PoolMemory(
        wanted=memory.wanted,
        wishes=memory.wishes,
        no_growth_until=memory.no_growth_until,
        no_shrinking_until=memory.no_shrinking_until,
    )
    whole = {
        "section": dict(section),
        "view": to_wire(replace(limits.view, settings=None)),
        "memory": memory_to_dict(seen_by_bounds),
        "scheduled": to_wire(limits.scheduled),
        "answer": answer_of(decision),
    }
    text = json.dumps(whole, separators=(",", ":"))  # NaN stays NaN
    return base64.b64encode(zlib.compress(text.encode())).decode()


def recording_of(
    outcome: CycleOutcome, section: Mapping[str, Any], scheduled: ScheduleEntry | None
) -> str | None:
    """The recording of a cycle; None when it did not decide, or its engine failed."""
    decision = outcome.decision
    if decision is None or decision.problem:
        return None
    limits = Limits(
        view=outcome.shown or outcome.observed.view,
        spec=outcome.spec,
        memory=outcome.observed.memory,
        scheduled=scheduled,
    )
    return record(section, limits, decision)


def recorded(text: str) -> Recording:
    """The reverse of ``record``. Raises MalformedMessage for anything else."""
    try:
        whole = json.loads(zlib.decompress(base64.b64decode(text)))
        return Recording(
            section=dict(whole["section"]),
            view=from_wire(PoolView, whole["view"]),
            memory=memory_from_dict(whole["memory"]),
            scheduled=from_wire(ScheduleEntry | None, whole["scheduled"]),  # type: ignore[arg-type]
            answer=dict(whole["answer"]),
        )
    except (ValueError, TypeError, KeyError, zlib.error) as problem:
        raise MalformedMessage(f"not a recorded decision: {problem}") from None
