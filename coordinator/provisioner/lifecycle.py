"""The states of an instance, the one table of its next states, and changes as values. PURE.

A ``Record`` is what we know of one intended machine; a ``Change`` is what shall become of
it. Changes are made by ``move`` and ``note`` from a record that was read; the store takes a
change only while the record still is in the state that was read (``records``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from agent.messages import FINAL_STATES, InstanceState
from coordinator.errors import InvalidTransition

REQUESTED = InstanceState.REQUESTED
LAUNCHING = InstanceState.LAUNCHING
BOOTING = InstanceState.BOOTING
RUNNING = InstanceState.RUNNING
BOOT_FAILED = InstanceState.BOOT_FAILED
DRAINING = InstanceState.DRAINING
TERMINATING = InstanceState.TERMINATING
TERMINATED = InstanceState.TERMINATED
LAUNCH_FAILED = InstanceState.LAUNCH_FAILED
REJECTED = InstanceState.REJECTED

NEXT_STATES: Mapping[InstanceState, frozenset[InstanceState]] = MappingProxyType(
    {
        REQUESTED: frozenset(
            {
                LAUNCHING,  # the next thing we do is call the cloud
                LAUNCH_FAILED,  # it can't even be asked: unknown cloud, template or variable
                TERMINATED,  # no longer wanted, and the cloud never heard of it
                REJECTED,  # launches are disabled: a teardown is in progress
            }
        ),
        LAUNCHING: frozenset(
            {
                BOOTING,  # first witness: the cloud lists it, or its agent enrolled
                LAUNCH_FAILED,  # refused for good, or no capacity for launch_timeout
                TERMINATING,  # no longer wanted, or never seen; a machine may yet appear
                # listed as gone before anybody saw it alive, or no longer wanted while the
                # cloud's last word was that it made nothing
                TERMINATED,
            }
        ),
        BOOTING: frozenset(
            {
                RUNNING,  # its agent verified itself and reported ready
                BOOT_FAILED,  # its agent reported a problem, or boot_timeout passed
                TERMINATING,  # no longer wanted
                TERMINATED,  # vanished
            }
        ),
        RUNNING: frozenset(
            {
                DRAINING,  # shall finish its work and take no more
                TERMINATING,  # no longer wanted, at once
                TERMINATED,  # vanished: gone from the listing and silent
            }
        ),
        DRAINING: frozenset(
            {
                RUNNING,  # the drain was cancelled: it is wanted again
                TERMINATING,  # drained, or its drain deadline passed
                TERMINATED,  # vanished
            }
        ),
        BOOT_FAILED: frozenset(
            {
                TERMINATING,  # somebody has looked at it long enough
                TERMINATED,  # the cloud lists it no more
            }
        ),
        TERMINATING: frozenset(
            {
                TERMINATED,  # the cloud agrees that it is gone
            }
        ),
        TERMINATED: frozenset(),
        LAUNCH_FAILED: frozenset(),
        REJECTED: frozenset(),
    }
)

#: In which state a record may begin.
FIRST_STATES = frozenset(
    {
        REQUESTED,  # a launch was asked for
        REJECTED,  # … while launches are disabled
        LAUNCH_FAILED,  # … on a cloud that does not exist
        TERMINATED,  # tombstone: terminated before its launch arrived
        BOOTING,  # adopted: a person booted the machine, and its agent came
    }
)


def transition(current: InstanceState | None, to: InstanceState) -> InstanceState:
    """``to``, if the table allows it after ``current`` (None: a new record).

    Raises InvalidTransition.
    """
    allowed = FIRST_STATES if current is None else NEXT_STATES[current]
    if to not in allowed:
        before = "nothing" if current is None else current.value
        raise InvalidTransition(f"an instance never goes from {before} to {to.value}")
    return to


@dataclass(frozen=True, kw_only=True)
class Record:
    """What we know of one intended machine. Times: epoch seconds, our clock.

    ``called_at`` is the last launch call of its launch. ``next_attempt_at`` is when the
    call that its state needs (launch, terminate) is due: None is now, and in a final state
    never. ``drain_deadline`` of a RUNNING record: its agent has not yet confirmed that a
    drain is cancelled. ``retryable``: the cloud was not asked since it said that it
    made nothing and may do so later: no room, or credentials that it rejects.
    ``claimed_cloud_id``: what the machine says its cloud calls it. ``start_step``: where its
    agent was in its start, ``boot_cause`` and ``boot_detail``: why it came to nothing.
    """

    node_id: str
    launch_id: str
    index: int
    pool: str
    cloud: str
    state: InstanceState
    wanted_at: float
    state_since: float
    reason: str = ""
    cloud_id: str | None = None
    addresses: tuple[str, ...] = ()
    price: float | None = None
    boot_timeout: float = 300.0
    launch_timeout: float = 300.0
    boot_deadline: float | None = None
    launch_deadline: float | None = None
    drain_deadline: float | None = None
    next_attempt_at: float | None = None
    attempts: int = 0
    called_at: float | None = None
    first_listed_at: float | None = None
    enrolled_at: float | None = None
    presence_lost_at: float | None = None
    terminate_called_at: float | None = None
    heartbeat_interval: float = 10.0
    drain_timeout: float = 300.0
    protected: bool = False
    retryable: bool = False
    claimed_cloud_id: str | None = None
    start_step: str = ""
    start_detail: str = ""
    start_step_at: float | None = None
    boot_cause: str = ""
    boot_detail: str = ""

    @property
    def final(self) -> bool:
        """Whether its life is over."""
        return self.state in FINAL_STATES


@dataclass(frozen=True, kw_only=True)
class Change:
    """What shall become of one record, if it still is in the state ``expected``.

    ``to`` None: the state stays. ``fields`` are names of Record with their new values;
    ``reason`` goes into the record and the history when the state changes.
    """

    node_id: str
    expected: InstanceState
    to: InstanceState | None = None
    reason: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Applied:
    """One state change that was stored; ``before`` None for a new record."""

    record: Record
    before: InstanceState | None


@dataclass(frozen=True, kw_only=True)
class Switches:
    """What a teardown stored. ``stopping``: end everything; ``at_once``: without draining."""

    enabled: bool = True
    stopping: bool = False
    at_once: bool = False
    drain_timeout: float | None = None


def switches_of(stored: Mapping[str, Any] | None) -> Switches:
    """The switches that were stored; all is allowed when none were."""
    return Switches(**stored) if stored else Switches()


def move(record: Record, to: InstanceState, now: float, reason: str, **fields: Any) -> Change:
    """The change to another state, with the deadlines that begin there.

    Raises InvalidTransition when the table does not have it.
    """
    transition(record.state, to)
    begins: dict[str, Any] = {"state_since": now, "next_attempt_at": None, "attempts": 0}
    if to is LAUNCHING:
        begins["launch_deadline"] = now + record.launch_timeout
    elif to is BOOTING:
        begins["boot_deadline"] = now + record.boot_timeout
        begins["retryable"] = False
    return Change(
        node_id=record.node_id,
        expected=record.state,
        to=to,
        reason=reason,
        fields={**begins, **fields},
    )


def note(record: Record, **fields: Any) -> Change | None:
    """The change of ``fields`` in the same state; None when they have these values already."""
    new = {name: value for name, value in fields.items() if getattr(record, name) != value}
    if not new:
        return None
    return Change(node_id=record.node_id, expected=record.state, fields=new)


def after(record: Record, change: Change) -> Record:
    """The record as it is when ``change`` was applied."""
    known = {name: value for name, value in change.fields.items() if hasattr(record, name)}
    if change.to is None:
        return replace(record, **known)
    return replace(record, **{**known, "state": change.to, "reason": change.reason})


def unwanted(record: Record, now: float, reason: str) -> Change | None:
    """The change that ends a record's machine now; None when that is under way or done.

    What the cloud was never asked for, or says that it did not make, ends at once; of
    everything else the cloud decides when it is gone.
    """
    if record.final or record.state is TERMINATING:
        return None
    nothing_made = record.state is REQUESTED or (record.state is LAUNCHING and record.retryable)
    to = TERMINATED if nothing_made else TERMINATING
    return move(record, to, now, reason, drain_deadline=None)


def drained_by(record: Record, now: float, drain_timeout: float, reason: str) -> Change | None:
    """The change that lets a record's node finish its work first.

    A RUNNING node has work to finish. One whose agent has enrolled may have begun to work: it
    has as long to become RUNNING, or its boot has failed. Anything else that is alive ends.
    """
    if record.state is RUNNING:
        return move(record, DRAINING, now, reason, drain_deadline=now + drain_timeout)
    if record.state is DRAINING:
        return None
    if record.state is BOOTING and record.enrolled_at is not None:
        given_up_at = now + drain_timeout
        sooner = min(given_up_at, record.boot_deadline or given_up_at)
        return note(record, boot_deadline=sooner)
    return unwanted(record, now, reason)


def torn_down(
    record: Record, now: float, at_once: bool, drain_timeout: float | None
) -> Change | None:
    """What a teardown does with a record; None when it is on its way already.

    ``drain_timeout`` None: the one of the node's role.
    """
    if at_once:
        return unwanted(record, now, "teardown, at once")
    patience = record.drain_timeout if drain_timeout is None else drain_timeout
    return drained_by(record, now, patience, "teardown")
