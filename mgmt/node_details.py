"""One node for a person who asks what is the matter with it. Plain functions over a ``Call``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.keeper_names import sensors_name
from coordinator.errors import NotFound, did_you_mean
from mgmt.answers import SINGLE_TIMEOUT, Call, ask, gather
from mgmt.keepers import dedicated_pools

#: Of such a node the reason is its state's.
_CALM = (None, "OK", "UNKNOWN")


def node(call: Call, node_id: str) -> dict[str, Any]:
    """All that is known of one node, health included. Raises NotFound with the nearest id."""
    try:
        found: dict[str, Any] = ask(call, "provisioner", "node", node_id)
    except NotFound:
        raise unknown_node(call, node_id) from None
    seen = gather(call, [("controller", "pool", (found["pool"],))])
    pool: dict[str, Any] = seen.answers.get("controller.pool") or {}
    instances = pool.get("instances") or ()
    judged: Mapping[str, Any] = next((one for one in instances if one["node_id"] == node_id), {})
    signs = _signs(call, node_id, found["pool"])
    return {
        **found,
        "figures": signs.get("figures") or {},
        "figure_ages": signs.get("figure_ages") or {},
        "sensor_problems": signs.get("sensor_problems") or {},
        "heard_age": signs.get("heard_age"),
        "health": judged.get("health"),
        **{key: judged.get(key) for key in ("busy", "busy_for", "busy_problem", "jobs")},
        "health_reason": judged.get("reason") if judged.get("health") not in _CALM else None,
        "failed_programs": judged.get("failed_programs") or [],
        "kept_until": judged.get("kept_until"),
        "missing": seen.missing,
    }


def order_node(
    call: Call, node_id: str, order: str, who: str, reason: str, drain_timeout: float | None
) -> dict[str, Any]:
    """Have the provisioner carry out a person's order; see its ``order_node``."""
    words = (node_id, order, who, reason, drain_timeout)
    try:
        return dict(ask(call, "provisioner", "order_node", *words))
    except NotFound:
        raise unknown_node(call, node_id) from None


def unknown_node(call: Call, node_id: str, timeout: float = SINGLE_TIMEOUT) -> NotFound:
    """That there is no such node, with the nearest id that there is."""
    living = ask(call, "provisioner", "live_nodes", timeout=timeout)
    hint = did_you_mean(node_id, [str(one["node_id"]) for one in living][:200])
    return NotFound(f"no node '{node_id}'" + (f"; {hint}" if hint else ""))


def _signs(call: Call, node_id: str, pool: str) -> Mapping[str, Any]:
    """What the node last said of itself; nothing where nobody can be asked."""
    sensors = sensors_name(pool if pool in dedicated_pools(call) else "")
    seen = gather(call, [(sensors, "witness", ([node_id],))])
    nodes: Mapping[str, Any] = (seen.answers.get(f"{sensors}.witness") or {}).get("nodes") or {}
    found: Mapping[str, Any] = nodes.get(node_id) or {}
    return found
