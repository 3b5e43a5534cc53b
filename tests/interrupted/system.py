"""Controller, provisioner and sensors in one process, with every fault between them.

The controller is the real ``Keeper`` over a real store, the provisioner the real one over
clouds whose listings lag, the sensors' memory is the real one; only the wire between them is
ours, so that it can lose a request, lose an answer, or die in between.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from agent.messages import CommandBatch, Heartbeat, ReadyReport
from agent.rpc_client import CallTimeout, RemoteError, UnknownService
from agent.wire import from_wire, to_wire
from coordinator.clouds.in_memory import InMemoryCloud, InMemorySettings
from coordinator.config import CoordinatorConfig
from coordinator.controller.keeper import Keeper
from coordinator.controller.records import PoolRecords
from coordinator.controller.sources import Sources, no_sources
from coordinator.errors import EpuError, NotFound
from coordinator.events import EventLog
from coordinator.provisioner.launcher import Launcher
from coordinator.provisioner.provisioner import Provisioner
from coordinator.sensors.history import Observations
from coordinator.sensors.queue_length import reading_names
from coordinator.store.session import open_store
from userdata_templates.render import render

POOL = "pool"
BOOT_TIME = 3.0
SECTION = {
    "programs": {"worker": {"command": ["work"]}},
    "heartbeat_interval": 1,
    "engine": {"type": "n_preserving", "preserve_n": 2},
    "health": {"missing_timeout": 10, "really_missing_timeout": 5},
}


def names_of(queues: Iterable[str]) -> tuple[str, ...]:
    """The names of the readings of some queues."""
    return tuple(name for queue in queues for name in reading_names(queue))


class Crash(BaseException):
    """kill -9 of the controller."""


class World:
    """``fault(service, method)`` is asked around each call: None, "before", "after", "crash".

    ``tick``: seconds of a step. ``broker_away``: nobody hears anybody. ``deaf``: the sensors
    service takes nothing in.
    """

    def __init__(
        self, directory: Path, lag: float = 5.0, clouds: tuple[str, ...] = ("here",)
    ) -> None:
        self.now = 1_000_000.0
        self.directory = directory
        self.clouds = {
            name: InMemoryCloud(InMemorySettings(lag=lag), lambda: self.now) for name in clouds
        }
        self.cloud = self.clouds[clouds[0]]
        self.observations = Observations(2.0, grace=4.0)
        self.fault: Callable[[str, str], str | None] = lambda service, method: None
        self.numbers = itertools.count(1)
        self.beats: dict[str, int] = {}
        self.silent: set[str] = set()
        self.broker_away = self.deaf = False
        self.tick = 1.0
        self.launched_at: dict[str, float] = {}
        self.sources: Sources = no_sources
        self.config = CoordinatorConfig(
            run="run", accounts="", state_dir=str(directory), clouds={name: {} for name in clouds}
        )
        self.provisioner = self.new_provisioner()
        self.keeper = self.new_keeper()

    def new_provisioner(self) -> Provisioner:
        """What a restarted provisioner is: its store, and nothing else."""
        store = open_store(self.directory / "provisioner.db")
        access = {"host": "127.0.0.1", "port": 1, "vhost": "v", "accounts": {}}
        return Provisioner(
            store,
            self.clouds,
            EventLog(store, "provisioner", "run", lambda: self.now),
            self.config,
            Launcher("run", b"key", access, render),
            self.call,
            lambda: self.now,
        )

    def new_keeper(self) -> Keeper:
        """What a restarted controller is: its store, and nothing else."""
        name = self.config.controller_name
        store = open_store(self.config.store_path(name))
        return Keeper(
            self.config,
            PoolRecords(store),
            EventLog(store, name, "run", lambda: self.now),
            self.call,
            lambda: self.now,
            lambda prefix: f"{prefix}-{next(self.numbers):04d}",
            lambda work: work(),
            sources=self.sources,
        )

    def call(self, service: str, method: str, *args: Any, timeout: float | None = None) -> Any:
        fault = "before" if self.broker_away else self.fault(service, method)
        if fault == "before":
            raise CallTimeout(f"{service}.{method}: the request was lost")
        if fault == "crash":
            raise Crash
        answer = json.loads(
            json.dumps(self._answer(service, method, *json.loads(json.dumps(args))))
        )
        if fault == "after":
            raise CallTimeout(f"{service}.{method}: the answer was lost")
        if fault == "crash after":
            raise Crash
        return answer

    def _answer(self, service: str, method: str, *args: Any) -> Any:
        try:
            if service == "provisioner":
                given = (from_wire(CommandBatch, args[0]),) if method == "apply" else args
                return to_wire(getattr(self.provisioner, method)(*given))
            if service == "sensors" and method == "reports":
                return {
                    pool: to_wire(self.observations.report(pool, names_of(queues), self.now))
                    for pool, queues in args[0].items()
                }
            if service == "sensors" and method == "witness":
                found = {node: self.observations.signs(node, self.now) for node in args[0]}
                return {
                    "blind": self.observations.blind(self.now),
                    "observing_age": self.observations.observing_age(self.now),
                    "nodes": to_wire({node: one for node, one in found.items() if one}),
                }
        except EpuError as problem:
            raise RemoteError(type(problem).__name__, str(problem)) from None
        raise UnknownService(service)

    # ------------------------------------------------------------ time

    def step(self) -> None:
        """A tick, a second by default, of everybody's life."""
        self.now += self.tick
        if not self.broker_away:
            if not self.deaf:
                self.observations.loopback(self.now)
            for node_id in self.alive():
                self._agent(node_id)
        for cloud in self.provisioner.due():
            self.provisioner.reconcile(cloud)
        self.provisioner.drain_step()
        self.keeper.cycle()

    def _agent(self, node_id: str) -> None:
        """A machine's agent: reports ready after its boot time, then beats."""
        if node_id in self.silent:
            return
        born = self.launched_at.setdefault(node_id, self.now)
        if self.now - born < BOOT_TIME:
            return
        if node_id not in self.beats:
            launch_id, _, index = node_id.rpartition("-")
            try:
                self.provisioner.node_for_enrolment(launch_id, int(index))
            except NotFound:
                return
            self.provisioner.node_enrolled(node_id, [])
            self.provisioner.node_ready(ReadyReport(node_id=node_id, ok=True))
        self.beats[node_id] = self.beats.get(node_id, 0) + 1
        beat = Heartbeat(
            node_id=node_id,
            pool=POOL,
            boot_id="b",
            sequence=self.beats[node_id],
            sent_at=0.0,
            ready=True,
        )
        if not self.deaf:
            self.observations.heard(beat, self.now)

    def live(self, seconds: int) -> None:
        for _ in range(round(seconds / self.tick)):
            self.step()

    def live_until(self, condition: Callable[[], bool], seconds: int = 120) -> None:
        for _ in range(round(seconds / self.tick)):
            if condition():
                return
            self.step()
        raise AssertionError(f"not within {seconds} s: {self.status()}, alive {self.alive()}")

    # ------------------------------------------------------------ what is there

    def alive(self) -> list[str]:
        return [node for cloud in self.clouds for node in self.alive_on(cloud)]

    def alive_on(self, cloud: str) -> list[str]:
        machines = self.clouds[cloud].machines
        return [f"{one.request.launch_id}-{one.index}" for one in machines]

    def made(self) -> int:
        """Machines ever started."""
        return sum(len(cloud.history) for cloud in self.clouds.values())

    def kill(self, node_id: str) -> None:
        for cloud in self.clouds.values():
            for one in cloud.machines:
                if f"{one.request.launch_id}-{one.index}" == node_id:
                    cloud.vanish(one.cloud_id)
                    return
        raise KeyError(node_id)

    def status(self) -> dict[str, Any]:
        return self.keeper.pool(POOL)

    def stable(self) -> bool:
        return self.status()["state"] == "STABLE"
