"""Which of a pool's ordered clouds its launches go to, and what moves away from one. PURE.

A cloud is *closed* for a pool while there is evidence against it: it has no room for this
pool's machines, it rejects our credentials, or it does not answer. After the last evidence
it stays closed for a while that doubles with each closing, so that a pool does not flap;
a machine that comes up there opens it for good. The first open cloud takes all launches.

What waits on a closed cloud moves when another is open: the intent is ended in the same
batch in which its place is launched elsewhere, and the provisioner refuses that batch when
the cloud was asked again meanwhile. So no intent is ever asked for on two clouds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from agent.messages import CloudStatus, InstanceState, InstanceView
from coordinator.pool_values import PoolSpec

#: For how long a cloud stays closed after the last evidence, s; doubling with each closing.
FIRST_CLOSED = 60.0
LONGEST_CLOSED = 1800.0
#: A cloud that is open for so long without a new closing begins anew, s.
FORGET_AFTER = 3 * 3600.0
#: A cloud that answers nothing for so long can't be used, s.
SILENT_AFTER = 30.0
#: An intent whose call has an unknown outcome waits so long for its machine to show, s.
UNKNOWN_PATIENCE = 60.0


@dataclass(frozen=True, kw_only=True)
class CloudNote:
    """Why and until when a cloud is closed for a pool; ``closings`` it had. Epoch seconds."""

    closings: int
    closed_at: float
    until: float
    reason: str

    def seconds_left(self, now: float) -> float:
        """For how long it stays closed, 0 when it is open."""
        # The second bound keeps a clock that jumped back from closing it for years.
        return min(max(0.0, self.until - now), LONGEST_CLOSED)

    def to_list(self) -> list[Any]:
        """Plain JSON values."""
        return [self.closings, self.closed_at, self.until, self.reason]

    @classmethod
    def from_list(cls, data: Sequence[Any]) -> CloudNote:
        """The reverse of ``to_list``."""
        closings, closed_at, until, reason = data
        return cls(
            closings=int(closings),
            closed_at=float(closed_at),
            until=float(until),
            reason=str(reason),
        )


@dataclass(frozen=True, kw_only=True)
class CloudChoice:
    """Where launches go now. ``reason`` is empty for a pool's first cloud when it is open.

    ``closed``: cloud → why. ``moves``: intents to be ended here and launched on ``cloud``;
    of ``uncertain`` ones nobody knows whether a machine was made.
    """

    cloud: str
    reason: str = ""
    batch_limit: int = CloudStatus.batch_limit
    closed: Mapping[str, str] = field(default_factory=dict)
    seconds_left: Mapping[str, float] = field(default_factory=dict)
    moves: tuple[InstanceView, ...] = ()
    uncertain: tuple[InstanceView, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether the chosen cloud takes launches, as far as we know."""
        return self.cloud not in self.closed

    def explanation(self) -> dict[str, Any]:
        """Plain JSON values for ``epu explain``."""
        return {
            "chosen": self.cloud,
            "reason": self.reason,
            "closed": {
                cloud: {"reason": reason, "seconds_left": self.seconds_left[cloud]}
                for cloud, reason in self.closed.items()
            },
        }


def noted_clouds(
    spec: PoolSpec,
    instances: Iterable[InstanceView],
    statuses: Mapping[str, CloudStatus],
    notes: Mapping[str, CloudNote],
    now: float,
) -> dict[str, CloudNote]:
    """Passive: the notes of a pool's clouds, brought up to what is seen. One cloud: none."""
    if len(spec.clouds) < 2:
        return {}
    full: dict[str, str] = {}
    newest: dict[str, float] = {}
    for one in instances:
        if one.state is InstanceState.LAUNCHING and one.retryable:
            full.setdefault(one.cloud, one.reason)
        elif one.state in (InstanceState.BOOTING, InstanceState.RUNNING):
            newest[one.cloud] = max(newest.get(one.cloud, 0.0), one.wanted_at)
    found: dict[str, CloudNote] = {}
    for cloud in spec.clouds:
        note = notes.get(cloud)
        evidence = _away(statuses.get(cloud)) or full.get(cloud, "")
        if evidence:
            found[cloud] = _closed(note, evidence, now)
        elif note is not None and not _proven(note, newest.get(cloud, 0.0), now):
            found[cloud] = note
    return found


def choose_cloud(
    spec: PoolSpec,
    supply: Iterable[InstanceView],
    statuses: Mapping[str, CloudStatus],
    notes: Mapping[str, CloudNote],
    default_cloud: str,
    now: float,
) -> CloudChoice:
    """Active: the first open cloud, or, with none open, the one that opens first."""
    clouds = spec.clouds or (default_cloud,)
    left = {cloud: notes[cloud].seconds_left(now) for cloud in clouds if cloud in notes}
    closed = {cloud: notes[cloud].reason for cloud, seconds in left.items() if seconds > 0}
    chosen = next((cloud for cloud in clouds if cloud not in closed), None)
    if chosen is None:
        chosen = min(clouds, key=lambda cloud: left[cloud])
        reason = "every cloud of the pool is closed: " + _said(closed)
    else:
        before = {c: closed[c] for c in clouds[: clouds.index(chosen)]}
        reason = f"instead of {_said(before)}" if before else ""
    choice = CloudChoice(
        cloud=chosen,
        reason=reason,
        batch_limit=statuses.get(chosen, CloudStatus()).batch_limit,
        closed=closed,
        seconds_left={cloud: left[cloud] for cloud in closed},
    )
    if not closed or not choice.is_open:
        return choice
    moves, uncertain = [], []
    for one in supply:
        if one.cloud not in closed:
            continue
        launching = one.state is InstanceState.LAUNCHING
        if one.state is InstanceState.REQUESTED or (launching and one.retryable):
            moves.append(one)
        elif (
            launching
            and _away(statuses.get(one.cloud))
            and now - one.state_since >= UNKNOWN_PATIENCE
        ):
            uncertain.append(one)
    return replace(choice, moves=tuple(moves), uncertain=tuple(uncertain))


def _proven(note: CloudNote, newest: float, now: float) -> bool:
    """Whether a note is obsolete: a machine came up there since, or it was long ago."""
    return newest > note.closed_at or now - note.until >= FORGET_AFTER


def _away(status: CloudStatus | None) -> str:
    """Why a cloud can't be used by anybody, empty when it can."""
    if status is None:
        return ""
    if status.rejected_for > 0:
        return status.problem or "credentials rejected"
    if status.silent_for >= SILENT_AFTER:
        return f"it does not answer: {status.problem}" if status.problem else "it does not answer"
    return ""


def _closed(note: CloudNote | None, reason: str, now: float) -> CloudNote:
    """The note with fresh evidence; the same object while that changes nothing that matters."""
    if note is None or note.seconds_left(now) <= 0:
        closings = 1 if note is None else note.closings + 1
        return CloudNote(
            closings=closings, closed_at=now, until=now + _delay(closings), reason=reason
        )
    delay = _delay(note.closings)
    if note.seconds_left(now) > delay / 2 and note.reason == reason:
        return note  # stored memory changes every half delay, not every cycle
    return replace(note, until=now + delay, reason=reason)


def _delay(closings: int) -> float:
    return min(FIRST_CLOSED * 2.0 ** min(closings - 1, 20), LONGEST_CLOSED)


def _said(closed: Mapping[str, str]) -> str:
    return "; ".join(f"{cloud} ({reason})" for cloud, reason in closed.items())
