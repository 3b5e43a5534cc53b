"""Controller, provisioner and sensors in one process, with every fault between them.

The controller is the real ``Keeper`` over a real store, the provisioner the real one over a
cloud whose listing lags, the sensors' memory is the real one; only the wire between them is
ours, so that it can lose a request, lose an answer, or die in between. What is judged is the
world: how many machines run, and how many were ever made.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.messages import CommandBatch, Heartbeat, ReadyReport
from agent.rpc_client import CallTimeout, RemoteError, UnknownService
from agent.wire import from_wire, to_wire
from coordinator.clouds.in_memory import InMemoryCloud, InMemorySettings
from coordinator.config import CoordinatorConfig
from coordinator.controller.keeper import Keeper
from coordinator.controller.records import PoolRecords
from coordinator.engines.base import Decision
from coordinator.engines.n_preserving import NPreserving
from coordinator.errors import ConfigProblem, EpuError, NotFound
from coordinator.events import EventLog
from coordinator.provisioner.launcher import Launcher
from coordinator.provisioner.provisioner import Provisioner
from coordinator.sensors.history import Observations
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


class Crash(BaseException):
    """kill -9 of the controller."""


class World:
    """``fault(service, method)`` is asked around each call: None, "before", "after", "crash"."""

    def __init__(self, directory: Path, lag: float = 5.0) -> None:
        self.now = 1_000_000.0
        self.directory = directory
        self.cloud = InMemoryCloud(InMemorySettings(lag=lag), lambda: self.now)
        self.observations = Observations(2.0, grace=4.0)
        self.fault: Callable[[str, str], str | None] = lambda service, method: None
        self.numbers = itertools.count(1)
        self.beats: dict[str, int] = {}
        self.silent: set[str] = set()
        self.launched_at: dict[str, float] = {}
        self.config = CoordinatorConfig(
            run="run", accounts="", state_dir=str(directory), clouds={"here": {}}
        )
        self.provisioner = self._provisioner()
        self.keeper = self.new_keeper()

    def _provisioner(self) -> Provisioner:
        store = open_store(self.directory / "provisioner.db")
        access = {"host": "127.0.0.1", "port": 1, "vhost": "v", "accounts": {}}
        return Provisioner(
            store,
            {"here": self.cloud},
            EventLog(store, "provisioner", "run", lambda: self.now),
            self.config,
            Launcher("run", b"key", access, render),
            self.call,
            lambda: self.now,
        )

    def new_keeper(self) -> Keeper:
        """What a restarted controller is: its store, and nothing else."""
        store = open_store(self.directory / "controller.db")
        return Keeper(
            self.config,
            PoolRecords(store),
            EventLog(store, "controller", "run", lambda: self.now),
            self.call,
            lambda: self.now,
            lambda prefix: f"{prefix}-{next(self.numbers):04d}",
            lambda work: work(),
        )

    def call(self, service: str, method: str, *args: Any, timeout: float | None = None) -> Any:
        fault = self.fault(service, method)
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
                return {p: to_wire(self.observations.report(p, (), self.now)) for p in args[0]}
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
        """One second of everybody's life."""
        self.now += 1.0
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
        self.observations.heard(beat, self.now)

    def live(self, seconds: int) -> None:
        for _ in range(seconds):
            self.step()

    def live_until(self, condition: Callable[[], bool], seconds: int = 120) -> None:
        for _ in range(seconds):
            if condition():
                return
            self.step()
        raise AssertionError(f"not within {seconds} s: {self.status()}, alive {self.alive()}")

    # ------------------------------------------------------------ what is there

    def alive(self) -> list[str]:
        return [f"{one.request.launch_id}-{one.index}" for one in self.cloud.machines]

    def made(self) -> int:
        """Machines ever started."""
        return len(self.cloud.history)

    def kill(self, node_id: str) -> None:
        found = [
            one.cloud_id
            for one in self.cloud.machines
            if f"{one.request.launch_id}-{one.index}" == node_id
        ]
        self.cloud.vanish(found[0])

    def status(self) -> dict[str, Any]:
        return self.keeper.pool(POOL)

    def stable(self) -> bool:
        return self.status()["state"] == "STABLE"


@pytest.fixture
def world(tmp_path: Path) -> World:
    found = World(tmp_path)
    found.keeper.add_pool(POOL, SECTION)
    return found


def test_a_pool_comes_up_to_its_size_and_stays_there(world: World) -> None:
    world.live_until(world.stable)
    world.live(200)
    assert len(world.alive()) == 2 and world.made() == 2


def test_one_lost_machine_is_exactly_one_replacement(world: World) -> None:
    world.live_until(world.stable)
    world.kill(world.alive()[0])
    world.live(5)
    world.live_until(world.stable)
    world.live(100)
    assert len(world.alive()) == 2 and world.made() == 3


def test_a_silent_machine_is_ended_and_replaced_once(world: World) -> None:
    world.live_until(world.stable)
    victim = world.alive()[0]
    world.silent.add(victim)
    world.live_until(lambda: victim not in world.alive(), 60)
    world.live_until(world.stable)
    assert len(world.alive()) == 2 and world.made() == 3


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("lost", [1, 3, 10])
def test_lost_messages_cost_only_time(world: World, when: str, lost: int) -> None:
    left = [lost]

    def fault(service: str, method: str) -> str | None:
        if method == "apply" and left[0]:
            left[0] -= 1
            return when
        return None

    world.fault = fault
    world.live_until(world.stable)
    assert left == [0], "the fault must have happened"
    assert len(world.alive()) == 2 and world.made() == 2


def test_a_claim_delivered_again_does_not_freeze_the_controller_that_made_it(
    world: World,
) -> None:
    """nameko gives a request again that a killed or disconnected provisioner did not ack."""
    original, claims = world._answer, []

    def deliver_twice(service: str, method: str, *args: Any) -> Any:
        answer = original(service, method, *args)
        if method == "claim_epoch":
            claims.append(answer)
            original(service, method, *args)
        return answer

    world._answer = deliver_twice  # type: ignore[method-assign]
    world.live_until(world.stable)
    assert claims and len(world.alive()) == 2


@pytest.mark.parametrize("how", ["crash", "crash after"])
@pytest.mark.parametrize("call", range(1, 9))
def test_a_controller_killed_at_any_call_doubles_nothing(
    tmp_path: Path, how: str, call: int
) -> None:
    """While a pool grows, loses a machine and is reconfigured, at each kind of call."""
    world = World(tmp_path)
    world.keeper.add_pool(POOL, SECTION)
    counts = {"apply": 0, "snapshots": 0, "claim_epoch": 0, "reports": 0}
    died = [0]

    def fault(service: str, method: str) -> str | None:
        if method not in counts or died[0]:
            return None
        counts[method] += 1
        wanted = {1: "apply", 2: "apply", 3: "apply", 4: "snapshots", 5: "snapshots"}
        wanted |= {6: "claim_epoch", 7: "reports", 8: "reports"}
        number = {1: 1, 2: 2, 3: 3, 4: 2, 5: 9, 6: 1, 7: 2, 8: 9}
        if method == wanted[call] and counts[method] == number[call]:
            died[0] += 1
            return how
        return None

    world.fault = fault
    lost = False
    for second in range(120):
        try:
            world.step()
        except Crash:
            world.keeper = world.new_keeper()
        if second == 30:
            world.kill(world.alive()[0])
            lost = True
        if second == 60:
            world.keeper.reconfigure(POOL, {"engine.preserve_n": 4})
    assert lost and died == [1], f"the controller was to be killed once: {counts}"
    assert len(world.alive()) == 4
    assert world.made() == 5, "two, one for the lost one, two more"


def test_a_stored_batch_is_sent_again_with_the_same_ids_by_the_next_controller(
    world: World,
) -> None:
    sent: list[str] = []
    original = world._answer

    def remember(service: str, method: str, *args: Any) -> Any:
        if method == "apply":
            sent.append(args[0]["batch_id"])
        return original(service, method, *args)

    world._answer = remember  # type: ignore[method-assign]
    world.fault = lambda service, method: "crash after" if method == "apply" else None
    with pytest.raises(Crash):
        world.live(5)
    world.fault = lambda service, method: None
    world.keeper = world.new_keeper()
    world.live(2)
    assert len(sent) >= 2 and sent[0] == sent[1]
    assert world.made() == 2


def test_a_controller_that_was_replaced_stands_aside(world: World) -> None:
    world.live_until(world.stable)
    old, world.keeper = world.keeper, world.new_keeper()
    world.keeper.reconfigure(POOL, {"engine.preserve_n": 3})
    world.live_until(world.stable)
    # The old one still believes in two and now sees three.
    world.keeper, new = old, world.keeper
    world.live(10)
    assert "another controller" in world.status()["reason"]
    world.keeper = new
    world.live(20)
    assert len(world.alive()) == 3 and world.made() == 3


def test_while_the_provisioner_is_away_pools_are_held_and_say_why(world: World) -> None:
    world.live_until(world.stable)
    world.fault = lambda service, method: "before" if service == "provisioner" else None
    world.live(3)
    assert world.status()["state"] == "HELD"
    assert "the provisioner does not answer" in world.status()["reason"]
    world.fault = lambda service, method: None
    world.live_until(world.stable, 10)


def test_without_sensors_nobody_is_missing_and_a_vanished_machine_is_still_replaced(
    world: World,
) -> None:
    world.live_until(world.stable)
    world.fault = lambda service, method: (
        "before" if (service, method) == ("sensors", "reports") else None
    )
    world.silent.update(world.alive())
    world.live(300)
    assert len(world.alive()) == 2 and world.made() == 2, "silence proves nothing to the blind"
    assert world.status()["state"] == "HELD"


def test_an_illegal_reconfigure_changes_nothing_and_a_legal_one_survives_a_restart(
    world: World,
) -> None:
    with pytest.raises(ConfigProblem, match="preserve_n"):
        world.keeper.reconfigure(POOL, {"engine.preserve_n": -1})
    with pytest.raises(ConfigProblem, match="unknown cloud 'nowhere'"):
        world.keeper.reconfigure(POOL, {"clouds": ["nowhere"]})
    with pytest.raises(NotFound, match="did you mean 'pool'"):
        world.keeper.reconfigure("poll", {"engine.preserve_n": 1})
    assert world.status()["engine"]["preserve_n"] == 2
    world.keeper.reconfigure(POOL, {"engine.preserve_n": 1})
    assert world.new_keeper().pool(POOL)["engine"]["preserve_n"] == 1


def test_adding_the_same_pool_again_changes_nothing_and_another_is_refused(world: World) -> None:
    assert world.keeper.add_pool(POOL, SECTION) is False
    with pytest.raises(ConfigProblem, match="a pool of this name is kept"):
        world.keeper.add_pool(POOL, {**SECTION, "max": 3})


def test_a_frozen_controller_replaces_nobody_and_an_unfrozen_one_catches_up(world: World) -> None:
    world.live_until(world.stable)
    world.keeper.freeze("teardown")
    world.kill(world.alive()[0])
    world.live(60)
    assert len(world.alive()) == 1 and world.status()["state"] == "HELD"
    world.keeper.unfreeze()
    world.live_until(world.stable)
    assert len(world.alive()) == 2


def test_the_reasoning_of_a_cycle_is_kept_for_later(world: World) -> None:
    world.live(1)
    first = world.now
    world.live_until(world.stable)
    world.keeper.reconfigure(POOL, {"engine.preserve_n": 3})
    world.live_until(lambda: world.status()["wanted"] == 3)
    assert world.keeper.explain(POOL)["wanted"] == 3
    assert world.keeper.explain(POOL, at=first)["wanted"] == 2
    with pytest.raises(NotFound, match="nothing has been decided"):
        world.keeper.explain(POOL, at=first - 1000)


def test_a_cycle_without_change_writes_nothing(world: World) -> None:
    world.live_until(world.stable)
    world.live(3)
    store = world.directory / "controller.db-wal"
    before = store.stat().st_size, store.stat().st_mtime_ns
    world.live(60)
    assert (store.stat().st_size, store.stat().st_mtime_ns) == before


def test_an_engine_that_raises_holds_its_own_pool_only(world: World) -> None:
    other = {**SECTION, "engine": {"type": "tests_engines:Raises"}}
    import sys
    import types

    class Raises:
        from coordinator.engines.n_preserving import NPreserving as _Kept

        Settings = _Kept.Settings

        def decide(self, view: Any) -> Any:
            raise RuntimeError("no idea")

    module = types.ModuleType("tests_engines")
    module.Raises = Raises  # type: ignore[attr-defined]
    sys.modules["tests_engines"] = module
    world.keeper.add_pool("other", other)
    world.live_until(world.stable)
    found = world.keeper.pool("other")
    assert found["state"] == "HELD" and "no idea" in found["reason"]


def test_a_pool_that_is_removed_while_another_ones_batch_is_sent_gets_no_commands(
    world: World,
) -> None:
    world.keeper.add_pool("zweite", SECTION)

    def fault(service: str, method: str) -> str | None:
        if method == "apply" and "zweite" in world.keeper.names():
            world.keeper.remove_pool("zweite")
        return None

    world.fault = fault
    world.live_until(world.stable)
    assert world.made() == 2


def test_reasons_that_differ_in_their_figures_only_are_one_decision(world: World) -> None:
    class Counts:
        Settings = NPreserving.Settings

        def decide(self, view: Any) -> Decision:
            return Decision(size=2, reason=f"{view.now:.1f} messages ready", memory={})

    world.keeper._pools[POOL].engine = Counts()
    world.live_until(world.stable)
    world.live(3)
    store = world.directory / "controller.db-wal"
    before = store.stat().st_size, store.stat().st_mtime_ns
    world.live(60)
    assert (store.stat().st_size, store.stat().st_mtime_ns) == before
    assert f"{world.now:.1f}" in world.keeper.explain(POOL)["sentence"]
