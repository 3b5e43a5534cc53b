"""Passive half of a cycle: let what we remember agree with what is seen. PURE.

``sync_from_observed`` goes once over a pool's records, judges each node, sorts the nodes
into the groups that the active half decides about, and builds the PoolView for the engine.
It commands nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agent.messages import (
    PENDING_STATES,
    HealthStatus,
    InstanceState,
    InstanceView,
    NodeRole,
    NodeSigns,
    SensorReport,
)
from coordinator.controller.backoff import after_failures, forgotten
from coordinator.controller.brake import within_window
from coordinator.controller.health import (
    HealthNote,
    NodeHealth,
    failure,
    judge,
    sight_of,
    still_beats,
)
from coordinator.controller.pool import PoolMemory, Replacement, changed
from coordinator.engines.base import (
    UNHEALTHY,
    Decision,
    PoolView,
    ViewedInstance,
    ViewedReading,
)
from coordinator.pool_values import PoolSpec

#: What happened, for the event log: a name and its fields (``node``, ``reason``, extras).
Happening = tuple[str, dict[str, Any]]

_FAILED = (InstanceState.BOOT_FAILED, InstanceState.LAUNCH_FAILED, InstanceState.REJECTED)
_NOTEWORTHY = UNHEALTHY | {HealthStatus.OUT_OF_CONTACT}


@dataclass
class Census:
    """A pool's instances by what can be done about them. Filled in one pass, then only read.

    ``supply``: pending, or running and not unhealthy; ``unhealthy``: running and unhealthy;
    ``machines``: records that have or will have a machine (not in a final state); ``lost``:
    nodes that vanished since the last launch was intended, so that none can replace them yet.
    """

    supply: list[InstanceView] = field(default_factory=list)
    unhealthy: list[InstanceView] = field(default_factory=list)
    boot_failed: list[InstanceView] = field(default_factory=list)
    launch_failed: list[InstanceView] = field(default_factory=list)
    draining: list[InstanceView] = field(default_factory=list)
    zombies: list[InstanceView] = field(default_factory=list)
    running: int = 0
    pending: int = 0
    terminating: int = 0
    machines: int = 0
    lost: list[str] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """How many of each, for status and explanations."""
        return {
            "supply": len(self.supply),
            "running": self.running,
            "pending": self.pending,
            "draining": len(self.draining),
            "terminating": self.terminating,
            "unhealthy": len(self.unhealthy),
            "boot_failed": len(self.boot_failed),
            "zombies": len(self.zombies),
            "machines": self.machines,
        }


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What a cycle starts its decision from.

    ``pings``: nodes to ask once for a sign of life; ``events``: what changed in our eyes.
    """

    view: PoolView
    census: Census
    health: dict[str, NodeHealth]
    memory: PoolMemory
    events: tuple[Happening, ...]
    pings: tuple[str, ...]
    signs: Mapping[str, NodeSigns]


def sync_from_observed(
    spec: PoolSpec,
    instances: Mapping[str, InstanceView],
    version: int,
    report: SensorReport | None,
    memory: PoolMemory,
    *,
    now: float,
    poll_interval: float,
) -> Observed:
    """Judge every node, count, and bring ``memory`` up to what records and signs say.

    Looks, notes and reports; decides nothing and commands nothing. Without a report nobody
    is silent and there are no readings; what the records say still counts.
    """
    signs: Mapping[str, NodeSigns] = report.nodes if report is not None else {}
    sight = sight_of(report)
    settings, role, notes = spec.health, spec.role, memory.health
    census = Census()
    viewed: list[ViewedInstance] = []
    health: dict[str, NodeHealth] = {}
    kept_notes: dict[str, HealthNote] = {}
    events: list[Happening] = []
    pings: list[str] = []
    pending: set[str] = set()
    failed: list[InstanceView] = []
    counted: set[str] = set()
    vanished: list[InstanceView] = []
    newest_wanted = 0.0
    for node_id, instance in instances.items():
        state = instance.state
        newest_wanted = max(newest_wanted, instance.wanted_at)
        if _has_failed(instance, memory) and not instance.adopted:
            counted.add(node_id)
            if node_id not in memory.counted:
                failed.append(instance)
        if state is InstanceState.TERMINATED:
            if _has_vanished(instance):
                vanished.append(instance)
            if node_id not in signs:
                continue
        if state in (InstanceState.LAUNCH_FAILED, InstanceState.REJECTED):
            census.launch_failed.append(instance)
            continue
        own_signs = signs.get(node_id)
        note = notes.get(node_id)
        judged = judge(instance, own_signs, sight, settings, role, note, now)
        if state is InstanceState.TERMINATED and judged.status is not HealthStatus.ZOMBIE:
            continue
        health[node_id] = judged
        if instance.adopted and state is InstanceState.BOOTING:
            continue  # nobody launched it for a place: it counts once it is RUNNING
        if judged.note is not None:
            kept_notes[node_id] = judged.note
            if judged.note is not note:
                _note_change(node_id, note, judged, events, pings)
        if _sort_in(instance, judged, census):
            pending.add(node_id)
        viewed.append(
            ViewedInstance(
                node_id=node_id,
                state=state,
                health=judged.status,
                busy=own_signs.busy if own_signs is not None else None,
                busy_problem=own_signs.busy_problem if own_signs is not None else "",
                age=now - instance.wanted_at,
                unique_id=instance.unique_id,
                protected=instance.protected,
                template=instance.template,
                figures=own_signs.figures if own_signs is not None else {},
                figure_ages=own_signs.figure_ages if own_signs is not None else {},
                heard_age=own_signs.heard_age if own_signs is not None else None,
                price=instance.price,
            )
        )
    census.lost += [one.node_id for one in vanished if one.state_since > newest_wanted]
    rogues = _rogues(signs, instances, role)
    events.extend(
        ("rogue_node", {"node": node_id, "reason": "it beats, and no record knows it"})
        for node_id in sorted(rogues - memory.rogues)
    )
    unhealthy = within_window(memory.unhealthy, now)
    unhealthy.update((instance.node_id, now) for instance in census.unhealthy)
    backoff = after_failures(forgotten(memory.backoff, now), failed, newest_wanted, now)
    if backoff.waves > memory.backoff.waves and backoff.seconds_left(now) > 0:
        fields = {"reason": backoff.reason, "until": backoff.until, "failures": backoff.failures}
        events.append(("backoff", fields))
    synced = changed(
        memory,
        began=now if memory.began is None else memory.began,
        health=kept_notes,
        unhealthy=unhealthy,
        condemned=_still_condemned(memory, instances, health),
        replacements=_still_replacing(memory, instances, version),
        backoff=backoff,
        counted=frozenset(counted),
        pending=frozenset(pending),
        zombies={
            z.node_id: memory.zombies[z.node_id]
            for z in census.zombies
            if z.node_id in memory.zombies
        },
        rogues=rogues,
        ready_once=memory.ready_once or census.running > 0,
    )
    view = PoolView(
        pool=spec.name,
        now=now,
        instances=tuple(viewed),
        readings=_readings(report),
        poll_interval=poll_interval,
        heartbeat_interval=spec.role.heartbeat_interval,
        settings=spec.engine_settings,
        previous=previous_decision(synced, spec),
    )
    return Observed(
        view=view,
        census=census,
        health=health,
        memory=synced,
        events=tuple(events),
        pings=tuple(pings),
        signs=signs,
    )


def previous_decision(memory: PoolMemory, spec: PoolSpec) -> Decision | None:
    """The last decision as its engine sees it again: its size is the one after all bounds.

    Another engine's memory is not shown to this one.
    """
    if memory.wanted is None:
        return None
    same = memory.engine == spec.engine_type
    return Decision(
        size=memory.wanted,
        reason=memory.reason,
        memory=memory.engine_memory if same else {},
        seen=memory.engine_seen if same else {},
    )


def _sort_in(instance: InstanceView, judged: NodeHealth, census: Census) -> bool:
    """Put one instance into its groups; True when it is pending."""
    state = instance.state
    if state is InstanceState.TERMINATED:
        census.zombies.append(instance)
        return False
    census.machines += 1
    if state is InstanceState.RUNNING:
        census.running += 1
        (census.unhealthy if judged.is_unhealthy else census.supply).append(instance)
    elif state in PENDING_STATES:
        census.pending += 1
        census.supply.append(instance)
        return True
    elif state is InstanceState.DRAINING:
        census.draining.append(instance)
    elif state is InstanceState.BOOT_FAILED:
        census.boot_failed.append(instance)
    else:
        census.terminating += 1
    return False


def _has_failed(instance: InstanceView, memory: PoolMemory) -> bool:
    """Whether back-off counts this node: refused, not booted, or gone before it ever ran."""
    if instance.state in _FAILED or instance.node_id in memory.counted:
        return True
    return (
        instance.state is InstanceState.TERMINATED
        and instance.node_id in memory.pending
        and _has_vanished(instance)
    )


def _has_vanished(instance: InstanceView) -> bool:
    """Whether a machine that is gone went without having been asked to (see ``reconcile``)."""
    return instance.reason.startswith("vanished") and not instance.adopted


def _note_change(
    node_id: str,
    before: HealthNote | None,
    judged: NodeHealth,
    events: list[Happening],
    pings: list[str],
) -> None:
    """An event when a node's health became, or was, something to worry about; a ping once.

    A program that fails after another one, or otherwise, is an event of its own.
    """
    was = before.status if before is not None else HealthStatus.UNKNOWN
    status = judged.note.status if judged.note is not None else judged.status
    fault = judged.note.fault if judged.note is not None else ""
    if was is status and (not fault or (before is not None and before.fault == fault)):
        return
    if status is HealthStatus.OUT_OF_CONTACT:
        pings.append(node_id)
    if status in _NOTEWORTHY or was in _NOTEWORTHY:
        fields: dict[str, Any] = {
            "node": node_id,
            "reason": judged.reason or "heard again",
            "health": status.value,
            "was": was.value,
        }
        if judged.failed:
            fields["programs"] = [failure(one) for one in judged.failed]
        events.append(("node_health", fields))


def _rogues(
    signs: Mapping[str, NodeSigns], instances: Mapping[str, InstanceView], role: NodeRole
) -> frozenset[str]:
    """Nodes that beat in this pool's name, now, and that no record knows.

    The sensors service remembers a node longer than its record is kept: one that is simply
    gone is no rogue.
    """
    return frozenset(
        node_id
        for node_id, heard in signs.items()
        if node_id not in instances and still_beats(heard, role)
    )


def _readings(report: SensorReport | None) -> dict[str, ViewedReading]:
    if report is None:
        return {}
    return {
        name: ViewedReading(value=reading.value, age=reading.age, sample=reading.sample)
        for name, reading in report.readings.items()
    }


def _still_condemned(
    memory: PoolMemory, instances: Mapping[str, InstanceView], health: Mapping[str, NodeHealth]
) -> frozenset[str]:
    """Condemned nodes that still drain, or (their drain not applied yet) are unhealthy."""
    if not memory.condemned:
        return memory.condemned
    return frozenset(
        node_id
        for node_id in memory.condemned
        if node_id in instances
        and (
            instances[node_id].state is InstanceState.DRAINING
            or (node_id in health and health[node_id].is_unhealthy)
        )
    )


def _still_replacing(
    memory: PoolMemory, instances: Mapping[str, InstanceView], version: int
) -> dict[str, Replacement]:
    """Replacement launches with machines that do not run yet, and how many those are."""
    if not memory.replacements:
        return memory.replacements
    on_the_way: dict[str, int] = {}
    known: set[str] = set()
    for instance in instances.values():
        if instance.launch_id in memory.replacements:
            known.add(instance.launch_id)
            if instance.state in PENDING_STATES:
                on_the_way[instance.launch_id] = on_the_way.get(instance.launch_id, 0) + 1
    result: dict[str, Replacement] = {}
    for launch_id, one in memory.replacements.items():
        if launch_id in known:
            if on_the_way.get(launch_id):
                result[launch_id] = replace(one, count=on_the_way[launch_id])
        elif version <= one.based_on:
            result[launch_id] = one  # its batch is not answered yet, or the snapshot is old
    return result
