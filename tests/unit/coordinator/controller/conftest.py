"""A tiny world for the controller: it obeys commands and moves machines on, one tick a cycle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from agent.messages import (
    BatchAnswer,
    CloudStatus,
    CommandBatch,
    InstanceState,
    InstanceView,
    NodeSigns,
    ProcessState,
    SensorReading,
    SensorReport,
)
from coordinator.controller.cycle import CycleOutcome, run_cycle
from coordinator.controller.pool import PoolMemory, memory_from_dict, memory_to_dict
from coordinator.engines.base import DecisionEngine
from coordinator.plugins import find_plugin
from coordinator.pool_spec import PoolSpec, parse_pool
from coordinator.pool_values import ScheduleEntry

S = InstanceState

ONWARD = {
    S.REQUESTED: S.LAUNCHING,
    S.LAUNCHING: S.BOOTING,
    S.BOOTING: S.RUNNING,
    S.DRAINING: S.TERMINATING,
    S.TERMINATING: S.TERMINATED,
}


@dataclass
class World:
    """One pool, its machines, its provisioner and its sensors, all obedient and exact.

    ``speed``: states a machine moves on in a tick. ``silent``: nodes that no longer beat.
    ``broken``: what to say of a node in its beats. ``queue``: ready, unacknowledged; a fresh
    sample each tick. ``sensors`` False: no report. ``boot_fails``/``launch_fails``: what
    becomes of new machines.
    """

    spec: PoolSpec
    engine: DecisionEngine
    now: float = 1_000_000.0
    speed: int = 1
    tick: float = 1.0
    enabled: bool = True
    frozen: str | None = None
    in_flight: bool = False
    sensors: bool = True
    blind: bool = False
    observing_since: float = 0.0
    queue: tuple[int, int] | None = None
    stale_by: float = 0.0
    boot_fails: bool = False
    launch_fails: bool = False
    drains_take: int = 1
    clouds: dict[str, CloudStatus] = field(default_factory=dict)
    version: int = 1
    instances: dict[str, InstanceView] = field(default_factory=dict)
    silent: dict[str, float] = field(default_factory=dict)
    signs: dict[str, dict[str, Any]] = field(default_factory=dict)
    extra_nodes: dict[str, NodeSigns] = field(default_factory=dict)
    memory: PoolMemory = field(default_factory=PoolMemory)
    outcomes: list[CycleOutcome] = field(default_factory=list)
    beats: int = 0
    made: int = 0
    scheduled: ScheduleEntry | None = None
    sources: dict[str, str] = field(default_factory=dict)

    # ------------------------------------------------------------ setting the scene

    def add(self, state: InstanceState, count: int = 1, **changes: Any) -> list[str]:
        """Machines that are there before the first cycle."""
        added = []
        for _ in range(count):
            self.made += 1
            launch_id = f"{self.spec.name}-old{self.made}"
            node_id = f"{launch_id}-0"
            values: dict[str, Any] = {
                "launch_id": launch_id,
                "index": 0,
                "pool": self.spec.name,
                "cloud": "here",
                "template": self.spec.template,
                "wanted_at": self.now - 1000 + self.made,
                "state_since": self.now - 900,
                **changes,
            }
            self.instances[node_id] = InstanceView(node_id=node_id, state=state, **values)
            added.append(node_id)
        return added

    def to(self, node_id: str, state: InstanceState, reason: str = "") -> None:
        """A machine changes its state now."""
        self.version += 1
        self.instances[node_id] = replace(
            self.instances[node_id], state=state, state_since=self.now, reason=reason
        )

    def vanish(self, node_id: str) -> None:
        """The cloud lists the machine no more."""
        self.to(node_id, S.TERMINATED, "vanished")

    def fail_program(self, node_id: str, program: str = "worker", state: str = "FATAL") -> None:
        self.signs[node_id] = {"processes": (ProcessState(name=program, state=state),)}

    # ------------------------------------------------------------ looking

    def ids(self, *states: InstanceState) -> list[str]:
        return [n for n, one in self.instances.items() if one.state in states]

    @property
    def running(self) -> list[str]:
        return self.ids(S.RUNNING)

    @property
    def machines(self) -> int:
        final = (S.TERMINATED, S.LAUNCH_FAILED, S.REJECTED)
        return sum(one.state not in final for one in self.instances.values())

    @property
    def launched(self) -> int:
        """Workers launched in all cycles so far."""
        return sum(
            launch.count
            for outcome in self.outcomes
            if outcome.batch
            for launch in outcome.batch.launches
        )

    def events(self, name: str) -> list[dict[str, Any]]:
        return [f for o in self.outcomes for n, f in o.events if n == name]

    def report(self) -> SensorReport | None:
        if not self.sensors:
            return None
        self.beats += 1
        nodes = {}
        for node_id, one in self.instances.items():
            if (
                one.state not in (S.RUNNING, S.DRAINING, S.TERMINATING)
                and node_id not in self.signs
            ):
                continue
            values: dict[str, Any] = {
                "heard_age": self.now - self.silent.get(node_id, self.now),
                "boot_id": "b",
                "sequence": self.beats,
                **self.signs.get(node_id, {}),
            }
            nodes[node_id] = NodeSigns(node_id=node_id, **values)
        readings = {}
        if self.queue is not None:
            name = self.spec.engine_settings.queue
            for part, value in zip(("ready", "unacknowledged"), self.queue, strict=True):
                key = f"queue.{name}.{part}"
                readings[key] = SensorReading(
                    name=key, value=value, age=self.stale_by, sample=str(self.beats)
                )
        return SensorReport(
            pool=self.spec.name,
            observing_age=self.now - self.observing_since,
            blind=self.blind,
            nodes={**nodes, **self.extra_nodes},
            readings=readings,
        )

    # ------------------------------------------------------------ living

    def new_id(self, prefix: str) -> str:
        self.made += 1
        return f"{prefix}-{self.made}"

    def cycle(self, apply: bool = True) -> CycleOutcome:
        """One cycle at ``now``; its commands are obeyed, time and machines stand still."""
        outcome = run_cycle(
            self.spec,
            self.engine,
            self.instances,
            self.version,
            self.enabled,
            self.report(),
            self.memory,
            epoch=1,
            now=self.now,
            new_id=self.new_id,
            frozen=self.frozen,
            in_flight=self.in_flight,
            default_cloud="here",
            clouds=self.clouds,
            scheduled=self.scheduled,
            sources=self.sources,
        )
        self.memory = memory_from_dict(memory_to_dict(outcome.memory))
        self.outcomes.append(outcome)
        if outcome.batch is not None and apply:
            answer = self.apply(outcome.batch)
            assert answer.outcome == "applied"
        return outcome

    def apply(self, batch: CommandBatch) -> BatchAnswer:
        if batch.based_on != self.version:
            return BatchAnswer(batch_id=batch.batch_id, outcome="conflict")
        for cancel in batch.cancels:
            assert self.instances[cancel.node_id].state is S.DRAINING
            self.to(cancel.node_id, S.RUNNING, cancel.reason)
        for end in batch.terminations:
            assert self.instances[end.node_id].state not in (S.LAUNCH_FAILED, S.REJECTED)
            one = self.instances[end.node_id]
            empty = one.state is S.REQUESTED or (one.state is S.LAUNCHING and one.retryable)
            self.to(end.node_id, S.TERMINATED if empty else S.TERMINATING, end.reason)
        for drain in batch.drains:
            assert self.instances[drain.node_id].state is S.RUNNING
            self.to(drain.node_id, S.DRAINING, drain.reason)
        for launch in batch.launches:
            for index in range(launch.count):
                node_id = f"{launch.launch_id}-{index}"
                assert node_id not in self.instances
                self.version += 1
                self.instances[node_id] = InstanceView(
                    node_id=node_id,
                    launch_id=launch.launch_id,
                    index=index,
                    pool=batch.pool,
                    cloud=launch.cloud,
                    template=launch.template,
                    state=S.REQUESTED,
                    wanted_at=self.now,
                    state_since=self.now,
                    unique_id=launch.unique_id,
                    variables=launch.variables,
                    blueprint=launch.blueprint,
                )
        return BatchAnswer(batch_id=batch.batch_id, outcome="applied")

    def advance(self) -> None:
        """Time passes by one tick and machines move on."""
        self.now += self.tick
        for node_id, one in list(self.instances.items()):
            for _ in range(self.speed):
                one = self.instances[node_id]
                if one.state is S.LAUNCHING and one.retryable:
                    break  # its cloud has no room
                if one.state is S.DRAINING and self.now - one.state_since < self.drains_take:
                    break
                if one.state is S.LAUNCHING and self.launch_fails:
                    self.to(node_id, S.LAUNCH_FAILED, "no capacity")
                elif one.state is S.BOOTING and self.boot_fails:
                    self.to(node_id, S.BOOT_FAILED, "check failed")
                elif one.state in ONWARD:
                    self.to(node_id, ONWARD[one.state])

    def step(self, cycles: int = 1) -> CycleOutcome:
        """Cycles with a tick between them; the last outcome."""
        for _ in range(cycles):
            outcome = self.cycle()
            self.advance()
        return outcome


@pytest.fixture
def pool_spec() -> Callable[..., PoolSpec]:
    """A pool named ``workers`` from the keys of a plan."""

    def build(engine: dict[str, Any] | None = None, **section: Any) -> PoolSpec:
        worker = {"command": ["/bin/work"]}
        side = {"command": ["/bin/side"], "worker": False}
        text: dict[str, Any] = {
            "engine": engine or {"preserve_n": 1},
            "programs": {"worker": worker, "side": side},
            **section,
        }
        return parse_pool("workers", text)

    return build


@pytest.fixture(scope="session")
def make_world() -> Callable[..., World]:
    """As ``world``, for properties: those can't have a fixture of each test."""

    def build(engine: dict[str, Any], **section: Any) -> World:
        spec = parse_pool("workers", {"engine": engine, **section})
        return World(spec, find_plugin("epu.engines", spec.engine_type)())

    return build


@pytest.fixture
def world(pool_spec: Callable[..., PoolSpec]) -> Callable[..., World]:
    """A World with the pool that the keys describe."""

    def build(
        engine: dict[str, Any] | None = None, *, changes: Any = None, **section: Any
    ) -> World:
        spec = pool_spec(engine, **section)
        return World(spec, find_plugin("epu.engines", spec.engine_type)(), **(changes or {}))

    return build


@pytest.fixture
def elastic(world: Callable[..., World]) -> Callable[..., World]:
    """A World whose pool follows a queue: high 50, low 10."""

    def build(supply: int = 0, minimum: int = 0, maximum: int = 5, **section: Any) -> World:
        made = world(
            {
                "type": "queue_length",
                "queue": "jobs",
                "queuelen_high_water": 50,
                "queuelen_low_water": 10,
                "min_instances": minimum,
                "max_instances": maximum,
            },
            **section,
        )
        made.add(S.RUNNING, supply)
        return made

    return build
