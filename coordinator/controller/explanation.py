"""A cycle's reasoning as plain JSON values, in words that a person understands at night. PURE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.messages import CancelDrain, CommandBatch, DrainInstance, TerminateInstance
from coordinator.controller.why_not import why_not_fewer, why_not_more
from coordinator.engines.base import UNHEALTHY

if TYPE_CHECKING:
    from coordinator.controller.cycle import CycleOutcome


def explain(outcome: CycleOutcome) -> dict[str, Any]:
    """Inputs, wish, every bound, result, brake, back-off, commands, and why not otherwise."""
    view, memory = outcome.observed.view, outcome.memory
    decision, actions = outcome.decision, outcome.actions
    return {
        "pool": outcome.spec.name,
        "time": outcome.now,
        "based_on": outcome.version,
        "sentence": outcome.sentence,
        "state": outcome.pool_state.value,
        "reason": outcome.reason,
        "engine": outcome.spec.engine_type,
        "inputs": {
            "counts": outcome.counts,
            "readings": {
                name: {"value": _number(one.value), "age": _number(one.age), "sample": one.sample}
                for name, one in view.readings.items()
            },
            "unhealthy": {
                node_id: {"health": one.status.value, "reason": one.reason}
                for node_id, one in outcome.health.items()
                if one.status in UNHEALTHY
            },
            "previous_size": view.previous.size if view.previous is not None else None,
        },
        "wish": None
        if decision is None
        else {
            "size": decision.wish.size,
            "reason": decision.wish.reason,
            "held": decision.wish.held,
            "unique_ids": sorted(decision.wish.unique_ids),
        },
        "bounds": []
        if decision is None
        else [
            {"name": step.name, "size": step.size, "reason": step.reason or "not limiting"}
            for step in decision.chain[1:]
        ],
        "wanted": outcome.wanted,
        "cloud": None if outcome.choice is None else outcome.choice.explanation(),
        "brake": None if actions is None else actions.brake.to_dict(),
        "backoff": {
            "seconds_left": memory.backoff.seconds_left(outcome.now),
            "failures": memory.backoff.failures,
            "until": memory.backoff.until,
            "last": memory.backoff.reason,
        },
        "rollout": memory.rollout.status(outcome.old, outcome.now) if memory.rollout else None,
        "commands": _commands(outcome.batch),
        "why_not_more": [why_not_more(outcome)],
        "why_not_fewer": [why_not_fewer(outcome)],
    }


def _commands(batch: CommandBatch | None) -> list[dict[str, Any]]:
    """Each command: what, whom or how many, why."""
    if batch is None:
        return []
    rows: list[dict[str, Any]] = [
        {
            "command": "LaunchInstances",
            "launch_id": one.launch_id,
            "count": one.count,
            "unique_id": one.unique_id,
            "cloud": one.cloud,
            "reason": one.reason,
        }
        for one in batch.launches
    ]
    told: list[CancelDrain | TerminateInstance | DrainInstance] = [
        *batch.cancels,
        *batch.terminations,
        *batch.drains,
    ]
    for command in told:
        kind = type(command).__name__
        rows.append({"command": kind, "node_id": command.node_id, "reason": command.reason})
    return rows


def _number(value: float) -> float | str:
    """A number as JSON can carry it: NaN and infinities as words."""
    return value if abs(value) < float("inf") else str(value)
