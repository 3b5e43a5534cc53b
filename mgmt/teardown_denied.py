"""Machines that their clouds deny, in a teardown: told to stop, waited for, written down.

No cloud lists them, so no proof that nothing is left can speak of them; their agents may go on
with work, and the broker that they speak to is about to be ended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from agent.rpc_client import CallFailed
from coordinator.errors import EpuError
from mgmt.answers import Call, ask
from mgmt.teardown_record import DeniedMachine, denied_text

#: The provisioner has so long to ask everybody, s: an agent that hangs takes three.
_WITHIN = 10.0
#: Between two questions, and for what an agent that ends at once needs, s.
_PAUSE, _AT_ONCE = 1.0, 5.0


@dataclass(frozen=True, kw_only=True)
class Told:
    """Who was told to stop; ``problem``: why nobody can say whether there are any (more)."""

    machines: tuple[DeniedMachine, ...] = ()
    problem: str = ""

    def __str__(self) -> str:
        parts = [denied_text(self.machines)] if self.machines else []
        if self.problem:
            parts.append(f"whether any machine speaks that its cloud denies: {self.problem}")
        return "; ".join(parts) or "no machine speaks that its cloud denies"


def tell_denied(call: Call) -> tuple[Told, float]:
    """Tell them once; who was there, and for how long, s, the slowest may take to end."""
    try:
        answers = ask(call, "provisioner", "stop_denied", timeout=_WITHIN)
        there = tuple(_machine(one) for one in answers)
        return Told(machines=there), max((float(x["drain_timeout"]) for x in answers), default=0.0)
    except (CallFailed, EpuError, KeyError, TypeError, ValueError) as problem:
        return Told(problem=f"not known ({problem})"), 0.0


def see_denied_off(
    call: Call,
    earlier: tuple[DeniedMachine, ...],
    now: bool,
    deadline: float,
    monotonic: Callable[[], float],
    sleep: Callable[[float], None],
) -> Told:
    """Tell them until none answers, or for as long as a drain may take; what came of it.

    ``earlier``: who was told before. ``now``: jobs in hand are waited for no longer.
    """
    began = monotonic()
    known = {one.node_id: one for one in earlier}
    while True:
        told, patience = tell_denied(call)
        if told.problem:
            return replace(told, machines=tuple(known.values()))
        there = {one.node_id: one for one in told.machines}
        known = {
            node_id: there.get(node_id) or replace(one, silent=True)
            for node_id, one in {**known, **there}.items()
        }
        end = min(deadline, began + (_AT_ONCE if now else patience + _AT_ONCE))
        if not there or monotonic() >= end:
            return Told(machines=tuple(known.values()))
        sleep(_PAUSE)


def _machine(told: dict[str, Any]) -> DeniedMachine:
    cloud_id = told.get("cloud_id")
    return DeniedMachine(
        node_id=str(told["node_id"]),
        cloud=str(told["cloud"]),
        cloud_id=None if cloud_id is None else str(cloud_id),
    )
