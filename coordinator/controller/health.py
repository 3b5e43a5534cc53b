"""How well a node is, judged from what the sensors service heard of it. PURE.

Health never edits a state and no state implies a health: ``judge`` looks at one record and
the signs of its node and says what a person would say. *Silence* is
``now - max(last heard, observing since, RUNNING since)``; while the sensors service does not
hear itself (blind), or does not answer at all, nobody is silent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.messages import (
    HealthStatus,
    InstanceState,
    InstanceView,
    NodeRole,
    NodeSigns,
    ProcessState,
    SensorReport,
)
from coordinator.engines.base import UNHEALTHY
from coordinator.pool_values import HealthSettings

#: Beats in a row in which the agent could not ask its supervisord.
SUPERVISOR_FAILURES = 3
#: A machine still beats when it was heard within this many heartbeat intervals.
STILL_BEATING = 3
#: Of the failed programs of one node so many are told, and so many characters of each.
_FAILURES_TOLD, _FAILURE_LENGTH = 5, 200
#: supervisord's words for a process that has a pid, or is about to get one.
_ALIVE = frozenset({"STARTING", "RUNNING", "STOPPING"})


@dataclass(frozen=True, kw_only=True, slots=True)
class HealthNote:
    """What the controller remembers of one node's health between cycles.

    ``since``: when ``status`` was first judged, epoch seconds. ``heard``: it was heard at
    least once. ``exited``: the beat (boot id/sequence) that first showed an exited program;
    a second such beat means that no restart is coming. ``fault``: which programs have failed and
    how, so that each distinct failure is told once. Nothing here changes in a calm
    cycle, so that the memory of a calm pool need not be stored again.
    """

    status: HealthStatus
    since: float
    heard: bool = False
    exited: str = ""
    fault: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "status": self.status.value,
            "since": self.since,
            "heard": self.heard,
            "exited": self.exited,
            "fault": self.fault,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> HealthNote:
        """The reverse of ``to_dict``."""
        return cls(
            status=HealthStatus(data["status"]),
            since=float(data["since"]),
            heard=bool(data.get("heard", False)),
            exited=str(data.get("exited", "")),
            fault=str(data.get("fault", "")),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeHealth:
    """One judgement. ``reason`` is for people; ``drain_first``: it goes by way of a drain.

    ``failed``: the programs for which it is PROCESS_ERROR, with what they said last. ``note`` is
    what to remember, None when there is nothing to remember.
    """

    status: HealthStatus
    reason: str = ""
    drain_first: bool = False
    failed: tuple[ProcessState, ...] = ()
    note: HealthNote | None = None

    @property
    def is_unhealthy(self) -> bool:
        return self.status in UNHEALTHY


@dataclass(frozen=True, slots=True)
class _Sight:
    """How far the sensors service can be believed: None ages mean that nobody is silent."""

    answers: bool
    blind: bool
    observing_age: float


def sight_of(report: SensorReport | None) -> _Sight:
    """What a report (None: the sensors service did not answer) lets us see."""
    if report is None:
        return _Sight(False, True, 0.0)
    return _Sight(True, report.blind, report.observing_age)


def judge(
    instance: InstanceView,
    signs: NodeSigns | None,
    sight: _Sight,
    settings: HealthSettings,
    role: NodeRole,
    note: HealthNote | None,
    now: float,
) -> NodeHealth:
    """The health of one node.

    ``note`` is what the last cycle remembered of it. A judgement that the sensors service
    could not support (no answer, blind) keeps the note as it is, so that an outage neither
    makes anybody unhealthy nor fills the event log.
    """
    if instance.state is InstanceState.TERMINATED:
        return _judge_terminated(instance, signs, settings, role, note, now)
    if instance.state is not InstanceState.RUNNING:
        status = HealthStatus.UNKNOWN
        return NodeHealth(status=status, reason=instance.state.value.lower(), note=note)
    if not sight.answers:
        return NodeHealth(
            status=HealthStatus.UNKNOWN, reason="the sensors service does not answer", note=note
        )
    if signs is not None and signs.heard_age is not None:
        if signs.heard_age <= settings.missing_timeout:
            return _judge_by_report(signs, role, note, now)
        heard = True
    else:
        heard = note is not None and note.heard
    return _judge_by_silence(instance, signs, sight, settings, note, heard, now)


def _judge_by_report(
    signs: NodeSigns, role: NodeRole, note: HealthNote | None, now: float
) -> NodeHealth:
    """The last beat is fresh: what it said counts."""
    exited = ""
    fatal = tuple(one for one in signs.processes if one.state == "FATAL")
    ended = tuple(one for one in signs.processes if one.state == "EXITED")
    failed = fatal
    if ended:
        # supervisord restarts an exited program within its next tick: one beat may catch it
        # in between, a second one shows that no restart is coming.
        beat = f"{signs.boot_id}/{signs.sequence}"
        exited = note.exited if note is not None and note.exited else beat
        if exited != beat:
            failed = fatal + ended
    if failed:
        fault = ", ".join(f"{one.name} {one.state} {one.exit_status}" for one in failed)
        return NodeHealth(
            status=HealthStatus.PROCESS_ERROR,
            reason="; ".join(_failure(one) for one in failed[:_FAILURES_TOLD]),
            drain_first=_work_goes_on(signs, [one.name for one in failed], role),
            failed=failed[:_FAILURES_TOLD],
            note=_noted(note, HealthStatus.PROCESS_ERROR, now, exited, fault=fault),
        )
    if signs.supervisor_failures >= SUPERVISOR_FAILURES:
        return NodeHealth(
            status=HealthStatus.MONITOR_ERROR,
            reason=f"its supervisor did not answer in {signs.supervisor_failures} beats running",
            drain_first=True,
            note=_noted(note, HealthStatus.MONITOR_ERROR, now, exited),
        )
    if _presence_lost(signs):
        return NodeHealth(
            status=HealthStatus.OUT_OF_CONTACT,
            reason="the broker lost its connection; waiting for a sign of life",
            note=_noted(note, HealthStatus.OUT_OF_CONTACT, now, exited),
        )
    return NodeHealth(status=HealthStatus.OK, note=_noted(note, HealthStatus.OK, now, exited))


def failure(process: ProcessState) -> dict[str, Any]:
    """A failed program as plain JSON values. What it said was bounded, and freed of the node's
    secrets, by its agent.
    """
    return {
        "name": process.name,
        "state": process.state,
        "exit_status": process.exit_status,
        "problem": process.problem,
        "stderr_tail": process.stderr_tail,
    }


def _failure(process: ProcessState) -> str:
    """One failed program in a line: its name, how it ended, the last thing it said."""
    words = "failed for good" if process.state == "FATAL" else "ended and is not restarted"
    said = [line for line in process.stderr_tail.splitlines() if line.strip()]
    last = said[-1].strip() if said else process.problem
    text = f"program {process.name} {words}"
    if process.exit_status or process.state == "EXITED":  # 0 of one that is FATAL: not known
        text += f" (exit status {process.exit_status})"
    return (text + (f": {last}" if last else ""))[:_FAILURE_LENGTH]


def _judge_by_silence(
    instance: InstanceView,
    signs: NodeSigns | None,
    sight: _Sight,
    settings: HealthSettings,
    note: HealthNote | None,
    heard: bool,
    now: float,
) -> NodeHealth:
    """No fresh beat. Only silence that could have been heard counts."""
    if sight.blind:
        reason = "the sensors service hears nothing, not even itself"
        return NodeHealth(status=HealthStatus.UNKNOWN, reason=reason, note=note)
    silence = min(sight.observing_age, now - instance.state_since)
    if signs is not None and signs.heard_age is not None:
        silence = min(silence, signs.heard_age)
    silence = max(0.0, silence)
    patience = settings.missing_timeout if heard else settings.boot_timeout
    if silence > patience + settings.really_missing_timeout and _was_asked(
        note, heard, settings.really_missing_timeout, now
    ):
        return NodeHealth(
            status=HealthStatus.MISSING,
            reason=f"silent for {silence:.0f} s",
            note=_noted(note, HealthStatus.MISSING, now, "", heard),
        )
    if silence > patience:
        return NodeHealth(
            status=HealthStatus.OUT_OF_CONTACT,
            reason=f"silent for {silence:.0f} s; waiting for a sign of life",
            note=_noted(note, HealthStatus.OUT_OF_CONTACT, now, "", heard),
        )
    if signs is not None and _presence_lost(signs):
        return NodeHealth(
            status=HealthStatus.OUT_OF_CONTACT,
            reason="the broker lost its connection; waiting for a sign of life",
            note=_noted(note, HealthStatus.OUT_OF_CONTACT, now, "", heard),
        )
    reason = "not heard since the sensors service can hear" if heard else "not heard yet"
    # Silence that does not count proves nothing either way: what was noted stays noted.
    kept = note if note is not None else _noted(None, HealthStatus.UNKNOWN, now, "", heard)
    return NodeHealth(status=HealthStatus.UNKNOWN, reason=reason, note=kept)


def _was_asked(note: HealthNote | None, heard: bool, wait: float, now: float) -> bool:
    """Whether an earlier cycle found it out of contact, and so asked for a sign of life.

    One that was never heard has only our clock to speak against it, and clocks jump: it
    gets ``wait`` seconds again from when it was asked.
    """
    if note is None or note.status not in (HealthStatus.OUT_OF_CONTACT, HealthStatus.MISSING):
        return False
    return heard or note.status is HealthStatus.MISSING or now - note.since >= wait


def _judge_terminated(
    instance: InstanceView,
    signs: NodeSigns | None,
    settings: HealthSettings,
    role: NodeRole,
    note: HealthNote | None,
    now: float,
) -> NodeHealth:
    """The cloud says gone; a machine that goes on beating long after that is a zombie."""
    if signs is not None and signs.heard_age is not None:
        outlived = now - signs.heard_age - instance.state_since
        if still_beats(signs, role) and outlived > settings.zombie_timeout:
            return NodeHealth(
                status=HealthStatus.ZOMBIE,
                reason=f"still beats {outlived:.0f} s after the cloud called it gone",
                note=_noted(note, HealthStatus.ZOMBIE, now, ""),
            )
    return NodeHealth(status=HealthStatus.UNKNOWN, reason="terminated")


def _presence_lost(signs: NodeSigns) -> bool:
    """The broker says that the agent is gone, and nothing was heard of it since."""
    lost = signs.presence_lost_age
    return lost is not None and (signs.heard_age is None or signs.heard_age >= lost)


def takes_jobs(process: str, role: NodeRole) -> bool:
    """Whether a process (``name``, ``name:copy`` or ``name_copy``) is a worker program."""
    group = process.split(":", 1)[0]
    program = role.programs.get(group) or role.programs.get(group.rpartition("_")[0])
    return program is not None and program.worker


def _work_goes_on(signs: NodeSigns, failed: list[str], role: NodeRole) -> bool:
    """Whether somebody on the node may have a job in hand that a drain would let finish.

    A worker that failed has none. When nothing but other programs failed, all workers count
    as at work; else those that the last beat shows alive, such as the copies of a failed one.
    """
    if not any(takes_jobs(name, role) for name in failed):
        return True
    return any(
        process.state in _ALIVE and process.name not in failed and takes_jobs(process.name, role)
        for process in signs.processes
    )


def still_beats(signs: NodeSigns, role: NodeRole) -> bool:
    """Whether a node was heard so lately that its agent must be alive."""
    return signs.heard_age is not None and (
        signs.heard_age <= STILL_BEATING * role.heartbeat_interval
    )


def _noted(
    note: HealthNote | None,
    status: HealthStatus,
    now: float,
    exited: str,
    heard: bool = True,
    fault: str = "",
) -> HealthNote:
    """``note`` itself when nothing changed (the calm case), else a new one."""
    since = note.since if note is not None and note.status is status else now
    found = HealthNote(status=status, since=since, heard=heard, exited=exited, fault=fault)
    return note if note is not None and note == found else found
