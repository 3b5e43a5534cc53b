"""The coordinator of a simulated world: its production objects, as its processes build them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from agent.messages import (
    LOOPBACK_POOL,
    CommandBatch,
    Event,
    Heartbeat,
    agent_queue,
    beat_key,
)
from agent.wire import from_wire, to_wire
from coordinator.config import CoordinatorConfig
from coordinator.controller.keeper import Keeper
from coordinator.controller.records import PoolRecords
from coordinator.events import EventLog
from coordinator.provisioner.launcher import Launcher
from coordinator.provisioner.provisioner import Provisioner
from coordinator.provisioner.records import Records
from coordinator.sensors.aggregator import Aggregator
from coordinator.simulation.clouds import SimulatedCloud
from coordinator.simulation.event_queue import EventQueue
from coordinator.simulation.invariants import SLACK
from coordinator.simulation.jobs import ACCESS, SimulatedQueueSensor
from coordinator.simulation.processes import Process
from coordinator.simulation.wire import Serve, Wire, words

#: How often timers of the services fire, s (as in their shells).
PROVISIONER_TICK = 0.5
DRAIN_TICK = 1.0
ACCOUNTS_TICK = 5.0
FORGET_TICK = 60.0


class Stores(Protocol):
    """What outlives the processes. ``events`` makes the log of one component."""

    records: Records
    pools: PoolRecords

    def events(self, source: str, clock: Callable[[], float]) -> EventLog: ...


@dataclass
class Loopback:
    """When the sensors service heard itself, and so since when silence means anything.

    Kept beside the product, which judges that itself: an invariant compares.
    """

    interval: float
    grace: float
    heard_at: float | None = None
    sight_since: float | None = None

    def heard(self, now: float) -> None:
        """Its beat came back."""
        if self.heard_at is None or now - self.heard_at > 3 * self.interval:
            self.sight_since = now + self.grace
        self.heard_at = now

    def sees_lately(self, now: float) -> bool:
        """Whether it could tell silence from blindness when it was asked, a few seconds ago."""
        if self.heard_at is None or self.sight_since is None:
            return False
        return now - self.heard_at <= 3 * self.interval + SLACK and now >= self.sight_since


class Coordinator:
    """Controller, provisioner and sensors, each restartable, over stores and a wire."""

    def __init__(
        self,
        config: CoordinatorConfig,
        stores: Stores,
        queue: EventQueue,
        wire: Wire,
        clouds: Mapping[str, SimulatedCloud],
        queue_sensor: SimulatedQueueSensor,
        new_id: Callable[[str], str],
        registrar: Callable[[], Serve | None],
    ) -> None:
        self.config = config
        self.registrar = registrar
        self.records = stores.records
        self._stores = stores
        self._queue = queue
        self._wire = wire
        self._clouds = clouds
        self._queue_sensor = queue_sensor
        self._new_id = new_id
        self.controller: Process[Keeper] = Process("controller", queue, self._keeper)
        self.provisioner: Process[Provisioner] = Process("provisioner", queue, self._provisioner)
        self.sensors: Process[Aggregator] = Process("sensors", queue, self._aggregator)
        self.loopback = Loopback(config.loopback_interval, config.blindness_grace)
        #: Node → when the sensors service got beats of it: one older than SLACK, all younger.
        self._beats: dict[str, deque[float]] = {}
        #: Pool → when any node of it was last heard, by whichever life of the service.
        self.beat_at: dict[str, float] = {}
        #: How often the text of templates was changed.
        self.template_edition = 0
        for cloud in clouds.values():
            cloud.process = self.provisioner

    def processes(self) -> dict[str, Process[Any]]:
        """All of them, by name."""
        every: tuple[Process[Any], ...] = (self.controller, self.provisioner, self.sensors)
        return {one.name: one for one in every}

    # ---------------------------------------------------------------- building

    def _keeper(self) -> Keeper:
        process = self.controller
        return Keeper(
            self.config,
            self._stores.pools,
            self._stores.events("controller", process.clock),
            self._wire.caller(process),
            process.clock,
            self._new_id,
            lambda work: self._queue.after(
                0.0, "ping", lambda: process.enter("ping", work, alone=False)
            ),
            sources=lambda template: dict.fromkeys(self._clouds, f"{self.template_edition}"),
        )

    def _provisioner(self) -> Provisioner:
        process = self.provisioner
        access = {"host": "simulated", "port": 1, "vhost": "simulated", "accounts": {}}
        return Provisioner(
            self._stores.records,
            self._clouds,
            self._stores.events("provisioner", process.clock),
            self.config,
            Launcher(self.config.run, b"key", access, _render),
            self._wire.caller(process),
            process.clock,
        )

    def _aggregator(self) -> Aggregator:
        self.loopback = Loopback(self.config.loopback_interval, self.config.blindness_grace)
        self._beats = {}
        return Aggregator(
            ACCESS,
            self,
            self._queue_sensor,
            self._wire.caller(self.sensors),
            loopback_interval=self.config.loopback_interval,
            grace=self.config.blindness_grace,
            clock=lambda: self._queue.now,
        )

    # ---------------------------------------------------------------- timers

    def start(self, process: Process[Any], wall_offset: float) -> None:
        """A new life of a process, its timers with it."""
        process.start(wall_offset)
        if process is self.controller:
            self._every(process, "cycle", self._cycle_pause, lambda: self.controller.part.cycle())
        elif process is self.provisioner:
            tick, drain, accounts = PROVISIONER_TICK, DRAIN_TICK, ACCOUNTS_TICK
            self._every(process, "tick", lambda: tick, self._serve_due)
            self._every(process, "drains", lambda: drain, lambda: process.part.drain_step())
            self._every(process, "accounts", lambda: accounts, lambda: process.part.accounts_step())
        else:
            beats, polls = self.config.loopback_interval, self.config.queue_poll_interval
            self._every(process, "loopback", lambda: beats, lambda: process.part.send_loopback())
            self._every(process, "polls", lambda: polls, lambda: process.part.poll_queues())
            self._every(process, "forgets", lambda: FORGET_TICK, lambda: process.part.forget())

    #: Seconds to the next cycle; the world stretches it while everything is at rest.
    pause: float = 0.0

    def _cycle_pause(self) -> float:
        return max(self.pause, self.config.cycle_interval)

    def _every(
        self,
        process: Process[Any],
        what: str,
        pause: Callable[[], float],
        work: Callable[[], object],
    ) -> None:
        life = process.life
        label = f"{process.name} {what}"

        def fire() -> None:
            if process.life != life or not process.up:
                return
            self._queue.after(pause(), label, fire)
            process.enter(what, lambda: _ignore(work()))

        self._queue.after(0.01, label, fire)

    def _serve_due(self) -> None:
        process = self.provisioner
        for cloud in process.part.due():
            # A greenlet per cloud, as in the shell: it runs beside everything else.
            self._queue.after(0.0, f"reconcile {cloud}", partial(self._reconcile, cloud))

    def _reconcile(self, cloud: str) -> None:
        process = self.provisioner
        process.enter(f"reconcile {cloud}", lambda: process.part.reconcile(cloud))
        if process.up:
            soon = process.part.due_in(cloud)
            if soon < 2 * PROVISIONER_TICK:
                self._queue.after(soon, f"reconcile {cloud}", lambda: self._if_due(process.life))

    def _if_due(self, life: int) -> None:
        if self.provisioner.up and self.provisioner.life == life:
            self._serve_due()

    # ---------------------------------------------------------------- messages

    def publish(self, key: str, payload: Any, expiration: float) -> bool:
        """The sensors service publishes its own beat (``agent.bus.EventPublisher``)."""
        assert key.startswith(f"beat.{LOOPBACK_POOL}.")
        sensors, life = self.sensors, self.sensors.life

        def deliver() -> None:
            if sensors.up and sensors.life == life:
                self.loopback.heard(self._queue.now)
                sensors.part.take_heartbeat(payload, key, "sensors")

        return self._wire.send("loopback", deliver)

    def _heard(self, beat: Heartbeat) -> None:
        now = self.beat_at[beat.pool] = self._queue.now
        beats = self._beats.setdefault(beat.node_id, deque())
        beats.append(now)
        while len(beats) > 1 and beats[1] <= now - SLACK:
            beats.popleft()

    def heard_long_ago(self, node_id: str) -> float:
        """When a node was heard last by a decision that may have been SLACK s under way; 0 never.

        Beats after a silence that came meanwhile are not in it.
        """
        before = self._queue.now - SLACK
        return max((at for at in self._beats.get(node_id, ()) if at <= before), default=0.0)

    def deliver_beat(self, beat: Heartbeat) -> None:
        """A node's beat arrives at the sensors service, if that is there."""
        if self.sensors.up:
            self._heard(beat)
            key = beat_key(beat.pool, beat.node_id)
            self.sensors.part.take_heartbeat(to_wire(beat), key, f"node-{beat.node_id}")

    def deliver_loss(self, node_id: str) -> None:
        """The broker says that an agent's queue is gone."""
        headers = {"name": agent_queue(node_id), "vhost": ACCESS.vhost}
        sensors = self.sensors
        sensors.enter("presence", lambda: sensors.part.take_broker_event(headers), alone=False)

    # ---------------------------------------------------------------- services

    def service(self, name: str) -> Serve | None:
        """Who answers calls to one of the services; None while nobody does."""
        if name == "registrar":
            return self.registrar()
        process = self.processes().get(name)
        if process is None or not process.up:
            return None
        services = {
            "controller": self._controller_service,
            "provisioner": self._provisioner_service,
            "sensors": self._sensors_service,
        }
        return services[name]()

    def _controller_service(self) -> Serve:
        process = self.controller

        def look() -> None:
            self._queue.after(0.0, "look", lambda: process.enter("look", process.part.cycle))

        return words({"look": look})

    def _provisioner_service(self) -> Serve:
        part = self.provisioner.part

        def apply(batch: Any) -> Any:
            answer = to_wire(part.apply(from_wire(CommandBatch, batch)))
            self._serve_due()
            return answer

        def presence_lost(node_ids: list[str]) -> None:
            part.presence_lost(node_ids)
            self._serve_due()

        return words(
            {
                "instances": lambda pool, since: to_wire(part.instances(pool, since)),
                "snapshots": lambda since: to_wire(part.snapshots(since)),
                "apply": apply,
                "claim_epoch": part.claim_epoch,
                "presence_lost": presence_lost,
                "node_for_enrolment": part.node_for_enrolment,
                "adopt_node": part.adopt_node,
                "node_enrolled": part.node_enrolled,
                "node_ready": part.node_ready,
            }
        )

    def _sensors_service(self) -> Serve:
        part = self.sensors.part

        def report(data: Any) -> None:
            beat = from_wire(Heartbeat, data)
            self._heard(beat)
            part.take_report(beat)

        return words(
            {
                "reports": lambda *asked: to_wire(part.reports(*asked)),
                "witness": part.witness,
                "declare_queue": part.declare_queue,
                "report": report,
            }
        )


def _render(template: str, form: str, variables: Mapping[str, Any]) -> str:
    """User-data that nobody reads: what it is made of must be the same in each call."""
    return f"{template} {form} {variables['token']} {sorted(variables['variables'].items())}"


def _ignore(_: object) -> None:
    """An answer that nobody waits for."""


def said(event: Event) -> str:
    """One event in a trace: without its sequence number, which a store may count otherwise."""
    where = event.node or event.pool
    return f"{event.source} {event.name} {where}: {event.reason} {sorted(event.extra.items())}"
