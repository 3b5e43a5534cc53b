"""The provisioner killed at random while it launches and terminates; the real process.

Its controller is the real ``Keeper`` in this process, its cloud outlives it in a file, its
agents are simulated by calls over the broker. In the end machines = records = wanted, and
no machine was ever made twice.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from agent.messages import (
    BrokerAccess,
    CommandBatch,
    Heartbeat,
    LaunchInstances,
    ReadyReport,
    TerminateInstance,
)
from agent.rpc_client import CallFailed, RpcClient, UnknownService
from agent.wire import to_wire
from coordinator.config import CoordinatorConfig, write_config
from coordinator.controller.keeper import Keeper
from coordinator.controller.records import PoolRecords
from coordinator.events import EventLog
from coordinator.sensors.history import Observations
from coordinator.store.session import open_store
from coordinator.testing import eventually
from tests.hard_ec2 import Chaos, Fault, HardEc2, Lag, Machine
from tests.hard_ec2.account import IMAGE
from tests.shelf_cloud import ShelfCloud

pytestmark = pytest.mark.integration

POOL = "shelf"
DRIVER = "tests.shelf_cloud:ShelfCloud"
BOOT_TIME = 0.5
SECTION = {
    "programs": {"worker": {"command": ["work"]}},
    "heartbeat_interval": 5,
    "drain_timeout": 1,
    "engine": {"type": "n_preserving", "preserve_n": 0},
}


class World(Protocol):
    """What is really there, by node id: of each machine once."""

    def alive(self) -> list[str]: ...

    def ages(self) -> dict[str, float]: ...

    def made(self) -> list[str]: ...


class Ec2World:
    """The machines of a hard-mode EC2, whose world outlives every provisioner."""

    def __init__(self, ec2: HardEc2) -> None:
        self._ec2 = ec2

    def alive(self) -> list[str]:
        return sorted(_node_of(machine) for machine in self._ec2.machines)

    def ages(self) -> dict[str, float]:
        now = time.time()
        return {_node_of(machine): now - machine.created.at for machine in self._ec2.machines}

    def made(self) -> list[str]:
        return sorted(_node_of(machine) for machine in self._ec2.world.history)


def _node_of(machine: Machine) -> str:
    base = int(machine.tags.get("epu:index-base", "0"))
    return f"{machine.tags['epu:launch']}-{base + machine.index}"


class System:
    """``step`` is a moment of the controller's and every agent's life."""

    def __init__(
        self,
        access: BrokerAccess,
        directory: Path,
        more_clouds: dict[str, dict[str, str]] | None = None,
        driver: str = DRIVER,
        world: World | None = None,
        **settings: str,
    ) -> None:
        accounts = directory / "accounts.json"
        accounts.touch(mode=0o600)
        accounts.write_text(json.dumps(to_wire(access)))
        shelf = {"file": str(directory / "shelf.db"), **settings}
        given = shelf if world is None else settings
        self.config = CoordinatorConfig(
            run=f"run-{uuid.uuid4().hex[:6]}",
            accounts=str(accounts),
            state_dir=str(directory / "coordinator"),
            clouds={"shelf": {"driver": driver, **given}, **(more_clouds or {})},
            listing_interval=1.0,
        )
        self.file = write_config(self.config)
        self.cloud: World = world or ShelfCloud(shelf)
        self.client = RpcClient(access.amqp_url("coordinator"), timeout=5.0)
        self.observations = Observations(2.0, grace=0.0)
        self.accepted: set[str] = set()
        self.beats = 0
        self.boot_time = BOOT_TIME
        self.log = (directory / "provisioner.log").open("ab")
        self.processes: list[subprocess.Popen[bytes]] = []
        self.registrar = self._service("tests.integration.registrar_stub")
        store = open_store(self.config.store_path("controller"))
        self.keeper = Keeper(
            self.config,
            PoolRecords(store),
            EventLog(store, "controller", self.config.run, time.time),
            self.call,
            time.time,
            lambda prefix: f"{prefix}-{uuid.uuid4().hex[:10]}",
            lambda work: None,
        )

    def start(self) -> None:
        self.processes.append(self._service("coordinator.provisioner.service"))

    def _service(self, module: str) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", module, "--config", str(self.file)]
        return subprocess.Popen(words, stderr=self.log)

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait(10)
        self.processes.clear()

    def close(self) -> None:
        self.kill()
        self.registrar.kill()
        self.registrar.wait(10)
        self.client.close()
        self.log.close()

    def call(self, service: str, method: str, *args: Any, timeout: float | None = None) -> Any:
        if service == "sensors" and method == "reports":
            now = time.time()
            return {pool: to_wire(self.observations.report(pool, (), now)) for pool in args[0]}
        if service != "provisioner":
            raise UnknownService(service)
        return self.client.call(service, method, *args)

    def step(self) -> None:
        now = time.time()
        self.observations.loopback(now)
        self.beats += 1
        for node_id, age in self.cloud.ages().items():
            if age < self.boot_time:
                continue
            if node_id not in self.accepted:
                self._report(node_id)
            beat = Heartbeat(
                node_id=node_id,
                pool=POOL,
                boot_id="b",
                sequence=self.beats,
                sent_at=now,
                ready=True,
            )
            self.observations.heard(beat, now)
        self.keeper.cycle()

    def _report(self, node_id: str) -> None:
        try:
            self.client.call("provisioner", "node_enrolled", node_id, [])
            report = to_wire(ReadyReport(node_id=node_id, ok=True))
            if self.client.call("provisioner", "node_ready", report)["accepted"]:
                self.accepted.add(node_id)
        except CallFailed:
            return  # it is down; an agent repeats itself

    def live(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.step()

    def is_settled(self, wanted: int) -> bool:
        """Whether the controller wants nothing more, and cloud and store agree with it."""
        self.step()
        status = self.keeper.pool(POOL)
        records = sorted(one["node_id"] for one in status["instances"])
        return (
            status["state"] == "STABLE"
            and len(records) == wanted
            and self.cloud.alive() == records
            and self.stored().get("RUNNING") == wanted
        )

    def stored(self) -> dict[str, int]:
        """How many records of each state are in the provisioner's store, read from its file."""
        store = open_store(self.config.store_path("provisioner"))
        with store.connect() as connection:
            sql = "select state, count(*) from instances group by state"
            found = dict(tuple(row) for row in connection.exec_driver_sql(sql))
        store.dispose()
        return found


@pytest.fixture
def make_system(broker: BrokerAccess, tmp_path: Path) -> Iterator[Callable[..., System]]:
    made: list[System] = []

    def make(**settings: Any) -> System:
        made.append(System(broker, tmp_path, **settings))
        return made[-1]

    yield make
    for system in made:
        system.close()


def killed_at_random(system: System, kills: int, machines: int, rng: random.Random) -> None:
    """The pool's size changes at random and its provisioner dies at random, ``kills`` times."""
    system.start()
    system.keeper.add_pool(POOL, SECTION)
    for number in range(kills):
        wanted = machines if number % 2 == 0 else rng.randrange(machines // 2)
        system.keeper.reconfigure(POOL, {"engine.preserve_n": wanted})
        if number % 5:  # in the thick of its work; else perhaps while it starts
            eventually(lambda: _status(system), 60, what="the provisioner answers")
        system.live(rng.uniform(0.1, 2.5))
        system.kill()
        system.start()
    system.keeper.reconfigure(POOL, {"engine.preserve_n": machines})
    eventually(
        lambda: system.is_settled(machines),
        180,
        what=f"{machines} machines, each with its record",
    )
    made = system.cloud.made()
    assert len(made) == len(set(made)), "an intent became two machines"
    assert {"TERMINATED", "RUNNING"} >= set(system.stored())


def test_a_provisioner_killed_at_random_leaves_as_many_machines_as_wanted(
    make_system: Callable[..., System],
) -> None:
    system = make_system(lag="1", slow="0.3", lose="0.1")
    killed_at_random(system, kills=4, machines=40, rng=random.Random(4))


@pytest.mark.soak
@pytest.mark.parametrize("batch_limit", ["100", "7"])
def test_a_provisioner_killed_fifty_times_leaves_two_hundred_machines(
    make_system: Callable[..., System], batch_limit: str
) -> None:
    system = make_system(lag="2", slow="0.5", lose="0.1", batch_limit=batch_limit)
    killed_at_random(system, kills=50, machines=200, rng=random.Random(50))


@pytest.fixture
def ec2() -> Iterator[HardEc2]:
    with HardEc2(seed=1) as endpoint:
        yield endpoint


def on_ec2(make_system: Callable[..., System], ec2: HardEc2) -> System:
    ec2.world.lag = Lag(seconds=1.0)
    return make_system(
        driver="ec2",
        world=Ec2World(ec2),
        region="us-east-1",
        endpoint=ec2.url,
        access_key="AKIATEST",
        secret_key="topsecret",
        image=IMAGE,
        type="t3.small",
        consistency_window="2",
    )


def test_a_provisioner_killed_at_random_over_ec2_leaves_as_many_machines_as_wanted(
    make_system: Callable[..., System], ec2: HardEc2
) -> None:
    ec2.script.chaos = Chaos(lose_replies=0.1, errors_before=0.05, errors_after=0.05)
    killed_at_random(on_ec2(make_system, ec2), kills=3, machines=30, rng=random.Random(3))


@pytest.mark.soak
def test_a_provisioner_killed_fifty_times_over_ec2_leaves_two_hundred_machines(
    make_system: Callable[..., System], ec2: HardEc2
) -> None:
    ec2.script.chaos = Chaos(lose_replies=0.1, errors_before=0.05, errors_after=0.05)
    killed_at_random(on_ec2(make_system, ec2), kills=50, machines=200, rng=random.Random(51))


@pytest.mark.parametrize("honours_tokens", [True, False])
def test_a_lost_reply_of_ec2_doubles_machines_only_where_tokens_mean_nothing(
    make_system: Callable[..., System], ec2: HardEc2, honours_tokens: bool
) -> None:
    """The test of the test above: it must be able to see what the token prevents."""
    ec2.world.honours_tokens = honours_tokens
    ec2.fail_next("RunInstances", Fault.lost_reply())
    system = on_ec2(make_system, ec2)
    # For so long neither of the two witnesses tells of a machine: the call is repeated.
    ec2.world.lag = Lag(seconds=30.0)
    system.boot_time = 30.0
    system.start()
    system.keeper.add_pool(POOL, {**SECTION, "engine": {"preserve_n": 3}})
    eventually(
        lambda: ec2.count("RunInstances", "ok") >= 1 or system.live(0.1), 60, what="a repeat"
    )
    doubled = len(set(system.cloud.made())) < len(system.cloud.made())
    assert doubled is not honours_tokens


def test_pr_4_two_provisioner_processes_make_one_machine_per_index(
    make_system: Callable[..., System],
) -> None:
    """PR-4, concurrently: both serve the same queue and loop over the same store."""
    system = make_system(lag="1", slow="0.3", lose="0.3")
    system.start()
    system.start()
    eventually(lambda: _status(system), 60, what="a provisioner answers")
    command = LaunchInstances(
        command_id="c", launch_id="l", count=20, cloud="shelf", template="worker", reason="r"
    )
    outcomes = []
    for number in range(6):
        snapshot = system.client.call("provisioner", "instances", POOL)
        batch = CommandBatch(
            batch_id=f"b{number // 2}",
            pool=POOL,
            based_on=snapshot["version"],
            epoch=0,
            launches=(command,),
        )
        answer = system.client.call("provisioner", "apply", to_wire(batch), timeout=30)
        outcomes.append(answer["outcome"])
    assert outcomes[0] == "applied"
    eventually(lambda: system.stored() == {"BOOTING": 20}, 60, what="twenty boot")
    assert system.cloud.made() == sorted(f"l-{index}" for index in range(20))


def test_a_cloud_that_hangs_delays_no_launch_and_no_termination_of_another(
    make_system: Callable[..., System], tmp_path: Path
) -> None:
    hanging = {"driver": DRIVER, "file": str(tmp_path / "hanging.db"), "slow": "100000"}
    system = make_system(more_clouds={"hanging": hanging})
    system.start()
    eventually(lambda: _status(system), 60, what="the provisioner answers")

    def apply(batch_id: str, **commands: Any) -> None:
        snapshot = system.client.call("provisioner", "instances", POOL)
        batch = CommandBatch(
            batch_id=batch_id, pool=POOL, based_on=snapshot["version"], epoch=0, **commands
        )
        answer = system.client.call("provisioner", "apply", to_wire(batch), timeout=30)
        assert answer["outcome"] == "applied"

    def launch(launch_id: str, cloud: str) -> LaunchInstances:
        return LaunchInstances(
            command_id=f"c-{launch_id}",
            launch_id=launch_id,
            count=3,
            cloud=cloud,
            template="worker",
            reason="wanted",
        )

    apply("one", launches=(launch("h", "hanging"),))
    eventually(lambda: system.stored() == {"LAUNCHING": 3}, 30, what="it hangs in its launch")
    apply("two", launches=(launch("g", "shelf"),))
    eventually(lambda: system.stored() == {"LAUNCHING": 3, "BOOTING": 3}, 30, what="g boots")
    ends = [TerminateInstance(command_id=f"t{i}", node_id=f"g-{i}", reason="r") for i in range(3)]
    apply("three", terminations=tuple(ends))
    eventually(lambda: system.stored() == {"LAUNCHING": 3, "TERMINATED": 3}, 30, what="g ends")
    assert system.cloud.alive() == []
    told = system.client.call("provisioner", "instances", POOL)["clouds"]
    assert told["hanging"]["silent_for"] > 0 == told["shelf"]["silent_for"]


def _status(system: System) -> Any:
    try:
        return system.client.call("provisioner", "status")
    except CallFailed:
        return None
