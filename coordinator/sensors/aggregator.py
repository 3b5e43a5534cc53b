"""The sensor aggregator: takes heartbeats and readings in, answers "latest" with ages.

The plain object behind the sensors service; what blocks (broker, management API) is called
from here, what is remembered is in ``history``.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from agent.messages import (
    LOOPBACK_POOL,
    BrokerAccess,
    Heartbeat,
    NodeSigns,
    SensorReport,
    beat_key,
)
from agent.rpc_client import CallFailed
from agent.wire import MalformedMessage, to_wire
from coordinator.errors import RetryLater
from coordinator.sensors.deliveries import DeliverySensor
from coordinator.sensors.heartbeat_intake import lost_node, read_heartbeat
from coordinator.sensors.history import FORGET_AFTER, GRACE, Observations
from coordinator.sensors.queue_length import QueueLengthSensor, reading_names

log = logging.getLogger(__name__)

#: A queue is read for as long as somebody asked for it within so many seconds.
ASKED_WITHIN = 60.0


@dataclass(frozen=True)
class _Asked:
    """What somebody wants to know of a pool: its readings' names, and for how long a silent
    node is of interest (s). ``at``: when it was asked last. ``busy_queue``: whose deliveries
    say which of its nodes are busy."""

    at: float
    names: tuple[str, ...] = ()
    patience: float = 0.0
    busy_queue: str = ""


class Publisher(Protocol):
    """``agent.bus.EventPublisher``, as far as it is needed here."""

    def publish(self, key: str, payload: Any, expiration: float) -> bool: ...


class Aggregator:
    """See the module. ``call`` is an RPC with a deadline; ``clock`` is monotonic."""

    def __init__(
        self,
        access: BrokerAccess,
        publisher: Publisher,
        queue_sensor: QueueLengthSensor,
        call: Callable[..., Any],
        *,
        loopback_interval: float,
        grace: float = GRACE,
        deliveries: DeliverySensor | None = None,
        poll_interval: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._access = access
        self._publisher = publisher
        self._queue_sensor = queue_sensor
        self._call = call
        self._clock = clock
        self._deliveries = deliveries
        self._poll_interval = poll_interval
        self._loopback_interval = loopback_interval
        self._loopback_id = f"sensors-{uuid.uuid4().hex[:8]}"
        self._loopback_sent = 0
        self.observations = Observations(loopback_interval, grace)
        self._queues: dict[str, float] = {}
        self._pools: dict[str, _Asked] = {}
        self._lost: set[str] = set()
        self._telling = False
        self._complained: dict[str, str] = {}

    # ---------------------------------------------------------------- taking in

    def take_heartbeat(self, body: Any, routing_key: str, sender: str) -> None:
        """One message of the heartbeat queue; a malformed one is counted and dropped."""
        now = self._clock()
        try:
            if routing_key == beat_key(LOOPBACK_POOL, self._loopback_id):
                if self.observations.loopback(now):
                    log.info("hearing myself: silence counts after the grace time")
                return
            if routing_key.startswith(f"beat.{LOOPBACK_POOL}."):
                return  # the loopback of another sensors service
            beat = read_heartbeat(body, routing_key, sender, self._access.shared)
        except MalformedMessage as problem:
            self.observations.malformed += 1
            self._complain(f"heartbeat of {sender or routing_key}", str(problem))
            return
        self.observations.heard(beat, now)

    def take_broker_event(self, headers: Mapping[str, Any]) -> None:
        """One message of the presence queue: tell the provisioner whom to look for."""
        node_id = lost_node(headers, self._access.vhost)
        if node_id and self.observations.presence_lost(node_id, self._clock()):
            self._lost.add(node_id)
            self._tell_lost()

    def take_report(self, beat: Heartbeat) -> None:
        """A heartbeat that came by RPC."""
        self.observations.heard(beat, self._clock())

    def _tell_lost(self) -> None:
        # One call for all that are lost meanwhile: a switch that dies takes many at once.
        if self._telling:
            return
        self._telling = True
        try:
            while self._lost:
                lost, self._lost = sorted(self._lost), set()
                self._call("provisioner", "presence_lost", lost, timeout=5.0)
        except CallFailed as problem:
            # Only a hint: the periodic listing finds the same a few seconds later.
            log.info("the provisioner was not told of a lost presence: %s", problem)
        finally:
            self._telling = False

    # ---------------------------------------------------------------- by the clock

    def send_loopback(self) -> None:
        """Publish our own beat through the exchange that everybody else uses."""
        self._loopback_sent += 1
        beat = Heartbeat(
            node_id=self._loopback_id,
            pool=LOOPBACK_POOL,
            boot_id=self._loopback_id,
            sequence=self._loopback_sent,
            sent_at=0.0,
        )
        key = beat_key(LOOPBACK_POOL, self._loopback_id)
        self._publisher.publish(key, to_wire(beat), expiration=self._loopback_interval)

    def poll_queues(self) -> None:
        """Read every queue that somebody has asked for lately."""
        now = self._clock()
        self._queues = {q: at for q, at in self._queues.items() if now - at < ASKED_WITHIN}
        self._queue_sensor.keep_only(self._queues)
        self.observations.keep_readings({name for q in self._queues for name in reading_names(q)})
        for queue in list(self._queues):
            try:
                for reading in self._queue_sensor.measure(queue):
                    self.observations.reading(reading, self._clock())
            except RetryLater as problem:
                self._complain(f"queue {queue}", str(problem))
            else:
                self._complained.pop(f"queue {queue}", None)
        self._look_who_is_busy(now)

    def _look_who_is_busy(self, now: float) -> None:
        """One listing for all nodes, when any pool's business is told by a queue."""
        asked = [one for one in self._pools.values() if now - one.at < ASKED_WITHIN]
        queues = {one.busy_queue for one in asked if one.busy_queue}
        if self._deliveries is None or not queues:
            return
        try:
            self._deliveries.measure(queues)
        except RetryLater as problem:
            self._complain("who is busy", str(problem))
        else:
            self._complained.pop("who is busy", None)

    def forget(self) -> None:
        """Let go of nodes and pools that nobody has heard of, or asked for, for long."""
        now = self._clock()
        patience = {pool: asked.patience for pool, asked in self._pools.items()}
        self.observations.forget(now, patience)
        self._pools = {
            pool: asked
            for pool, asked in self._pools.items()
            if now - asked.at < max(FORGET_AFTER, asked.patience)
        }

    # ---------------------------------------------------------------- answering

    def latest(self, pool: str) -> SensorReport:
        """Everything known of one pool."""
        asked = self._pools.get(pool)
        names = asked.names if asked else ()
        now = self._clock()
        report = self.observations.report(pool, names, now, self.presence_source)
        if asked is None or not asked.busy_queue or self._deliveries is None:
            return report
        nodes = {
            node_id: self._with_business(signs, asked.busy_queue, now)
            for node_id, signs in report.nodes.items()
        }
        return replace(report, nodes=nodes)

    def _with_business(self, signs: NodeSigns, queue: str, now: float) -> NodeSigns:
        assert self._deliveries is not None
        found = self._deliveries.business(signs.node_id, queue, now, self._poll_interval)
        return replace(
            signs,
            busy=found.busy,
            busy_for=now - found.since,
            busy_problem=found.problem,
            jobs=found.jobs,
        )

    def reports(
        self,
        wanted: Mapping[str, Sequence[str]],
        patience: Mapping[str, float] | None = None,
        busy_queues: Mapping[str, str] | None = None,
    ) -> dict[str, SensorReport]:
        """Reports of several pools; ``wanted`` maps each to the queues it is fed by.

        ``patience``: for how many seconds a pool waits for nodes that are silent; they are
        remembered for as long, and for FORGET_AFTER at least. ``busy_queues``: of pools whose
        nodes are busy while they have deliveries of that queue in hand.
        """
        now = self._clock()
        for pool, queues in wanted.items():
            names = tuple(name for q in queues for name in reading_names(q))
            busy_queue = (busy_queues or {}).get(pool, "")
            self._pools[pool] = _Asked(now, names, (patience or {}).get(pool, 0.0), busy_queue)
            self._queues.update(dict.fromkeys(queues, now))
        return {pool: self.latest(pool) for pool in wanted}

    def witness(self, node_ids: Sequence[str]) -> dict[str, Any]:
        """What is known of single nodes, for whoever wants a second witness."""
        now = self._clock()
        nodes: dict[str, NodeSigns] = {}
        for node_id in node_ids:
            signs = self.observations.signs(node_id, now)
            if signs is not None:
                nodes[node_id] = signs
        return {
            "blind": self.observations.blind(now),
            "observing_age": self.observations.observing_age(now),
            "nodes": to_wire(nodes),
        }

    def declare_queue(self, name: str) -> None:
        """Make the durable work queue of a pool unless it exists."""
        self._queue_sensor.declare(name)

    def status(self) -> dict[str, Any]:
        """For ``epu status`` and people in a shell."""
        now = self._clock()
        return {
            "blind": self.observations.blind(now),
            "observing_age": self.observations.observing_age(now),
            "nodes": self.observations.node_count,
            "queues": sorted(self._queues),
            "malformed": self.observations.malformed,
            "presence_source": self.presence_source,
        }

    @property
    def presence_source(self) -> str:
        return "event exchange" if self._access.event_exchange else "none"

    def _complain(self, subject: str, what: str) -> None:
        """Log a complaint once per subject until it changes."""
        if len(self._complained) > 1000:
            self._complained.clear()
        if self._complained.get(subject) != what:
            self._complained[subject] = what
            log.warning("%s: %s", subject, what)
