"""The passive half: let the records agree with what a cloud lists. PURE.

``sync_from_observed`` takes one listing of one cloud and decides nothing; the active half
is ``steps.next_step``. Either may be run at any moment, as often as one likes, from the
stores alone: what ``Sightings`` remembers only saves a cloud from repeating itself.

"Gone" needs two witnesses, because listings lag, blink and run backwards: the listing
*and* the silence of the agent. A machine whose agent never enrolled has no second witness;
there the listing must say so for longer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agent.messages import ADOPTED_CLOUD
from coordinator.clouds.base import CloudInstance, MachineState
from coordinator.provisioner.lifecycle import (
    BOOT_FAILED,
    BOOTING,
    LAUNCHING,
    REQUESTED,
    TERMINATED,
    TERMINATING,
    Change,
    Record,
    move,
    note,
)

#: Above the consistency window, before a machine that no record knows is destroyed, s.
STRAY_MARGIN = 30.0
#: For so long, at least, is a machine not listed that nobody ever heard of again, s.
UNHEARD_PATIENCE = 60.0


@dataclass(frozen=True, kw_only=True)
class Listing:
    """One answer of one cloud. ``at``: our clock when we *began* to ask, epoch s.

    ``launch_ids`` None: all machines of our run were asked for.
    """

    at: float
    machines: tuple[CloudInstance, ...]
    launch_ids: frozenset[str] | None = None

    def covers(self, record: Record) -> bool:
        """Whether absence from this listing says anything about ``record``."""
        asked = self.launch_ids is None or record.launch_id in self.launch_ids
        asked_too_early = record.state_since > self.at or (record.called_at or 0.0) > self.at
        return asked and not asked_too_early


@dataclass(frozen=True, kw_only=True)
class Sightings:
    """Since when a record's machine is not listed, and a listed machine has no record."""

    absent_since: Mapping[str, float] = field(default_factory=dict)
    stray_since: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Synced:
    """What one listing taught. ``doomed``: cloud ids of machines that must not be.

    ``suspects``: nodes that look gone and whose agents must be asked about.
    """

    changes: tuple[Change, ...]
    sightings: Sightings
    suspects: tuple[str, ...]
    doomed: tuple[str, ...]


def sync_from_observed(
    records: Sequence[Record],
    listing: Listing,
    sightings: Sightings,
    *,
    window: float,
    known_pools: frozenset[str],
    silent: Mapping[str, bool | None],
) -> Synced:
    """Let the records agree with a listing. Decides nothing; may be repeated.

    ``records``: those of this cloud that are not final, of the launches that were asked for,
    and the final ones of machines that are listed. ``window``: the driver's consistency
    window. Machines of pools that we do not know (the boot tool's base nodes carry the same
    run) are never judged.
    """
    by_id = {record.node_id: record for record in records}
    bound: dict[str, CloudInstance] = {}
    doomed: list[str] = []
    stray_since: dict[str, float] = {}
    for machine in sorted(listing.machines, key=lambda m: (not _alive(m), m.cloud_id)):
        record = by_id.get(f"{machine.launch_id}-{machine.index}")
        if record is not None and record.cloud_id in (None, machine.cloud_id):
            first = bound.setdefault(record.node_id, machine)
            if first is machine or first.cloud_id == machine.cloud_id:
                if record.final and _alive(machine):
                    doomed.append(machine.cloud_id)
                continue
        if machine.pool not in known_pools or not _alive(machine):
            continue
        since = sightings.stray_since.get(machine.cloud_id, listing.at)
        stray_since[machine.cloud_id] = since
        if listing.at - since >= window + STRAY_MARGIN:
            doomed.append(machine.cloud_id)
    changes: list[Change] = []
    suspects: list[str] = []
    absent_since: dict[str, float] = {}
    if listing.launch_ids is not None:  # of others it says nothing
        stray_since = {**sightings.stray_since, **stray_since}
        others = sightings.absent_since.keys() - by_id.keys()
        absent_since = {node_id: sightings.absent_since[node_id] for node_id in others}
    for record in records:
        if record.final:
            continue
        machine_of = bound.get(record.node_id)
        if machine_of is not None and machine_of.state is not MachineState.GONE:
            changes.extend(_seen(record, machine_of, listing.at))
            continue
        earlier = sightings.absent_since.get(record.node_id)
        if record.state is REQUESTED or not listing.covers(record):
            if earlier is not None:
                absent_since[record.node_id] = earlier
            continue
        since = listing.at if earlier is None else earlier
        absent_since[record.node_id] = since
        said_gone = machine_of is not None
        if not _settled(record, listing.at, since, said_gone, window):
            continue
        verdict = _is_gone(record, said_gone, window, silent)
        if verdict:
            changes.append(_ended(record, machine_of, listing.at))
        elif verdict is None and record.node_id not in silent:
            suspects.append(record.node_id)
    return Synced(
        changes=tuple(changes),
        sightings=Sightings(absent_since=absent_since, stray_since=stray_since),
        suspects=tuple(suspects),
        doomed=tuple(doomed),
    )


def _alive(machine: CloudInstance) -> bool:
    return machine.state in (MachineState.PENDING, MachineState.RUNNING)


def _seen(record: Record, machine: CloudInstance, at: float) -> list[Change]:
    facts = {
        "cloud_id": machine.cloud_id,
        "addresses": machine.addresses or record.addresses,
        "price": record.price if machine.price is None else machine.price,
        "first_listed_at": record.first_listed_at or at,
    }
    if record.state is LAUNCHING:
        return [move(record, BOOTING, at, "listed by the cloud", **facts)]
    if record.state is REQUESTED:
        # A store from before the call, a machine from after it: the call was made.
        return [move(record, LAUNCHING, at, "the cloud lists it already")]
    change = note(record, **facts)
    return [change] if change else []


def _settled(record: Record, at: float, since: float, said_gone: bool, window: float) -> bool:
    """Whether the listing's word on a missing machine is old enough to be more than lag."""
    if record.state is LAUNCHING:
        return said_gone
    if said_gone and (record.enrolled_at is not None or record.state is TERMINATING):
        return True
    known_since = record.called_at or record.state_since
    if said_gone:
        return at - known_since >= window
    # Where no agent can be asked, mere absence must outlast any blink.
    lone_witness = record.state is BOOTING and record.enrolled_at is None
    patience = max(window, UNHEARD_PATIENCE) if lone_witness else window
    return at - since >= patience and at - known_since >= window


def _is_gone(
    record: Record, said_gone: bool, window: float, silent: Mapping[str, bool | None]
) -> bool | None:
    """True: gone. False: its agent still speaks. None: a second witness is needed."""
    if record.enrolled_at is None or record.state in (LAUNCHING, TERMINATING, BOOT_FAILED):
        return True
    answer = silent.get(record.node_id)
    if answer is None and said_gone and window == 0:
        # This cloud reads the world itself, and the broker agrees with it ...
        if record.presence_lost_at is not None:
            return True
        # ... or the agent, asked about, was never heard since it enrolled.
        if record.state is BOOTING and record.node_id in silent:
            return True
    return answer


def _ended(record: Record, machine: CloudInstance | None, at: float) -> Change:
    reason = "the cloud lists it no more"
    if record.cloud == ADOPTED_CLOUD:
        reason = "its agent has stopped; whether the machine runs is its owner's business"
    if record.state is not TERMINATING:
        reason = f"vanished: {reason}"
    elif record.reason:
        # Who looks at what is gone wants to know why it was ended, and by whom.
        reason = f"{record.reason}; {reason}"
    cloud_id = record.cloud_id or (machine.cloud_id if machine else None)
    # What we never asked the cloud to end is asked for once: it may keep something of it,
    # and if both witnesses were wrong, it must not come back.
    never_asked = cloud_id is not None and record.terminate_called_at is None
    again = at if never_asked else None
    return move(record, TERMINATED, at, reason, next_attempt_at=again, cloud_id=cloud_id)
