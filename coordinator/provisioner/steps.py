"""The active half: what has to be done about the records now. PURE.

``next_step`` looks at records alone; the passive half, ``reconcile.sync_from_observed``,
has let them agree with the world before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from agent.messages import ADOPTED_CLOUD
from coordinator.provisioner.lifecycle import (
    BOOT_FAILED,
    BOOTING,
    DRAINING,
    LAUNCH_FAILED,
    LAUNCHING,
    REJECTED,
    REQUESTED,
    TERMINATING,
    Change,
    Record,
    move,
    note,
    unwanted,
)

#: An agent that was not heard reports again within so many seconds of hearing us again.
REPORTS_WITHIN = 30.0
#: How long a repeated call waits at most, s.
LONGEST_BACK_OFF = 60.0


@dataclass(frozen=True, kw_only=True)
class Move:
    """Store a change; nothing else is needed."""

    change: Change


@dataclass(frozen=True, kw_only=True)
class MarkBootFailed:
    """Store a change, with what the machine left behind as its explanation."""

    change: Change
    record: Record


@dataclass(frozen=True, kw_only=True)
class CallLaunch:
    """Ask the cloud for a launch: for the first time, or again with the same token."""

    launch_id: str


@dataclass(frozen=True, kw_only=True)
class CallTerminate:
    """Ask the cloud to end machines. ``node_ids`` in the order of ``cloud_ids``."""

    node_ids: tuple[str, ...]
    cloud_ids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class CallStop:
    """Tell the agents of machines to stop that their cloud calls gone."""

    node_ids: tuple[str, ...]


Action = Move | MarkBootFailed | CallLaunch | CallTerminate | CallStop


def next_step(
    records: Sequence[Record],
    now: float,
    *,
    enabled: bool,
    window: float,
    listed_at: float | None,
    accounts_away: bool = False,
    heard_since: float = -math.inf,
) -> list[Action]:
    """What has to be done about these records now: terminations first, then the rest.

    ``enabled``: whether launches are allowed. ``listed_at``: when the last full listing of
    the cloud was begun; what was never seen is given up only on a listing that would have
    shown it. ``accounts_away``: no node can get an account now, so nothing is launched for
    the first time and no boot that waits for one is given up. ``heard_since``: since when
    nodes could tell us that they are ready; a boot is given up only after that.
    """
    moves: list[Action] = []
    launches: dict[str, None] = {}
    ending: list[tuple[str, str]] = []
    stopping: list[str] = []
    for record in records:
        due = record.next_attempt_at is None or record.next_attempt_at <= now
        if _needs_stop(record, due):
            stopping.append(record.node_id)
        if record.state is REQUESTED and not enabled:
            moves.append(Move(change=move(record, REJECTED, now, "launches are disabled")))
        elif record.state is LAUNCHING and not enabled:
            ended = unwanted(record, now, "launches are disabled")
            moves += [Move(change=ended)] if ended else []
        elif accounts_away and waits_for_accounts(record):
            continue
        elif record.state is LAUNCHING and _overdue(record, now, window, listed_at):
            moves.append(Move(change=_given_up(record, now)))
        elif record.state in (REQUESTED, LAUNCHING) and due:
            launches[record.launch_id] = None
        elif record.state is BOOTING and _passed(given_up_at(record, heard_since), now):
            reason = f"not ready within boot_timeout ({record.boot_timeout:g} s)"
            change = move(record, BOOT_FAILED, now, reason)
            moves.append(MarkBootFailed(change=change, record=record))
        elif record.state is DRAINING and _passed(record.drain_deadline, now):
            reason = "not drained by its deadline"
            moves.append(Move(change=move(record, TERMINATING, now, reason, drain_deadline=None)))
        elif record.cloud_id is not None and _needs_terminate(record, due):
            ending.append((record.node_id, record.cloud_id))
    actions: list[Action] = [CallStop(node_ids=tuple(stopping))] if stopping else []
    if ending:
        nodes, machines = zip(*ending, strict=True)
        actions.append(CallTerminate(node_ids=nodes, cloud_ids=machines))
    return [*actions, *moves, *(CallLaunch(launch_id=launch_id) for launch_id in launches)]


def waits_for_accounts(record: Record) -> bool:
    """Whether a record stands still while no node can get an account.

    No machine is there yet (as far as we know), or one that has not enrolled.
    """
    if record.state is BOOTING:
        return record.enrolled_at is None
    return record.state is REQUESTED or (record.state is LAUNCHING and record.retryable)


def given_up_at(record: Record, heard_since: float) -> float | None:
    """When a boot is given up: at its deadline, or when its node could have reported.

    While nobody listened (we, the broker or the registrar were away) it may have become
    ready, and begun to work. One that has just enrolled begins now.
    """
    if record.boot_deadline is None:
        return None
    could_since = max(heard_since, record.enrolled_at or -math.inf)
    return max(record.boot_deadline, could_since + min(REPORTS_WITHIN, record.boot_timeout))


def resumed(records: Sequence[Record], since: float, now: float) -> list[Change]:
    """Put the deadlines off by the time in which no accounts could be had, ``since`` to now.

    Those of nodes too that got theirs just before we heard that there are some again.
    """
    changes: list[Change | None] = []
    for record in records:
        late = record.state is BOOTING and (record.enrolled_at or 0.0) >= since
        if not (late or waits_for_accounts(record)):
            continue
        lost = now - max(since, record.state_since)
        for name in ("boot_deadline", "launch_deadline"):
            deadline = getattr(record, name)
            if deadline is not None and lost > 0:
                changes.append(note(record, **{name: deadline + lost}))
    return [change for change in changes if change is not None]


def _needs_terminate(record: Record, due: bool) -> bool:
    if record.final:  # a zombie that somebody wants terminated again
        return due and record.next_attempt_at is not None
    return due and record.state is TERMINATING


def _needs_stop(record: Record, due: bool) -> bool:
    """Whether its cloud was asked already to end a machine that goes on, or can't be."""
    if not (record.final and due) or record.next_attempt_at is None:
        return False
    if record.cloud == ADOPTED_CLOUD:  # there, to end is to stop
        return False
    return record.cloud_id is None or record.terminate_called_at is not None


def _overdue(record: Record, now: float, window: float, listed_at: float | None) -> bool:
    if not _passed(record.launch_deadline, now):
        return False
    would_show = (record.called_at or record.state_since) + window
    return record.retryable or (listed_at is not None and listed_at > would_show)


def _given_up(record: Record, now: float) -> Change:
    if record.retryable:  # the cloud said that it made nothing
        reason = f"no capacity for {record.launch_timeout:g} s: {record.reason}"
        return move(record, LAUNCH_FAILED, now, reason, retryable=True)
    reason = f"not seen within launch_timeout ({record.launch_timeout:g} s)"
    return move(record, TERMINATING, now, reason)


def _passed(deadline: float | None, now: float) -> bool:
    return deadline is not None and deadline <= now


def back_off(attempts: int, first: float) -> float:
    """Seconds until the next repeat: ``first``, doubling, at most LONGEST_BACK_OFF or first."""
    return min(first * 2.0 ** min(attempts, 20), max(LONGEST_BACK_OFF, first))


def wake_at(
    records: Sequence[Record], accounts_away: bool = False, heard_since: float = -math.inf
) -> float | None:
    """When ``next_step`` will next have something to do if nothing else happens."""
    times: list[float] = []
    for record in records:
        if accounts_away and waits_for_accounts(record):
            continue
        times += [
            time
            for state, time in (
                (LAUNCHING, record.next_attempt_at),
                (LAUNCHING, record.launch_deadline if record.retryable else None),
                (TERMINATING, record.next_attempt_at if record.cloud_id else None),
                (BOOTING, given_up_at(record, heard_since)),
                (DRAINING, record.drain_deadline),
            )
            if record.state is state and time is not None
        ]
    return min(times, default=None)
