"""Machines of services against a cloud that lags, loses replies and takes machines away."""

from __future__ import annotations

from pathlib import Path
from threading import Event
from typing import Any

import pytest

from bootlevels.cloud_drivers import CloudDrivers
from bootlevels.machine_record import MachineLife
from bootlevels.machines import Machines, MachineTrouble, Patience, WantedMachine
from bootlevels.plan import LaunchPlan
from bootlevels.record import Record
from coordinator.clouds.base import LaunchRequest
from coordinator.clouds.in_memory import InMemoryCloud, InMemorySettings
from coordinator.errors import CredentialsRejected, InsufficientCapacity, LaunchRefused, RetryLater

WEB = WantedMachine(service="web", cloud="here", settings={"type": "small"}, user_data="text")


class World:
    """One cloud, one record, and as many boot tools as a test likes."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.cloud = InMemoryCloud(InMemorySettings(**{"lag": 0.0, **settings}))
        plan = LaunchPlan(name="p", levels=())
        self.record = Record.create(directory, "run", plan, {}, 1.0)

    def machines(self) -> Machines:
        drivers = CloudDrivers(lambda _: {}, Path("/nowhere"), {"here": self.cloud})
        return Machines("run", self.record, drivers, clock=lambda: 5.0)

    def ensure(self, timeout: float = 10.0) -> Any:
        return self.machines().ensure(WEB, patience(timeout), lambda _: None)

    def lives(self) -> list[MachineLife]:
        return [machine.life for machine in self.record.machines("web")]


def patience(seconds: float = 10.0) -> Patience:
    return Patience.of(seconds, Event())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_machine_is_on_record_before_the_cloud_is_asked(world: World) -> None:
    world.cloud.fail_next("launch", LaunchRefused("no such image"))
    with pytest.raises(MachineTrouble, match="no such image"):
        world.ensure()
    assert world.lives() == [MachineLife.INTENDED]
    machine = world.ensure()
    assert len(world.cloud.history) == 1
    assert world.lives() == [MachineLife.LISTED]
    (stored,) = world.record.machines("web")
    assert (stored.cloud_id, stored.addresses) == (machine.cloud_id, machine.addresses)
    assert world.cloud.machines[0].request == LaunchRequest(
        launch_id=machine.launch_id,
        run="run",
        pool="web",
        count=1,
        user_data="text",
        settings={"type": "small"},
    )


def test_why_a_cloud_launches_nothing_is_told_while_it_is_waited_for(world: World) -> None:
    world.cloud.fail_next("launch", RetryLater("the endpoint does not answer"))
    told: list[str] = []
    world.machines().ensure(WEB, patience(), told.append)
    assert told[0] == "cloud 'here' launches nothing: the endpoint does not answer"


def test_again_is_the_same_machine(world: World) -> None:
    first = world.ensure()
    assert world.ensure().cloud_id == first.cloud_id
    assert len(world.cloud.history) == 1


@pytest.mark.parametrize("lag", [0.0, 0.2, 0.6])
def test_a_lost_reply_and_a_lagging_listing_make_one_machine(tmp_path: Path, lag: float) -> None:
    world = World(tmp_path, lag=lag)
    world.cloud.fail_next("launch", RetryLater("the reply was lost"), after_acting=True)
    world.ensure()
    assert len(world.cloud.history) == 1


@pytest.mark.parametrize("lag", [0.0, 0.2, 0.6])
def test_a_boot_tool_killed_after_the_launch_leaves_nothing_that_is_not_ended(
    tmp_path: Path, lag: float
) -> None:
    world = World(tmp_path, lag=lag)
    machine = world.machines().request(WEB, patience())
    assert machine.life is MachineLife.INTENDED  # killed here, before any listing
    assert len(world.cloud.machines) == 1
    (stored,) = world.record.machines("web")
    world.machines().end(stored, patience())
    assert world.cloud.machines == []
    assert world.lives() == [MachineLife.GONE]


def test_an_intent_that_was_never_carried_out_ends_without_a_machine(tmp_path: Path) -> None:
    world = World(tmp_path, lag=0.2)
    world.record.machine_intended("web", "web-1", "here", 1.0)
    (stored,) = world.record.machines("web")
    world.machines().end(stored, patience())
    assert world.lives() == [MachineLife.GONE]
    assert world.cloud.history == []


def test_a_machine_that_went_away_is_replaced_by_one(world: World) -> None:
    first = world.ensure()
    world.cloud.vanish(first.cloud_id)
    second = world.ensure()
    assert second.cloud_id != first.cloud_id
    assert len(world.cloud.machines) == 1
    assert world.lives() == [MachineLife.GONE, MachineLife.LISTED]


def test_a_blink_replaces_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, lag=0.3, blink=0.5, seed=1)
    for _ in range(5):
        world.ensure()
    assert len(world.cloud.history) == 1


def test_a_machine_that_dies_at_once_is_ended_and_reported(tmp_path: Path) -> None:
    world = World(tmp_path, boot_time=60.0)

    def told(_: str) -> None:
        world.cloud.vanish(world.cloud.history[0].cloud_id)

    with pytest.raises(MachineTrouble, match="is GONE"):
        world.machines().ensure(WEB, patience(), told)
    assert world.lives() == [MachineLife.GONE]
    assert len(world.cloud.history) == 1


def test_a_full_cloud_is_waited_for_until_the_deadline(world: World) -> None:
    world.cloud.fail_next("launch", *[InsufficientCapacity("full")] * 9)
    with pytest.raises(MachineTrouble, match="full"):
        world.ensure(timeout=0.2)
    assert world.lives() == [MachineLife.INTENDED]


def test_rejected_credentials_are_not_tried_again(world: World) -> None:
    world.cloud.fail_next("launch", CredentialsRejected("wrong key"))
    with pytest.raises(MachineTrouble, match="wrong key"):
        world.ensure()
    assert world.cloud.calls.count("launch") == 1


def test_a_cloud_that_can_not_be_asked_ends_nothing_and_forgets_nothing(world: World) -> None:
    world.ensure()
    world.cloud.fail_next("list_instances", *[RetryLater("down")] * 50)
    (stored,) = world.record.machines("web")
    with pytest.raises(MachineTrouble, match="down"):
        world.machines().end(stored, patience(0.2))
    assert world.lives() == [MachineLife.LISTED]
    assert len(world.cloud.machines) == 1


def test_a_termination_whose_reply_is_lost_is_repeated(tmp_path: Path) -> None:
    world = World(tmp_path, lag=0.2)
    machine = world.ensure()
    world.cloud.fail_next("terminate", RetryLater("lost"), after_acting=True)
    world.machines().end(machine, patience())
    assert world.cloud.machines == []
    assert world.lives() == [MachineLife.GONE]


def test_waiting_ends_when_told_to_stop(tmp_path: Path) -> None:
    world = World(tmp_path, boot_time=60.0)
    stop = Event()
    with pytest.raises(MachineTrouble) as found:
        world.machines().ensure(WEB, Patience.of(30.0, stop), lambda _: stop.set())
    assert found.value.interrupted


def test_many_who_wait_ask_the_cloud_together(world: World) -> None:
    from concurrent.futures import ThreadPoolExecutor
    from dataclasses import replace

    drivers = CloudDrivers(lambda _: {}, Path("/nowhere"), {"here": world.cloud})
    machines = Machines("run", world.record, drivers)

    def ensure(number: int) -> None:
        machines.ensure(replace(WEB, service=f"s{number}"), patience(), lambda _: None)

    with ThreadPoolExecutor(20) as threads:
        list(threads.map(ensure, range(60)))
    assert len(world.cloud.machines) == 60
    assert world.cloud.calls.count("list_instances") <= 60


@pytest.mark.parametrize(
    ("addresses", "facts"),
    [
        (("10.0.0.5", "8.8.4.4"), ("8.8.4.4", "10.0.0.5", "8.8.4.4")),
        (("10.0.0.5",), ("10.0.0.5", "10.0.0.5", "10.0.0.5")),
        (("ec2-1.example.org", "10.1.1.1"), ("ec2-1.example.org", "10.1.1.1", "ec2-1.example.org")),
    ],
)
def test_addresses_become_facts(addresses: tuple[str, ...], facts: tuple[str, ...]) -> None:
    from bootlevels.machine_facts import facts_of
    from bootlevels.machine_record import MachineRecord

    machine = MachineRecord(
        launch_id="l", service="s", cloud="c", cloud_id="i-1", addresses=addresses
    )
    found = facts_of(machine)
    assert (found["hostname"], found["private_ip"], found["public_ip"]) == facts
    assert found["instance_id"] == "i-1"
