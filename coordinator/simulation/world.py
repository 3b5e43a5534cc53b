"""A simulated world: production code of the coordinator, and everything around it from a seed.

``World(history)`` is a fleet that has not begun to live; ``run_until`` lets it. What happens
to it is in ``happenings``, what must hold in ``invariants``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from agent.messages import Event, Heartbeat, NodeRole
from agent.wire import from_wire
from coordinator.clouds.base import LaunchRequest
from coordinator.clouds.in_memory import InMemorySettings, SimulatedMachine
from coordinator.config import CoordinatorConfig
from coordinator.controller.records import PoolRecords
from coordinator.errors import EpuError
from coordinator.events import EventLog
from coordinator.pool_spec import parse_pool
from coordinator.provisioner.records import Records
from coordinator.simulation.agents import Fate, SimulatedAgent, Surroundings
from coordinator.simulation.clouds import SimulatedCloud
from coordinator.simulation.coordinator_parts import Coordinator, said
from coordinator.simulation.drawing import generator
from coordinator.simulation.event_queue import EPOCH, EventQueue
from coordinator.simulation.facts import Decided
from coordinator.simulation.history import History, PoolPlan
from coordinator.simulation.invariants import redelivery_cause
from coordinator.simulation.jobs import JobQueue, SimulatedQueueSensor
from coordinator.simulation.memory_records import MemoryRecords
from coordinator.simulation.memory_stores import MemoryEvents, MemoryPoolRecords
from coordinator.simulation.processes import Process
from coordinator.simulation.watch import Watcher
from coordinator.simulation.wire import Serve, Wire, words

RUN = "simulated"
#: Whom the registrar refuses.
_GONE = frozenset({"TERMINATING", "TERMINATED", "BOOT_FAILED", "LAUNCH_FAILED", "REJECTED"})


class MemoryStores:
    """The stores of a world as values in memory, watched."""

    def __init__(self, watcher: Watcher) -> None:
        self.records: Records = MemoryRecords(watcher.wrote)
        self.pools: PoolRecords = MemoryPoolRecords(watcher.cycled)
        self._tell: Callable[[Event], None] = lambda event: watcher.say(said(event))

    def events(self, source: str, clock: Callable[[], float]) -> EventLog:
        """The event log of one component."""
        return MemoryEvents(source, RUN, clock, self._tell)


class World(Surroundings):
    """Everything there is in one history. ``boot_trouble``: how, and which share of boots."""

    def __init__(
        self,
        history: History,
        *,
        whole_trace: bool = False,
        stores: Callable[[Watcher], Any] = MemoryStores,
    ) -> None:
        self.history = history
        self.queue = EventQueue()
        self.watcher = Watcher(self.queue, RUN, whole_trace)
        self.wall_offset = 0.0
        self.boot_trouble: list[Mapping[str, Any]] = []
        self.registrar_away = False
        self.torn_down = False
        #: Pool → its section as it is now.
        self.sections: dict[str, Mapping[str, Any]] = {
            plan.name: dict(plan.section) for plan in history.pools
        }
        #: How many things are in trouble now that ending a machine needs.
        self.troubles = 0
        self.agents: dict[str, SimulatedAgent] = {}
        self.machines: dict[tuple[str, str], SimulatedAgent] = {}
        #: Machines that people booted, by node id; they are in no cloud.
        self.adopted: dict[str, SimulatedAgent] = {}
        self.jobs: dict[str, JobQueue] = {}
        self._pool_jobs: dict[str, JobQueue] = {}
        self._numbers = 0
        self._ids = self.generator("ids")
        latency = history.latency
        self.wire = Wire(self.queue, self.generator("wire"), latency)
        self.clouds = {
            plan.name: SimulatedCloud(
                plan.name,
                InMemorySettings(**plan.settings),
                plan.window,
                self.queue,
                self.generator(f"cloud {plan.name}"),
                latency,
            )
            for plan in history.clouds
        }
        for plan in history.pools:
            if plan.queue:
                self.jobs[plan.queue] = self._pool_jobs[plan.name] = JobQueue(
                    plan.queue, self.queue
                )
        self.queue_sensor = SimulatedQueueSensor(self.queue, self.jobs)
        self.coordinator = Coordinator(
            CoordinatorConfig(
                run=RUN,
                accounts="",
                state_dir="/nowhere",
                clouds={name: {} for name in self.clouds},
                listing_interval=history.listing_interval,
                cycle_interval=history.cycle_interval,
                queue_poll_interval=history.queue_poll_interval,
                loopback_interval=history.loopback_interval,
                blindness_grace=history.blindness_grace,
            ),
            stores(self.watcher),
            self.queue,
            self.wire,
            self.clouds,
            self.queue_sensor,
            self._new_id,
            self._registrar,
        )
        self._connect()
        self._begin()

    def generator(self, part: str) -> random.Random:
        """The generator of one part of this world."""
        return generator(self.history.seed, part)

    def _connect(self) -> None:
        self.wire.services = self._service
        self.wire.kill = self.kill
        for cloud in self.clouds.values():
            cloud.kill = self.kill
            cloud.born = self._born
            cloud.asked_to_end = self._asked_to_end
        self.watcher.has_job = self._has_job
        self.watcher.is_mute = lambda node_id: node_id in self.agents and self.agents[node_id].mute
        self.watcher.ill_for = self._ill_for
        self.watcher.untroubled = lambda: self.troubles == 0 and self.coordinator.provisioner.up
        self.watcher.seen = self._as_it_was
        self.queue_sensor.broker_away = self.broker_away
        self.watcher.reading_age = self._reading_age
        self.queue.after_each = self.watcher.judge

    def _begin(self) -> None:
        for plan in self.history.pools:
            self.watcher.configured(plan.name, parse_pool(plan.name, plan.section))
        for cloud in self.clouds.values():
            # Machines of another run, and of this run's boot tool: neither is the pools'.
            for run, pool in (("another", self.history.pools[0].name), (RUN, "_base")):
                cloud.world.launch(
                    LaunchRequest(
                        launch_id=f"{run}-{pool}-base", run=run, pool=pool, count=1, user_data=""
                    )
                )
            cloud.tell_born()
        for process in self.coordinator.processes().values():
            self.coordinator.start(process, 0.0)
        for plan in self.history.pools:
            self.coordinator.controller.part.add_pool(plan.name, dict(plan.section))
            for at, count, seconds in plan.arrivals:
                self.queue.at(EPOCH + at, "jobs", partial(self._jobs_arrive, plan, count, seconds))

    def run_until(self, second: float) -> None:
        """Live until so many seconds after the beginning. Raises Broken."""
        self.queue.run_until(EPOCH + second)

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return self.queue.now - EPOCH

    # ---------------------------------------------------------------- processes

    def kill(self, process: Process[Any], down: float) -> None:
        """kill -9, and a new life after so many seconds."""
        if not process.up:
            return
        self.watcher.say(f"{process.name} is killed")
        process.kill()
        self.queue.after(down, f"{process.name} starts", partial(self._start_again, process))

    def _start_again(self, process: Process[Any]) -> None:
        if not process.up:
            self.watcher.say(f"{process.name} starts")
            self.coordinator.start(process, self.wall_offset)

    def _new_id(self, prefix: str) -> str:
        self._numbers += 1
        return f"{prefix}-{self._numbers:03d}{self._ids.randrange(36**3):05d}"

    def _service(self, name: str) -> Serve | None:
        if name.startswith("agent-"):
            agent = self.agents.get(name.removeprefix("agent-"))
            return None if agent is None else agent.serve
        return self.coordinator.service(name)

    def _registrar(self) -> Serve | None:
        if self.registrar_away:
            return None
        return words({"status": lambda: {"accounts_available": not self.queue_sensor.away}})

    # ---------------------------------------------------------------- machines

    def _born(self, cloud: SimulatedCloud, machine: SimulatedMachine) -> None:
        request = machine.request
        node_id = f"{request.launch_id}-{machine.index}"
        self.watcher.born(cloud, machine.cloud_id, node_id, request.pool, request.run)
        if request.run != RUN or request.pool not in self.watcher.specs:
            return
        rng = self.generator(f"machine {cloud.name} {machine.cloud_id}")
        quickest, slowest = next(
            plan.boots_in for plan in self.history.clouds if plan.name == cloud.name
        )
        boots_in, luck = rng.uniform(quickest, slowest), rng.random()
        how = next((one["how"] for one in self.boot_trouble if luck < one["share"]), "ok")
        agent = SimulatedAgent(
            node_id=node_id,
            pool=request.pool,
            machine=machine,
            cloud=cloud.name,
            fate=Fate(boots_in=boots_in, how=how, clock_wrong_by=rng.uniform(-7200, 7200)),
            surroundings=self,
            rng=rng,
        )
        self.machines[cloud.name, machine.cloud_id] = agent
        if node_id not in self.agents or not self.agents[node_id].alive:
            self.agents[node_id] = agent
        agent.switched_on()

    def _asked_to_end(self, cloud: SimulatedCloud, cloud_id: str) -> None:
        agent = self.machines.get((cloud.name, cloud_id))
        self.watcher.ended(cloud.name, cloud_id, by_us=True)
        if agent is not None and agent.alive and not agent.denied:
            agent.end(0.1)

    def vanish(self, agent: SimulatedAgent, noticed_in: float) -> None:
        """The machine ends by itself."""
        self.clouds[agent.cloud].world.vanish(agent.machine.cloud_id)
        self.watcher.ended(agent.cloud, agent.machine.cloud_id, by_us=False)
        agent.end(noticed_in)

    def become_undead(self, agent: SimulatedAgent, denied: bool) -> None:
        """The cloud says that the machine is gone, and it goes on; ``denied``: whatever we ask."""
        agent.undead, agent.denied = True, denied
        self.clouds[agent.cloud].world.vanish(agent.machine.cloud_id)
        self.watcher.ended(agent.cloud, agent.machine.cloud_id, by_us=False)

    def _has_job(self, node_id: str) -> bool:
        """Whether a job is lost to this node's end: it has it, and the broker knows."""
        agent = self.agents.get(node_id)
        jobs = None if agent is None else self._pool_jobs.get(agent.pool)
        if agent is None or jobs is None or agent.job is None or not agent.alive:
            return False
        return jobs.in_hand.get(agent.job.number, (None, ""))[1] == node_id

    def _ill_for(self, node_id: str) -> float:
        agent = self.agents.get(node_id)
        since = None if agent is None else agent.ill_since
        return 0.0 if since is None else self.queue.now - since

    def running(self, pool: str) -> list[SimulatedAgent]:
        """Agents of a pool whose machines run, oldest first."""
        return [one for one in self.machines.values() if one.pool == pool and one.alive]

    # ---------------------------------------------------------------- jobs

    def _jobs_arrive(self, plan: PoolPlan, count: int, seconds: float) -> None:
        jobs = self.jobs[plan.queue]
        if self.wire.away or not jobs.declared:
            # Whoever sends jobs waits for the broker, and for the queue.
            self.queue.after(5.0, "jobs", partial(self._jobs_arrive, plan, count, seconds))
            return
        jobs.put([seconds] * count)
        self.wake(plan.name)

    def wake(self, pool: str) -> None:
        """There may be work for those who have none."""
        people = [one for one in self.adopted.values() if one.pool == pool and one.alive]
        for agent in (*self.running(pool), *people):
            agent.work()

    # ---------------------------------------------------------------- surroundings of agents

    def broker_away(self) -> bool:
        return self.wire.away

    def ask(
        self, agent: SimulatedAgent, method: str, args: list[Any], then: Callable[[Any], None]
    ) -> None:
        if not agent.connected or agent.mute or self.registrar_away:
            return

        def deliver() -> None:
            serve = self.coordinator.service("provisioner")
            enrols = method in ("node_for_enrolment", "adopt_node")
            no_account = enrols and self.queue_sensor.away
            if serve is None or self.registrar_away or no_account:
                return
            try:
                answer = serve(method, *args)
            except EpuError as problem:
                answer = problem
            gone = isinstance(answer, dict) and answer.get("state") in _GONE
            if not (enrols and gone):  # the registrar refuses those
                then(answer)

        self.wire.send(f"{agent.node_id} {method}", deliver)

    def role_of(self, known: dict[str, Any]) -> NodeRole:
        return from_wire(NodeRole, known["role"])

    def publish(self, beat: Heartbeat) -> None:
        self.wire.send("beat", lambda: self.coordinator.deliver_beat(beat))

    def jobs_of(self, pool: str) -> JobQueue | None:
        return self._pool_jobs.get(pool)

    def connection_lost(self, agent: SimulatedAgent) -> None:
        jobs = self._pool_jobs.get(agent.pool)
        if jobs is not None:
            ended = agent.node_id in self.watcher.ended_by_us and not agent.alive
            moved = self.watcher.last_move.get(agent.node_id)
            cause = redelivery_cause(moved, self.watcher.teardown_at_once) if ended else "lost"
            self.watcher.redelivered(agent.node_id, cause, jobs.give_back(agent.node_id))
            self.wake(agent.pool)
        if not self.wire.away and agent.enrolled:
            self.coordinator.deliver_loss(agent.node_id)

    def broker_returns(self) -> None:
        """Everybody finds the broker again, one after the other."""
        rng = self.generator(f"return {self.queue.now}")
        for agent in [*self.machines.values(), *self.adopted.values()]:
            if agent.alive and agent.cut_off_since is None:
                self.queue.after(
                    rng.uniform(0.0, 5.0), f"{agent.node_id} reconnects", agent.reconnect
                )

    # ---------------------------------------------------------------- what was really so

    def _as_it_was(self, decided: Decided) -> Decided:
        """``decided`` with for how long its victims really were silent."""
        now, loopback = self.queue.now, self.coordinator.loopback
        unheard = {
            end.node_id: now
            - max(
                self.coordinator.heard_long_ago(end.node_id),
                loopback.sight_since or now,
                self.watcher.running_since.get(end.node_id, 0.0),
            )
            for end in decided.batch.terminations
        }
        return Decided(
            **{
                **vars(decided),
                "unheard": unheard,
                "sees": loopback.sees_lately(now),
            }
        )

    def _reading_age(self, pool: str) -> tuple[float | None, float | None]:
        """How old what the pool's engine decides by really is, and how old it may be (spec)."""
        spec = self.watcher.specs[pool]
        if spec.engine.get("queue") or spec.engine.get("engines"):
            read_at = self.queue_sensor.read_at.get(self._pool_jobs[pool].name, 0.0)
            return self.queue.now - read_at, 3 * self.history.queue_poll_interval
        if spec.engine.get("metric"):
            beat_at = self.coordinator.beat_at.get(pool, 0.0)
            return self.queue.now - beat_at, 3 * spec.role.heartbeat_interval
        return None, None
