"""A provisioner between a scripted cloud, scripted agents and a clock that we turn."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.messages import (
    CancelDrain,
    CommandBatch,
    DrainInstance,
    InstanceState,
    InstanceView,
    LaunchInstances,
    NodeRole,
    ReadyReport,
    TerminateInstance,
)
from agent.rpc_client import UnknownService
from coordinator.clouds.in_memory import InMemoryCloud, InMemorySettings
from coordinator.config import CoordinatorConfig
from coordinator.events import EventLog
from coordinator.provisioner.launcher import Launcher
from coordinator.provisioner.provisioner import Provisioner
from coordinator.store.session import open_store
from userdata_templates.render import render

POOL = "sleeper"


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class World:
    """``clouds``: what is really there. ``agents``: node id → method → answer."""

    def __init__(self, store: Path | str, clouds: Mapping[str, InMemoryCloud], clock: Clock):
        self.clock = clock
        self.clouds = dict(clouds)
        self.engine = open_store(store)
        self.agents: dict[str, dict[str, Any]] = {}
        self.witness: dict[str, Any] | None = None
        self.registrar: dict[str, Any] | None = None
        self.asked: list[tuple[str, str]] = []
        self.render: Callable[..., str] = render
        self.cloud_agents: dict[str, dict[str, str]] = {}
        self.part = self.new_provisioner()
        self.numbers = 0

    def new_provisioner(self) -> Provisioner:
        """What a restarted process is: the store and the clouds, nothing else."""
        config = CoordinatorConfig(run="run", accounts="", state_dir="")
        access = {"host": "127.0.0.1", "port": 5672, "vhost": "epu", "accounts": {}}
        return Provisioner(
            self.engine,
            self.clouds,
            EventLog(self.engine, "provisioner", "run", self.clock),
            config,
            Launcher("run", b"key", access, lambda *given: self.render(*given), self.cloud_agents),
            self.call,
            self.clock,
        )

    def call(self, service: str, method: str, *args: Any, timeout: float | None = None) -> Any:
        self.asked.append((service, method))
        if service == "sensors":
            if self.witness is None:
                raise UnknownService(service)
            return self.witness
        if service == "registrar":
            if self.registrar is None:
                raise UnknownService(service)
            return self.registrar
        node = self.agents.get(service.removeprefix("agent-"))
        if node is None or method not in node:
            raise UnknownService(service)
        return node[method]

    # ------------------------------------------------------------ acting

    def pass_time(self, seconds: float, step: float = 0.5) -> None:
        """Turn the clock; the shell's ticks happen on the way."""
        end = self.clock.now + seconds
        self.tick()
        while self.clock.now < end:
            self.clock.now = min(self.clock.now + step, end)
            self.tick()

    def turn(self, seconds: float, step: float = 5.0) -> None:
        """Let time pass with the tick that asks the registrar."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.part.accounts_step()
            self.pass_time(min(step, end - self.clock.now))
        self.part.accounts_step()
        self.tick()

    def tick(self) -> None:
        for cloud in self.part.due():
            self.part.reconcile(cloud)
        self.part.drain_step()

    def batch(self, *commands: Any, pool: str = POOL, **fields: Any) -> CommandBatch:
        self.numbers += 1
        snapshot = self.part.instances(pool)
        fields = {
            "batch_id": f"batch-{self.numbers}",
            "based_on": snapshot.version,
            "epoch": snapshot.epoch,
            **fields,
        }
        of = {
            kind: tuple(command for command in commands if isinstance(command, kind))
            for kind in (LaunchInstances, DrainInstance, CancelDrain, TerminateInstance)
        }
        return CommandBatch(
            pool=pool,
            launches=of[LaunchInstances],
            drains=of[DrainInstance],
            cancels=of[CancelDrain],
            terminations=of[TerminateInstance],
            **fields,
        )

    def apply(self, *commands: Any, **fields: Any) -> str:
        return self.part.apply(self.batch(*commands, **fields)).outcome

    def launch(self, launch_id: str = "l1", count: int = 1, **fields: Any) -> LaunchInstances:
        given: dict[str, Any] = {
            "command_id": f"c-{launch_id}",
            "launch_id": launch_id,
            "count": count,
            "cloud": "cloud",
            "template": "worker",
            "reason": "wanted",
            "role": NodeRole(heartbeat_interval=10.0, drain_timeout=100.0),
            **fields,
        }
        return LaunchInstances(**given)

    def terminate(self, node_id: str) -> TerminateInstance:
        return TerminateInstance(command_id=f"t-{node_id}", node_id=node_id, reason="not needed")

    def drain(self, node_id: str, drain_timeout: float = 100.0) -> DrainInstance:
        return DrainInstance(
            command_id=f"d-{node_id}", node_id=node_id, reason="fewer", drain_timeout=drain_timeout
        )

    def enrol_and_report(self, node_id: str, ok: bool = True, **fields: Any) -> dict[str, Any]:
        self.part.node_enrolled(node_id, ["10.1.1.1"])
        return self.part.node_ready(ReadyReport(node_id=node_id, ok=ok, **fields))

    def running(self, count: int = 1, launch_id: str = "l1", **fields: Any) -> list[str]:
        """``count`` machines that are up, verified and listed."""
        assert self.apply(self.launch(launch_id, count, **fields)) == "applied"
        self.pass_time(15)
        nodes = [f"{launch_id}-{index}" for index in range(count)]
        for node in nodes:
            assert self.enrol_and_report(node)["accepted"]
        self.tick()
        return nodes

    def hears(self, *nodes: str, age: float = 1.0, **fields: Any) -> None:
        """The sensors service hears these nodes and nobody else."""
        signs = {node: {"node_id": node, "heard_age": age, **fields} for node in nodes}
        self.witness = {"blind": False, "observing_age": 10_000.0, "nodes": signs}

    # ------------------------------------------------------------ seeing

    def view(self, node_id: str, pool: str = POOL) -> InstanceView:
        found = {view.node_id: view for view in self.part.instances(pool).instances}
        return found[node_id]

    def state(self, node_id: str) -> InstanceState:
        return self.view(node_id).state

    def states(self, pool: str = POOL) -> dict[str, str]:
        return {view.node_id: view.state.value for view in self.part.instances(pool).instances}

    def history(self, node_id: str) -> list[str]:
        with self.engine.connect() as connection:
            rows = connection.exec_driver_sql(
                "select from_state, to_state from transitions where node_id = ? order by id",
                (node_id,),
            )
            return [row.to_state for row in rows]

    def machines(self, cloud: str = "cloud") -> list[str]:
        """Node ids of what really runs."""
        return sorted(f"{m.request.launch_id}-{m.index}" for m in self.clouds[cloud].machines)

    def ever_made(self, cloud: str = "cloud") -> int:
        return len(self.clouds[cloud].history)

    def events(self, name: str) -> list[Any]:
        return [event for event in self.part.events(limit=10_000) if event.name == name]


@pytest.fixture
def make_world(tmp_path: Path) -> Callable[..., World]:
    """``make_world(lag=…, clouds=(names), …)``: settings of every cloud in it.

    ``in_memory``: the store too, for long histories.
    """

    numbers = itertools.count()

    def make(
        clouds: tuple[str, ...] = ("cloud",), in_memory: bool = False, **settings: Any
    ) -> World:
        clock = Clock()
        made = {name: InMemoryCloud(InMemorySettings(**settings), clock) for name in clouds}
        return World(":memory:" if in_memory else tmp_path / f"{next(numbers)}.db", made, clock)

    return make


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """One cloud whose listings are 5 s late."""
    return make_world(lag=5.0)


@pytest.fixture
def exact_world(make_world: Callable[..., World]) -> World:
    """One cloud that reads the world itself, as ``process`` does."""
    return make_world(lag=0.0)
