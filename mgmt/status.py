"""What there is and how it is, composed from what the components answer.

Plain functions over a ``Call``: the ``management`` service offers them by RPC, tests feed
them dicts. A component that does not answer is named under ``missing``; what it would have
told is left out, never invented.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from agent.keeper_names import controllers, is_controller
from agent.messages import FINAL_STATES, InstanceView, PoolSnapshot
from agent.wire import from_wire
from coordinator.errors import ConfigProblem, NotFound, Problem, did_you_mean
from mgmt.answers import SINGLE_TIMEOUT, Call, ask, gather
from mgmt.keepers import (
    components,
    dedicated_pools,
    every_pool,
    may_be_absent,
    pools_of,
)
from mgmt.output import age_text

#: Engines whose size a person sets, by every name they go by.
SIZED_BY_HAND = frozenset({"n_preserving", "npreserving"})


def system_status(call: Call) -> dict[str, Any]:
    """The whole system in one answer; ``problems`` is empty when all is well."""
    dedicated = dedicated_pools(call)
    there = components(dedicated)
    seen = gather(
        call,
        [
            ("provisioner", "progress", ()),
            *((name, "pools", (False,)) for name in there if is_controller(name)),
            *((name, "status", ()) for name in there),
        ],
        may_be_absent=may_be_absent(dedicated),
    )
    pools = pools_of(seen, dedicated)
    progress: dict[str, Any] = seen.answers.get("provisioner.progress") or {}
    return {
        "components": {
            name: seen.answers[f"{name}.status"] or {}
            for name in there
            if f"{name}.status" in seen.answers
        },
        "missing": seen.missing,
        "pools": pools,
        "progress": progress,
        "problems": problems_of(pools, progress, seen.missing),
    }


def problems_of(
    pools: Iterable[Mapping[str, Any]], progress: Mapping[str, Any], missing: Mapping[str, str]
) -> list[str]:
    """What a person should look at, one sentence each."""
    return [
        *(f"{name} does not answer: {why}" for name, why in sorted(missing.items())),
        *(
            f"pool {pool['name']} is {pool['state']}: {pool.get('reason', '')}"
            for pool in pools
            if pool.get("state") in ("HELD", "FAILED")
        ),
        *(
            f"pool {pool['name']}: {failing['count']} launches or boots failed, the last "
            f"{age_text(failing['last_age'])} ago: {failing['last']}"
            for pool in pools
            if (failing := pool.get("failing") or {}).get("count", 0) > 1
        ),
        *(
            [f"{away['reason']}: launches hold and boot_timeout stands still"]
            if (away := progress.get("accounts_away"))
            else []
        ),
        *(
            f"cloud {name}: {cloud['problem']}"
            for name, cloud in sorted((progress.get("clouds") or {}).items())
            if cloud.get("problem")
        ),
    ]


def pools(call: Call) -> dict[str, Any]:
    """Every pool, sorted by name; ``missing`` names controllers that did not answer."""
    found = every_pool(call)
    rows = sorted(found.pools, key=lambda pool: str(pool["name"]))
    return {"pools": rows, "missing": found.missing}


def pool_names(call: Call) -> list[str]:
    """Of every pool."""
    return every_pool(call).names


def pool(call: Call, name: str) -> dict[str, Any]:
    """One pool with its instances. Raises NotFound with the nearest name."""
    try:
        return dict(ask(call, "controller", "pool", name))
    except NotFound:
        raise no_such_pool(name, pool_names(call)) from None


def no_such_pool(name: str, known: Iterable[str]) -> NotFound:
    """The error for a pool that is not there, with what might have been meant."""
    hint = did_you_mean(name, known)
    return NotFound(f"no pool '{name}'" + (f"; {hint}" if hint else ": there are no pools"))


def change_size(call: Call, name: str, size: int) -> dict[str, Any]:
    """Set N of a pool that keeps N; the pool after it.

    Raises NotFound, and ConfigProblem for a pool that another engine sizes or whose
    bounds would not let N be reached.
    """
    there = pool(call, name)
    engine = str(there.get("engine", {}).get("type", ""))
    if engine not in SIZED_BY_HAND:
        remedy = f"use: epu pool reconfigure {name} min=A max=B"
        what = f"its size is decided by the engine {engine}, not set by hand"
        raise ConfigProblem([Problem(where=f"pool {name}", what=what, remedy=remedy)])
    low, high = int(there.get("min", 0)), int(there.get("max", size))
    if not low <= size <= high:
        what = f"N must be between min {low} and max {high}, not {size}"
        remedy = f"to change the bounds: epu pool reconfigure {name} min=A max=B"
        raise ConfigProblem([Problem(where=f"pool {name}", what=what, remedy=remedy)])
    return reconfigure(call, name, {"engine.preserve_n": size})


def reconfigure(call: Call, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Set dotted keys of a pool; the pool after it. Raises NotFound, ConfigProblem."""
    try:
        return dict(ask(call, "controller", "reconfigure", name, dict(changes)))
    except NotFound:
        raise no_such_pool(name, pool_names(call)) from None


def resume(call: Call, name: str) -> dict[str, Any]:
    """End a pool's hold and its brake's MELTDOWN; the pool after it. Raises NotFound."""
    try:
        return dict(ask(call, "controller", "resume", name))
    except NotFound:
        raise no_such_pool(name, pool_names(call)) from None


def rollout(call: Call, name: str, action: str, max_surge: int | None) -> dict[str, Any]:
    """Start or stop a pool's rollout; the pool after it. Raises NotFound, ConfigProblem."""
    try:
        return dict(ask(call, "controller", "rollout", name, action, max_surge))
    except NotFound:
        raise no_such_pool(name, pool_names(call)) from None


def add_pool(call: Call, name: str, section: Mapping[str, Any]) -> dict[str, Any]:
    """Add a pool; ``{"added": False}`` when it was there with the same section."""
    return dict(ask(call, "controller", "add_pool", name, dict(section)))


def nodes(call: Call, pool_name: str | None = None, every: bool = False) -> dict[str, Any]:
    """Every living node (``every``: the ended ones too) with its state, health and reason.

    The provisioner's record is the node; the controller adds health and busy, and both are
    None when it does not answer. Raises NotFound for an unknown pool, and CallFailed when
    the provisioner does not answer.
    """
    dedicated = dedicated_pools(call)
    questions = [(keeper, "pools", ()) for keeper in controllers(dedicated)]
    judged = gather(call, questions, may_be_absent=may_be_absent(dedicated))
    pools_known = pools_of(judged, dedicated)
    names = {str(each["name"]) for each in pools_known}
    if pool_name is None or pool_name not in names:
        # Nodes may outlive their pool, and the controller may be away.
        living = ask(call, "provisioner", "live_nodes", timeout=SINGLE_TIMEOUT / 2)
        names |= {str(node["pool"]) for node in living}
    if pool_name is not None and pool_name not in names:
        raise no_such_pool(pool_name, names)
    wanted = [pool_name] if pool_name is not None else sorted(names)
    since = dict.fromkeys(wanted, 0)
    snapshots = ask(call, "provisioner", "snapshots", since, timeout=SINGLE_TIMEOUT / 2)
    judgements = {
        str(instance["node_id"]): instance
        for each in pools_known
        for instance in each.get("instances", ())
    }
    rows = [
        node_row(instance, snapshot.now, judgements.get(instance.node_id, {}))
        for snapshot in (from_wire(PoolSnapshot, snapshots[name]) for name in wanted)
        for instance in snapshot.instances
        if every or instance.state not in FINAL_STATES
    ]
    return {"nodes": rows, "missing": judged.missing}


def node_row(instance: InstanceView, now: float, judged: Mapping[str, Any]) -> dict[str, Any]:
    """One node for a list of nodes. Ages are seconds on the provisioner's clock."""
    return {
        "node_id": instance.node_id,
        "pool": instance.pool,
        "state": instance.state.value,
        "state_age": round(max(now - instance.state_since, 0.0), 3),
        "age": round(max(now - instance.wanted_at, 0.0), 3),
        "health": judged.get("health"),
        "busy": judged.get("busy"),
        "cloud": instance.cloud,
        "cloud_id": instance.cloud_id,
        "addresses": list(instance.addresses),
        "template": instance.template,
        "unique_id": instance.unique_id,
        "price": instance.price,
        "protected": instance.protected,
        "reason": instance.reason,
    }
