"""Ending every machine, and the proof that none is left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.messages import ADOPTED_CLOUD
from coordinator.provisioner.cloud_calls import Tools
from coordinator.provisioner.cloud_cycle import CloudCycle
from coordinator.provisioner.lifecycle import (
    DRAINING,
    Change,
    Record,
    Switches,
    note,
    torn_down,
)


def begin_teardown(tools: Tools, now: bool, drain_timeout: float | None) -> None:
    """Store that launches are disabled, then let everything drain or end. Resumable.

    The switch is stored first: what a crash leaves undone, the clouds' loops make up.
    """
    earlier = tools.records.switches()
    switches = Switches(
        enabled=False,
        stopping=True,
        at_once=now or (earlier.stopping and earlier.at_once),
        drain_timeout=drain_timeout if drain_timeout is not None else earlier.drain_timeout,
    )
    if switches != earlier:
        tools.records.set_switches(switches)
        how = "at once" if switches.at_once else "after their drains"
        tools.events.append("terminate_all", reason=f"every machine shall end, {how}")
    at = tools.clock()
    tools.commit([_ended(record, switches, at) for record in tools.records.live()])


def _ended(record: Record, switches: Switches, at: float) -> Change | None:
    change = torn_down(record, at, switches.at_once, switches.drain_timeout)
    if change is None and record.state is DRAINING and switches.drain_timeout is not None:
        sooner = min(record.drain_deadline or at, at + switches.drain_timeout)
        return note(record, drain_deadline=sooner)
    return change


def end_teardown(tools: Tools) -> None:
    """Allow launches again."""
    if tools.records.switches() != Switches():
        tools.records.set_switches(Switches())
        tools.events.append("provisioning_enabled")


def progress_of(tools: Tools, cycles: Mapping[str, CloudCycle]) -> dict[str, Any]:
    """How far a teardown is. ``done`` only when the *clouds* list none of our machines.

    That is: no record that is not final, and of every cloud a listing, begun after the last
    call to it, that would show each machine we ever asked for and shows none.
    """
    switches, now = tools.records.switches(), tools.clock()
    left = tools.records.live()
    clouds: dict[str, Any] = {
        name: {
            "listed": cycle.listed,
            "listed_age": None if cycle.listed_at is None else now - cycle.listed_at,
            "problem": cycle.calls.problem,
            # Seconds since a machine was listed first that is on no record, and since one was
            # not that is.
            "strays": _ages(cycle.sightings.stray_since, now),
            "absent": _ages(cycle.sightings.absent_since, now),
        }
        for name, cycle in cycles.items()
    }
    adopted = tools.records.adopted()
    if not adopted:
        clouds.pop(ADOPTED_CLOUD, None)  # where nobody was adopted there is no such thing
    for record in left:
        if record.cloud not in clouds:
            problem = "has machines of ours and is not configured any more"
            clouds[record.cloud] = {"listed": None, "listed_age": None, "problem": problem}
    empty = all(cycle.confirmed_empty() for cycle in cycles.values())
    return {
        "enabled": switches.enabled,
        "stopping": switches.stopping,
        "states": tools.records.count_states(),
        "clouds": clouds,
        "adopted": adopted,
        "remaining": [record.node_id for record in left],
        "done": switches.stopping and not left and empty,
    }


def _ages(since: Mapping[str, float], now: float) -> dict[str, float]:
    return {name: round(now - at, 1) for name, at in since.items()}
