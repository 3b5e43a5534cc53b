"""A pool on two clouds of which one fails, with the real controller and provisioner.

Whatever dies or lies, the machines are as many as wanted, and nothing is made twice.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from agent.rpc_client import CallTimeout
from coordinator.clouds.in_memory import InMemoryCloud
from coordinator.controller.keeper import Keeper
from coordinator.errors import CredentialsRejected, InsufficientCapacity, RetryLater
from coordinator.provisioner.provisioner import Provisioner
from coordinator.store.session import open_store
from tests.interrupted.system import POOL, SECTION, World

CLOUDS = ("near", "far")
ON_BOTH = {**SECTION, "clouds": list(CLOUDS), "machine": {"type": "big"}}


@pytest.fixture
def world(tmp_path: Path) -> World:
    found = World(tmp_path, clouds=CLOUDS)
    found.keeper.add_pool(POOL, ON_BOTH)
    return found


def counts(world: World) -> dict[str, int]:
    return {cloud: len(world.alive_on(cloud)) for cloud in CLOUDS}


def test_a_full_cloud_costs_seconds_and_never_a_second_machine(world: World) -> None:
    world.clouds["near"].fail_next("launch", *[InsufficientCapacity("full")] * 1000)
    world.live_until(lambda: counts(world) == {"near": 0, "far": 2}, 10)
    world.live_until(world.stable)
    assert world.made() == 2
    status = world.status()
    assert (status["cloud"], status["machine"]) == ("far", {"type": "big"})
    assert "no capacity: full" in status["cloud_reason"]
    assert {m.request.settings["type"] for m in world.clouds["far"].machines} == {"big"}


def test_launches_come_back_to_the_first_cloud_when_it_has_room(world: World) -> None:
    world.clouds["near"].fail_next("launch", InsufficientCapacity("full"))
    world.live_until(world.stable)
    assert counts(world) == {"near": 0, "far": 2}
    world.live(70)
    world.kill(world.alive()[0])
    world.live(10)
    world.live_until(world.stable)
    assert counts(world) == {"near": 1, "far": 1}
    assert world.made() == 3


@pytest.mark.parametrize("method", ["launch", "list_instances"])
def test_a_cloud_that_rejects_our_credentials_is_left_and_found_again(
    world: World, method: str
) -> None:
    rejections = 1 if method == "launch" else 3
    world.clouds["near"].fail_next(method, *[CredentialsRejected("expired")] * rejections)
    world.live_until(world.stable)
    assert counts(world) == {"near": 0, "far": 2}
    assert world.provisioner.status()["held"] == ["near"]
    world.live(rejections * 61 + 65)
    world.kill(world.alive()[0])
    world.live(10)
    world.live_until(world.stable)
    assert counts(world) == {"near": 1, "far": 1}
    assert world.provisioner.status()["held"] == []


@pytest.mark.parametrize("acted", [False, True], ids=["nothing-done", "replies-lost"])
def test_what_a_silent_cloud_may_have_made_is_ended_when_it_speaks_again(
    world: World, acted: bool
) -> None:
    near = world.clouds["near"]
    near.fail_next("launch", *[RetryLater("no answer")] * 30, after_acting=acted)
    near.fail_next("list_instances", *[RetryLater("no answer")] * 30)
    world.silent.update(f"pool-{number:04d}-{i}" for number in range(1, 6) for i in range(2))
    world.live_until(lambda: counts(world)["far"] == 2, 150)
    world.silent.clear()
    world.live(300)
    world.live_until(world.stable)
    assert counts(world) == {"near": 0, "far": 2}
    assert world.made() == (4 if acted else 2)


# ------------------------------------------------------------------ T1


class Died(BaseException):
    """kill -9 of one of the two; nothing in the product may catch it."""


class Interrupted(World):
    """A world in which the controller or the provisioner dies at one point.

    Points are every commit of either store, and before and after every launch and termination.
    """

    def __init__(self, directory: Path, die_at: int | None, **given: Any) -> None:
        self.seen = 0
        self.die_at = die_at
        self.died = False
        self.most = 0
        super().__init__(directory, **given)
        for cloud in self.clouds.values():
            self._watch(cloud)

    def reach(self, *_: object) -> None:
        self.seen += 1
        if self.seen - 1 == self.die_at:
            self.died = True
            raise Died

    def _watch(self, cloud: InMemoryCloud) -> None:
        for method in ("launch", "terminate"):
            original = getattr(cloud, method)

            def call(*args: Any, original: Callable[..., Any] = original) -> Any:
                self.reach()
                answer = original(*args)
                self.reach()
                return answer

            setattr(cloud, method, call)

    def _watched(self, engine: Engine) -> None:
        event.listen(engine, "commit", self.reach)

    def new_provisioner(self) -> Provisioner:
        made = super().new_provisioner()
        self._watched(made._records._store)
        return made

    def new_keeper(self) -> Keeper:
        made = super().new_keeper()
        self._watched(made._records._store)
        return made

    def _answer(self, service: str, method: str, *args: Any) -> Any:
        try:
            return super()._answer(service, method, *args)
        except Died:  # the provisioner died in a call; the controller waits in vain
            self.provisioner = self.new_provisioner()
            raise CallTimeout(f"{service}.{method}") from None

    def step(self) -> None:
        self.now += 1.0
        self.observations.loopback(self.now)
        try:
            for node_id in self.alive():
                self._agent(node_id)
            for cloud in self.provisioner.due():
                self.provisioner.reconcile(cloud)
            self.provisioner.drain_step()
        except Died:
            self.provisioner = self.new_provisioner()
        try:
            self.keeper.cycle()
        except Died:
            self.keeper = self.new_keeper()
        self.most = max(self.most, len(self.alive()))


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with stores without a record: each life begins with a copy."""
    path = tmp_path_factory.mktemp("empty")
    for name in ("controller", "provisioner"):
        open_store(path / f"{name}.db").dispose()
    return path


def moved_life(empty: Path, directory: Path, die_at: int | None, lag: float) -> Interrupted:
    """Near is full; one worker is lost later, and near has room again."""
    shutil.copytree(empty, directory)
    world = Interrupted(directory, die_at, lag=lag, clouds=CLOUDS)
    near = world.clouds["near"]
    near.settings = near.settings.__class__(lag=lag, capacity=0)
    while POOL not in world.keeper.names():
        try:
            world.keeper.add_pool(POOL, ON_BOTH)
        except Died:
            world.keeper = world.new_keeper()
    world.live(30)
    near.settings = near.settings.__class__(lag=lag)
    world.live(60)
    world.kill(world.alive()[0])
    world.live(40)
    return world


def wrong_with(world: Interrupted) -> str:
    alive, status = world.alive(), world.status()
    records = [one["node_id"] for one in status["instances"]]
    if not (sorted(alive) == sorted(records) and len(alive) == 2 and status["state"] == "STABLE"):
        return f"{status['state']}: {alive} alive, records {records}: {status['reason']}"
    if world.made() != 3 or world.most > 2:
        return f"{world.made()} made, {world.most} at once"
    return ""


def problems_of(
    empty: Path, directory: Path, lag: float, first: int, every: int
) -> Iterator[tuple[int, str]]:
    whole = moved_life(empty, directory / "whole", None, lag)
    assert wrong_with(whole) == ""
    assert whole.seen > 30, "the trace found no points"
    for point in range(first, whole.seen, every):
        world = moved_life(empty, directory / str(point), point, lag)
        assert world.died, f"point {point} was never reached"
        if problem := wrong_with(world):
            yield point, problem


@pytest.mark.parametrize("polls", [0, 1, 2])
def test_killed_anywhere_a_pool_that_changes_clouds_has_what_it_wants_once(
    polls: int, tmp_path: Path, empty: Path
) -> None:
    # A sample of the points, another one for each lag; all of them are in the soak test.
    assert list(problems_of(empty, tmp_path, polls * 5.0, first=polls * 3, every=9)) == []


@pytest.mark.soak
@pytest.mark.parametrize("polls", [0, 1, 2])
def test_killed_at_every_point_a_pool_that_changes_clouds_has_what_it_wants_once(
    polls: int, tmp_path: Path, empty: Path
) -> None:
    assert list(problems_of(empty, tmp_path, polls * 5.0, first=0, every=1)) == []
