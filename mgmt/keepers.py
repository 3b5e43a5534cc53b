"""Every controller and sensors service of a system, and what all controllers answer together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.keeper_names import CONTROLLER, SENSORS, controllers, sensors_name
from agent.keepers import TABLE_WITHIN
from agent.rpc_client import CallFailed
from coordinator.errors import EpuError
from mgmt.answers import Call, Gathered, ask, gather

#: Nobody serves these names where every pool has a controller of its own.
SHARED = (CONTROLLER, SENSORS)


def dedicated_pools(call: Call) -> tuple[str, ...]:
    """The pools with a controller of their own; none while the provisioner does not answer."""
    try:
        told = ask(call, "provisioner", "keepers", timeout=TABLE_WITHIN)
    except (CallFailed, EpuError):
        return ()
    return tuple(sorted(map(str, told)))


def components(dedicated: Sequence[str] = ()) -> tuple[str, ...]:
    """The names of all services of a coordinator but ``management``."""
    sensors = (SENSORS, *map(sensors_name, sorted(dedicated)))
    return ("provisioner", *controllers(dedicated), *sensors, "registrar")


def may_be_absent(dedicated: Sequence[str]) -> tuple[str, ...]:
    """Services that are not missed when nobody serves their name."""
    return SHARED if dedicated else ()


@dataclass(frozen=True)
class EveryPool:
    """The pools as their controllers tell, and the silent controllers, each with a reason."""

    pools: list[dict[str, Any]] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return [str(pool["name"]) for pool in self.pools]


def pools_of(seen: Gathered, dedicated: Sequence[str]) -> list[dict[str, Any]]:
    """All pools out of the answers to ``pools``; a pool's own controller knows best."""
    found: dict[str, dict[str, Any]] = {}
    for name in controllers(dedicated):
        for pool in seen.answers.get(f"{name}.pools") or []:
            found[str(pool["name"])] = dict(pool)
    return list(found.values())


def every_pool(call: Call) -> EveryPool:
    """Ask all controllers for their pools, without instances.

    Raises what ``ask`` raises when none answers.
    """
    dedicated = dedicated_pools(call)
    if not dedicated:
        return EveryPool([dict(pool) for pool in ask(call, CONTROLLER, "pools", False)])
    questions = [(name, "pools", (False,)) for name in controllers(dedicated)]
    seen = gather(call, questions, may_be_absent=SHARED)
    if not seen.answers:
        name, why = next(iter(seen.missing.items()), (CONTROLLER, "nobody serves that name"))
        raise EpuError(f"no controller answers ({name}: {why})")
    return EveryPool(pools_of(seen, dedicated), seen.missing)
