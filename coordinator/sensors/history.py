"""What was heard of every node, and since when silence means anything. PURE.

No clock is read here: every method takes ``now``, monotonic seconds, so that neither a
clock that jumps nor one that is wrong on a node can make anybody look silent. Only ages
leave this module.

Silence counts only while this service hears *itself* through the same exchange. After any
gap (its own start, a broker outage, a process that was stopped) silence starts anew at the
gap's end plus a grace time in which everybody has the chance to be heard. The silence of
other nodes is never used to infer blindness: a pool of one must heal.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

from agent.messages import Heartbeat, NodeSigns, SensorReading, SensorReport

#: Seconds after a gap before silence counts again.
GRACE = 30.0
#: Missed loopback beats after which this service calls itself blind.
LOOPBACKS_MISSED = 3
#: Seconds after which a node that was never heard again is forgotten, unless its pool waits
#: longer for it. Short, because all that is remembered is in every report.
FORGET_AFTER = 3600.0
#: So many earlier lives of an agent are remembered, so that no late beat of theirs counts.
LIVES_REMEMBERED = 8


@dataclass
class _Heard:
    pool: str
    beat: Heartbeat | None = None
    heard_at: float | None = None
    presence_lost_at: float | None = None
    supervisor_failures: int = 0
    past_lives: tuple[str, ...] = ()
    doubted: tuple[str, int] = ("", 0)


class Observations:
    """The short memory of the sensors service. Mutable, bounded, without a clock."""

    def __init__(self, loopback_interval: float, grace: float = GRACE) -> None:
        self._blind_after = loopback_interval * LOOPBACKS_MISSED
        self._grace = grace
        self._loopback_at: float | None = None
        self._observing_since: float | None = None
        self._nodes: dict[str, _Heard] = {}
        self._readings: dict[str, tuple[SensorReading, float]] = {}
        self.malformed = 0

    # ---------------------------------------------------------------- taking in

    def loopback(self, now: float) -> bool:
        """Our own beat came back. True when this ends a gap."""
        last, self._loopback_at = self._loopback_at, now
        if last is not None and now - last <= self._blind_after:
            return False
        self._observing_since = now + self._grace
        return True

    def heard(self, beat: Heartbeat, now: float) -> bool:
        """A heartbeat arrived. False when it is no newer than one already heard.

        Each start of an agent is a new life with a ``boot_id`` of its own; what a life that
        has ended still had on the way says nothing about the one that followed it.
        """
        node = self._nodes.setdefault(beat.node_id, _Heard(pool=beat.pool))
        known = node.beat
        if known and known.boot_id == beat.boot_id and beat.sequence <= known.sequence:
            return False
        if beat.boot_id in node.past_lives:
            boot_id, sequence = node.doubted
            if beat.boot_id != boot_id or beat.sequence <= sequence:
                if beat.boot_id != boot_id:
                    node.doubted = (beat.boot_id, beat.sequence)
                return False
        node.doubted = ("", 0)
        if known and known.boot_id != beat.boot_id:
            past = [life for life in (*node.past_lives, known.boot_id) if life != beat.boot_id]
            node.past_lives = tuple(past[-LIVES_REMEMBERED:])
            node.supervisor_failures = 0
        node.pool = beat.pool
        node.beat = beat
        node.heard_at = now
        node.presence_lost_at = None
        node.supervisor_failures = 0 if beat.supervisor_ok else node.supervisor_failures + 1
        return True

    def presence_lost(self, node_id: str, now: float) -> bool:
        """The broker says the agent's queue is gone. True when that is news of a known node."""
        node = self._nodes.get(node_id)
        if node is None or node.presence_lost_at is not None:
            return False
        node.presence_lost_at = now
        return True

    def reading(self, reading: SensorReading, now: float) -> None:
        """A value was measured at ``now``; ``reading.age`` is its age then."""
        self._readings[reading.name] = (reading, now - reading.age)

    def forget(self, now: float, patience: Mapping[str, float] | None = None) -> None:
        """Drop nodes that have been silent for very long, so that nothing grows for ever.

        ``patience``: pools whose nodes must be remembered for more seconds than others'.
        """
        patience = patience or {}
        self._nodes = {
            node_id: node
            for node_id, node in self._nodes.items()
            if node.heard_at is None
            or now - node.heard_at < max(FORGET_AFTER, patience.get(node.pool, 0.0))
        }

    def keep_readings(self, names: Container[str]) -> None:
        """Drop all readings but those called ``names``."""
        self._readings = {name: one for name, one in self._readings.items() if name in names}

    # ---------------------------------------------------------------- answering

    def blind(self, now: float) -> bool:
        """Whether our own beat has stopped coming back."""
        return self._loopback_at is None or now - self._loopback_at > self._blind_after

    def observing_age(self, now: float) -> float:
        """For how long silence has been meaningful; negative during the grace time."""
        if self._observing_since is None:
            return -self._grace
        return now - self._observing_since

    def signs(self, node_id: str, now: float) -> NodeSigns | None:
        """What is known of one node, as ages."""
        node = self._nodes.get(node_id)
        return None if node is None else _signs(node_id, node, now)

    def report(
        self, pool: str, reading_names: Iterable[str], now: float, presence_source: str = ""
    ) -> SensorReport:
        """Everything known of one pool at ``now``."""
        return SensorReport(
            pool=pool,
            observing_age=self.observing_age(now),
            blind=self.blind(now),
            nodes={
                node_id: _signs(node_id, node, now)
                for node_id, node in self._nodes.items()
                if node.pool == pool
            },
            readings={
                name: SensorReading(
                    name=name, value=found[0].value, age=now - found[1], sample=found[0].sample
                )
                for name in reading_names
                if (found := self._readings.get(name)) is not None
            },
            presence_source=presence_source,
        )

    @property
    def node_count(self) -> int:
        return len(self._nodes)


def _signs(node_id: str, node: _Heard, now: float) -> NodeSigns:
    beat = node.beat
    lost = None if node.presence_lost_at is None else now - node.presence_lost_at
    if beat is None or node.heard_at is None:
        return NodeSigns(node_id=node_id, presence_lost_age=lost)
    return NodeSigns(
        node_id=node_id,
        heard_age=now - node.heard_at,
        presence_lost_age=lost,
        boot_id=beat.boot_id,
        sequence=beat.sequence,
        ready=beat.ready,
        drained=beat.drained,
        busy=beat.busy,
        busy_for=None if beat.busy_for is None else beat.busy_for + now - node.heard_at,
        busy_problem=beat.busy_problem,
        jobs=beat.jobs,
        supervisor_failures=node.supervisor_failures,
        processes=beat.processes,
        figures=beat.figures,
        figure_ages=beat.figure_ages,
        sensor_problems=beat.sensor_problems,
    )
