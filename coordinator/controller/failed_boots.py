"""Machines that failed to boot: which are kept for a look, and what development shows. PURE."""

from __future__ import annotations

from agent.messages import InstanceView
from coordinator.controller.pool import PoolMemory
from coordinator.controller.view import Census
from coordinator.pool_values import PoolSpec


def kept_for_a_look(spec: PoolSpec, census: Census, size: int, now: float) -> dict[str, float]:
    """Node id → until when it is kept: the last ``retain_failed`` that failed, newest first.

    They are machines and cost money, so the pool's cap counts them; work goes first: they
    get only what the wanted ``size``, one ``max_surge`` and whatever else is there leave of
    it. Machines that people booted are theirs to keep.
    """
    others = census.machines - len(census.boot_failed)
    room = spec.max + spec.max_surge - max(size + spec.max_surge, others)
    until = {
        one.node_id: one.state_since + spec.retain_failed_for
        for one in sorted(census.boot_failed, key=lambda one: (-one.state_since, one.node_id))
        if not one.adopted and one.state_since + spec.retain_failed_for > now
    }
    count = max(0, min(spec.retain_failed, room))
    return dict(list(until.items())[:count])


def development_failures(failed: Census, memory: PoolMemory) -> int:
    """Failed boots and launches that a development pool shows instead of compensating them.

    What failed before the pool (with this memory) began is no concern of its. Unhealthy
    workers are not counted here: held by the brake's place, they keep their own.
    """
    since = memory.began if memory.began is not None else 0.0
    refused: list[InstanceView] = [one for one in failed.launch_failed if one.wanted_at >= since]
    return len(failed.boot_failed) + len(refused)
