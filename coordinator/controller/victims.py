"""Who goes when a pool shrinks, and who comes back when it grows. PURE."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from agent.messages import InstanceState, InstanceView, NodeSigns


def victims(
    candidates: Sequence[InstanceView],
    count: int,
    *,
    preferred: Sequence[str],
    signs: Mapping[str, NodeSigns],
    template: str,
    old: Collection[str] = (),
) -> list[InstanceView]:
    """``count`` of the healthy or pending ``candidates``, fewer when the rest is protected.

    Order: not yet running, the engine's own wish, idle, launched by us rather than adopted
    (ending an adopted worker saves nothing: its machine stays), least busy (fewest jobs in hand,
    then busy for the shortest time, then the least loaded machine), another template than the
    pool's present one (or ``old`` by what it was made from), oldest. (Unhealthy workers go before
    all of these; they are not supply and never among the candidates.) Equal in all: by node id,
    so that the same view always gives the same victims.
    """
    if count <= 0:
        return []
    wish = {node_id: place for place, node_id in enumerate(preferred)}

    def order(instance: InstanceView) -> tuple[int | float | str, ...]:
        heard = signs.get(instance.node_id)
        return (
            1 if instance.state is InstanceState.RUNNING else 0,
            wish.get(instance.node_id, len(wish)),
            _busy_rank(heard),
            1 if instance.adopted else 0,
            *_business(heard),
            _load(heard),
            0 if instance.template != template or instance.node_id in old else 1,
            instance.wanted_at,
            instance.node_id,
        )

    free = [instance for instance in candidates if not instance.protected]
    return sorted(free, key=order)[:count]


def taken_back(draining: Sequence[InstanceView], count: int) -> list[InstanceView]:
    """``count`` draining workers to take back: those whose drain began last, first."""
    if count <= 0:
        return []
    return sorted(draining, key=lambda one: (-one.state_since, one.node_id))[:count]


def _busy_rank(heard: NodeSigns | None) -> int:
    """Idle before those of which nobody says anything; busy, or not known to be idle, last."""
    if heard is not None and (heard.busy or heard.busy_problem):
        return 2
    return 1 if heard is None or heard.busy is None else 0


def _business(heard: NodeSigns | None) -> tuple[int, float]:
    """Jobs in hand, and for how long (s); what a busy worker does not tell is 1 and long."""
    if heard is None or not (heard.busy or heard.busy_problem):
        return 0, 0.0
    jobs = 1 if heard.jobs is None else heard.jobs
    return jobs, heard.busy_for if heard.busy and heard.busy_for is not None else math.inf


def _load(heard: NodeSigns | None) -> float:
    """How busy, as far as figures tell; a node without figures counts as not busy."""
    load = heard.figures.get("cpu_percent", 0.0) if heard is not None else 0.0
    return load if load == load else 0.0
