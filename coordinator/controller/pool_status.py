"""How a pool is, as plain JSON values for people and programs. PURE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.messages import FINAL_STATES, InstanceView, NodeSigns
from coordinator.controller.cycle import CycleOutcome
from coordinator.controller.health import NodeHealth, failure
from coordinator.controller.pool import PoolMemory
from coordinator.pool_values import PoolSpec


def pool_line(
    revision: int,
    spec: PoolSpec,
    outcome: CycleOutcome | None,
    memory: PoolMemory,
    trouble: str,
    now: float,
) -> dict[str, Any]:
    """PoolStatus without its instances, which are as large as the pool, and its section.

    As of the last cycle; ``trouble`` (no cycle was possible) makes it HELD.
    """
    state, reason = "PENDING", "not looked at yet"
    if outcome is not None:
        state, reason = outcome.pool_state.value, outcome.reason
    if trouble:
        state, reason = "HELD", trouble
    counts = outcome.counts if outcome is not None else {}
    actions = outcome.actions if outcome is not None else None
    choice = outcome.choice if outcome is not None else None
    old = outcome.old if outcome is not None else None
    return {
        "name": spec.name,
        "state": state,
        "reason": reason,
        "wanted": outcome.wanted if outcome is not None else None,
        "supply": counts.get("supply", 0),
        "running": counts.get("running", 0),
        "pending": counts.get("pending", 0),
        "draining": counts.get("draining", 0),
        "unhealthy": counts.get("unhealthy", 0),
        "price": _price(outcome),
        "old": len(old) if old is not None else None,
        "rollout": None if memory.rollout is None else memory.rollout.status(old, now),
        "zombies": [
            {"node_id": one.node_id, "cloud": one.cloud, "cloud_id": one.cloud_id}
            for one in (outcome.observed.census.zombies if outcome is not None else ())
        ],
        "rogues": sorted(memory.rogues),
        "failing": _failing(memory, outcome, now),
        "kept": len(actions.kept) if actions is not None else 0,
        "was_running": outcome.ready_once if outcome is not None else False,
        "brake": actions.brake.level.value if actions is not None else "NORMAL",
        "engine": spec.engine,
        "min": spec.min,
        "max": spec.max,
        "hold": _hold(spec),
        "template": spec.template,
        "clouds": list(spec.clouds),
        "cloud": None if choice is None else choice.cloud,
        "cloud_reason": "" if choice is None else choice.reason,
        "machine": dict(spec.machine),
        "machine_by_cloud": {cloud: dict(own) for cloud, own in spec.machine_by_cloud.items()},
        "revision": revision,
        "decided_age": now - outcome.now if outcome is not None else None,
        "readings": {
            name: {"value": reading.value, "age": reading.age}
            for name, reading in (outcome.observed.view.readings.items() if outcome else ())
        },
    }


def pool_status(
    section: Mapping[str, Any],
    revision: int,
    spec: PoolSpec,
    outcome: CycleOutcome | None,
    memory: PoolMemory,
    instances: Mapping[str, InstanceView],
    trouble: str,
    now: float,
) -> dict[str, Any]:
    """PoolStatus: its line, as it was written, and its instances that are not at their end."""
    health = outcome.health if outcome is not None else {}
    signs = outcome.observed.signs if outcome is not None else {}
    actions = outcome.actions if outcome is not None else None
    old = outcome.old if outcome is not None else None
    return {
        **pool_line(revision, spec, outcome, memory, trouble, now),
        "section": dict(section),
        "instances": [
            {
                "node_id": one.node_id,
                "state": one.state.value,
                "health": health[one.node_id].status.value if one.node_id in health else "UNKNOWN",
                **_business(signs.get(one.node_id)),
                "age": now - one.wanted_at,
                "state_age": now - one.state_since,
                "cloud": one.cloud,
                "cloud_id": one.cloud_id,
                "reason": _why(one, health),
                "old": None if old is None else one.node_id in old,
                "failed_programs": _failed(health.get(one.node_id)),
                "kept_until": actions.kept.get(one.node_id) if actions is not None else None,
            }
            for one in sorted(instances.values(), key=lambda one: (one.wanted_at, one.node_id))
            if one.state not in FINAL_STATES
        ],
    }


def _hold(spec: PoolSpec) -> dict[str, Any] | None:
    """What a person suspended; None: nothing."""
    hold = spec.rules.hold
    if hold is None or not (hold.recommend_only or hold.suspend):
        return None
    return {
        "recommend_only": hold.recommend_only,
        "suspend": list(hold.suspend),
        "reason": hold.reason,
    }


def _price(outcome: CycleOutcome | None) -> float | None:
    """$ per hour of the machines that are there, of those whose cloud tells; None: none does."""
    if outcome is None:
        return None
    told = [one.price for one in outcome.observed.view.instances if one.price is not None]
    return sum(told) if told else None


def _failing(memory: PoolMemory, outcome: CycleOutcome | None, now: float) -> dict[str, Any] | None:
    """Launches or boots that failed and after which nobody came to run; None without any."""
    if outcome is None or not memory.backoff.lasts(outcome.observed.census.supply):
        return None
    return {
        "count": memory.backoff.failures,
        "last": memory.backoff.reason,
        "last_age": max(0.0, now - memory.backoff.last_failure),
        "seconds_left": memory.backoff.seconds_left(now),
    }


def _business(signs: NodeSigns | None) -> dict[str, Any]:
    """Whether a node has work in hand, how much, for how long, or why that is not known."""
    if signs is None:
        return {"busy": None, "busy_for": None, "busy_problem": "", "jobs": None}
    return {
        "busy": signs.busy,
        "busy_for": signs.busy_for,
        "busy_problem": signs.busy_problem,
        "jobs": signs.jobs,
    }


def _failed(judged: NodeHealth | None) -> list[dict[str, Any]]:
    return [] if judged is None else [failure(one) for one in judged.failed]


def _why(instance: InstanceView, health: Mapping[str, Any]) -> str:
    """The health's reason where there is something to say, else the state's."""
    judged = health.get(instance.node_id)
    if judged is not None and judged.status.value not in ("OK", "UNKNOWN"):
        return str(judged.reason)
    return instance.reason
