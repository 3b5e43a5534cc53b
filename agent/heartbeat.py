"""What a heartbeat says. PURE.

``Pulse`` is the little that is remembered from beat to beat; ``Facts`` is what was seen
just now; ``next_beat`` makes one heartbeat of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from agent.busy import SILENT, BusyState
from agent.messages import Heartbeat, ProcessState

#: So many unanswered questions in a row and a supervisor counts as lost.
SUPERVISOR_LOST_AFTER = 3


@dataclass(frozen=True, kw_only=True)
class Pulse:
    """One life of an agent process: ``boot_id`` is new, ``sequence`` starts over."""

    boot_id: str
    sequence: int = 0
    supervisor_failures: int = 0

    @property
    def supervisor_lost(self) -> bool:
        """Whether the supervisor was silent for so long that it is worth a warning."""
        return self.supervisor_failures >= SUPERVISOR_LOST_AFTER


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the agent saw. ``processes`` is None when supervisord did not answer."""

    now: float
    ready: bool
    draining: bool
    drained: bool
    processes: tuple[ProcessState, ...] | None
    busy: BusyState = SILENT
    figures: Mapping[str, float] = field(default_factory=dict)
    figure_ages: Mapping[str, float] = field(default_factory=dict)
    sensor_problems: Mapping[str, str] = field(default_factory=dict)


def next_beat(
    pulse: Pulse, facts: Facts, node_id: str, pool: str, restarted: Collection[str] = ()
) -> tuple[Pulse, Heartbeat]:
    """The next heartbeat and the pulse after it.

    One unanswered question makes ``supervisor_ok`` false for this beat only: the receiver
    counts them. Nothing is said of processes that were not seen. ``restarted`` names the
    processes that supervisord starts again by itself (see ``as_reported``).
    """
    answered = facts.processes is not None
    after = replace(
        pulse,
        sequence=pulse.sequence + 1,
        supervisor_failures=0 if answered else pulse.supervisor_failures + 1,
    )
    beat = Heartbeat(
        node_id=node_id,
        pool=pool,
        boot_id=pulse.boot_id,
        sequence=after.sequence,
        sent_at=facts.now,
        ready=facts.ready,
        draining=facts.draining,
        drained=facts.drained,
        busy=facts.busy.busy,
        busy_for=facts.busy.spell,
        busy_problem=facts.busy.problem,
        jobs=facts.busy.jobs,
        supervisor_ok=answered,
        processes=as_reported(facts.processes or (), restarted),
        figures=dict(facts.figures),
        figure_ages=dict(facts.figure_ages),
        sensor_problems=dict(facts.sensor_problems),
    )
    return after, beat


def looks_different(before: Heartbeat | None, processes: Iterable[ProcessState] | None) -> bool:
    """Whether what supervisord says now (None: nothing) is news after the beat ``before``.

    A program that was started again is news even when both are RUNNING; nothing is while a
    program only waits to be started again, so that a crash loop makes no storm of beats.
    """
    if before is None:
        return False
    if processes is None or not before.supervisor_ok:
        return (processes is not None) is not before.supervisor_ok
    now = {one.name: (_settled(one.state), one.pid) for one in processes}
    then = {one.name: (_settled(one.state), one.pid) for one in before.processes}
    return now != then and not any(state == "STARTING" for state, _ in now.values())


def _settled(state: str) -> str:
    return "STARTING" if state in ("STARTING", "BACKOFF", "EXITED") else state


def as_reported(
    processes: Iterable[ProcessState], restarted: Collection[str]
) -> tuple[ProcessState, ...]:
    """Process states as a judge may take them at face value.

    A process that ended and that supervisord starts again within the second is EXITED for
    a moment; said aloud, that word means "and it stays so". It is reported as BACKOFF,
    supervisord's own word for "waiting to be started again".
    """
    return tuple(
        replace(process, state="BACKOFF")
        if process.state == "EXITED" and process.name in restarted
        else process
        for process in processes
    )
