"""Who of a pool holds which of its places: the plain ones and the unique ids. PURE."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agent.messages import InstanceState, InstanceView
from coordinator.controller.decision import BoundedDecision
from coordinator.controller.view import Observed


@dataclass(frozen=True, kw_only=True)
class Places:
    """Who holds which place: one per wanted unique id, ``plain_target`` plain ones.

    ``retired``: healthy workers whose unique id is wanted no more, or held twice.
    """

    ids: Mapping[str, Mapping[str, str]]
    plain_target: int
    plain: list[InstanceView]
    holders: dict[str, InstanceView]
    retired: list[InstanceView]


def places_of(
    observed: Observed, decision: BoundedDecision, moving: frozenset[str], extra: int = 0
) -> Places:
    """Sort the supply into plain workers, holders of wanted ids, and retired ones.

    Those that move to another cloud, or go in a rollout, hold no place here; ``extra`` are
    the plain places that a rollout has beyond the decided size.
    """
    # A tighter bound than the engine's wish leaves room for fewer ids; the first ones stay.
    names = sorted(decision.wish.unique_ids)[: decision.size]
    ids = {name: decision.wish.unique_ids[name] for name in names}
    plain: list[InstanceView] = []
    retired: list[InstanceView] = []
    holders: dict[str, InstanceView] = {}
    for one in observed.census.supply:
        if one.node_id in moving:
            continue
        if one.unique_id is None or (decision.wish.held and one.unique_id not in ids):
            plain.append(one)  # while the engine holds, nobody is retired
        elif one.unique_id not in ids:
            retired.append(one)
        elif one.unique_id not in holders:
            holders[one.unique_id] = one
        else:
            first = holders[one.unique_id]
            running = one.state is InstanceState.RUNNING
            if running and first.state is not InstanceState.RUNNING:
                holders[one.unique_id], one = one, first
            retired.append(one)
    return Places(
        ids=ids,
        plain_target=decision.size - len(ids) + extra,
        plain=plain,
        holders=holders,
        retired=retired,
    )


def hole_in(places: Places, unhealthy: Iterable[InstanceView]) -> int:
    """Places that nobody holds, the unhealthy counted as holding theirs."""
    held = set(places.holders)
    plain = len(places.plain)
    for one in unhealthy:
        if one.unique_id is None:
            plain += 1
        else:
            held.add(one.unique_id)
    ids = sum(1 for name in places.ids if name not in held)
    return ids + max(0, places.plain_target - plain)
