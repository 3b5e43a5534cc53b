"""Taking a pool out of a system: first its workers finish and go, then it is kept no more.

The other way round workers would live on that nobody keeps, and cost. May be repeated.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agent.keepers import KeeperCalls
from agent.rpc_client import CallFailed
from bootlevels.pool_gateway import NOBODY
from mgmt.answers import Call, ask
from mgmt.exit_codes import WorkersRemain
from mgmt.status import pool, reconfigure

LOOK_EVERY = 0.5


@dataclass(frozen=True)
class Clock:
    """Monotonic seconds, and waiting."""

    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def remove_pool(
    call: Call, name: str, timeout: float, say: Callable[[str], None], clock: Clock | None = None
) -> dict[str, Any]:
    """Drain all workers of a pool, wait until they are gone, then take it out.

    A component that is away for a while is waited out. Raises NotFound, CallFailed, and
    WorkersRemain when not all are gone within ``timeout`` seconds: the pool is kept then.
    """
    clock = clock or Clock()
    keepers = KeeperCalls(call)
    call = keepers.call
    deadline = clock.monotonic() + timeout
    there = pool(call, name)
    reconfigure(call, name, dict(NOBODY))
    gone = {str(one["node_id"]) for one in there.get("instances") or ()}
    said = ""
    while True:
        try:
            # In this order: a launch that was ordered and is not answered has no node yet.
            ordered = name in ask(call, keepers.keeper(name), "status")["pending_batches"]
            left = _left(call, name)
            if not left and not ordered:
                ask(call, "controller", "remove_pool", name)
                return {"name": name, "workers": sorted(gone)}
            gone |= set(left)
            line = f"{len(left)} nodes of pool {name} are left"
        except CallFailed as problem:
            line = str(problem)
        if line != said:
            say(line)
            said = line
        if clock.monotonic() >= deadline:
            raise WorkersRemain(f"{line} after {timeout:g} s; run it again to go on")
        clock.sleep(LOOK_EVERY)


def _left(call: Call, name: str) -> list[str]:
    living = ask(call, "provisioner", "live_nodes")
    return [str(node["node_id"]) for node in living if node["pool"] == name]
