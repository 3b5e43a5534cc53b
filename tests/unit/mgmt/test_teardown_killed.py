"""A teardown whose processes die: each of them, at every point, for a while or for ever.

The points are those of a traced run, as in T1: before and after each call, look at the
clouds, pause and write. What must hold is said by the world: nothing of the base is ended
while a machine lives, and a run that ended says the truth in its receipt.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent.rpc_client import BrokerUnreachable, UnknownService
from coordinator.errors import EpuError
from mgmt import teardown
from mgmt.exit_codes import WorkersRemain
from mgmt.teardown import Clock, Teardown, Wishes
from mgmt.teardown_record import Listing, Machine

WORKERS = ("l-0", "l-1", "l-2", "l-3")
LEVELS = ("broker", "provisioner", "epu-sleeper")
#: No teardown of so small a system has more points.
MOST_POINTS = 1000


class Killed(BaseException):
    """The command's process is gone: nothing of it runs any more."""


@dataclass
class World:
    """A run whose provisioner ends one worker at each look, and its clouds.

    ``dies_at``: the point at which the ``victim`` dies; ``for_points``: a victim other than
    the command is away for so many points. Time is simulated.
    """

    directory: Path
    victim: str = "command"
    dies_at: int = -1
    for_points: float = float("inf")
    machines: list[str] = field(default_factory=lambda: list(WORKERS))
    levels: list[str] = field(default_factory=lambda: list(LEVELS))
    ordered: bool = False
    frozen: bool = False
    time: float = 1000.0
    points: int = 0
    dead: bool = False

    def point(self) -> None:
        """Here somebody may die; a command that is dead does nothing more."""
        if self.dead:
            raise Killed
        self.points += 1
        assert self.points < MOST_POINTS, "it does not end"
        if self.victim == "command" and self.points == self.dies_at:
            self.dead = True
            raise Killed

    def away(self, victim: str) -> bool:
        since = self.points - self.dies_at
        return self.victim == victim and 0 <= since < self.for_points

    def at_a_point(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **named: Any) -> Any:
            self.point()
            result = work(*args, **named)
            self.point()
            return result

        return wrapped

    # ---------------------------------------------------------------- the parts

    def call(self, service: str, method: str, *args: Any, timeout: float) -> Any:
        if self.away("broker") or "broker" not in self.levels:
            self.time += 0.1
            raise BrokerUnreachable("the broker can't be reached")
        if self.away(service) or "provisioner" not in self.levels:
            self.time += 0.1
            raise UnknownService(f"nobody answers for '{service}'")
        match method:
            case "live_nodes":
                return [{"node_id": name, "pool": "p"} for name in self.machines]
            case "freeze":
                self.frozen = True
                return None
            case "terminate_all":
                self.ordered = True
            case "stop_denied":
                return []
            case "progress":
                if self.ordered and self.machines:
                    self.machines.pop()
        left = list(self.machines)
        return {"remaining": left, "done": self.ordered and not left, "states": {}, "adopted": []}

    def list_clouds(self) -> Listing:
        if self.away("cloud"):
            self.time += 1.0
            return Listing(problems={"here": "no answer"})
        machines = tuple(
            Machine(cloud="here", cloud_id=f"m-{name}", pool="p", node_id=name)
            for name in self.machines
        )
        return Listing(machines=machines)

    def end_machines(self, listing: Listing) -> None:
        raise AssertionError("workers below a standing base are its provisioner's business")

    def services(self) -> list[str]:
        return list(self.levels)

    def terminate(self, leave_workers: bool) -> None:
        """One level after the other; between two of them the command may die, too."""
        assert not self.machines, "the base was ended over workers that live"
        while self.levels:
            self.point()
            if self.away("level"):
                raise EpuError("service epu-sleeper: its terminate program failed")
            self.levels.pop()

    def sleep(self, seconds: float) -> None:
        self.time += seconds

    def perform(self) -> dict[str, Any]:
        """One start of the command, as its user starts it; the receipt."""
        self.dead = False
        work = Teardown(
            run="demo",
            directory=self.directory,
            base=self,
            list_clouds=self.at_a_point(self.list_clouds),
            end_machines=self.end_machines,
            call=self.at_a_point(self.call),
            say=lambda _: None,
            clock=Clock(lambda: self.time, lambda: self.time, self.at_a_point(self.sleep)),
        )
        return work.earlier_receipt() or work.perform(Wishes(timeout=10.0)).document()

    def workers_are_gone(self) -> None:
        assert not self.machines

    def prove_gone(self) -> None:
        assert (self.machines, self.levels) == ([], [])
        receipt = json.loads((self.directory / "receipt.json").read_text())
        assert receipt["clean"] and receipt["left"] == {"workers": [], "services": []}
        assert receipt["before"]["services"] == list(LEVELS)


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., World]:
    worlds: list[World] = []

    def written(path: Path, text: str) -> None:
        """All of it or nothing, as the real one; there is no power here that could fail."""
        worlds[-1].at_a_point(path.write_text)(text)

    monkeypatch.setattr(teardown, "write_private", written)

    def world(**how: Any) -> World:
        worlds.append(World(tmp_path / str(len(worlds)), **how))
        return worlds[-1]

    return world


def points_of(make: Callable[..., World]) -> range:
    traced = make()
    assert traced.perform()["clean"]
    traced.prove_gone()
    assert traced.frozen
    return range(1, traced.points + 1)


def test_a_command_that_is_killed_at_any_point_is_run_again_and_ends_what_is_left(make):
    points = points_of(make)
    assert len(points) > 50, "all steps were traced"
    for point in points:
        world = make(dies_at=point)
        with pytest.raises(Killed):
            world.perform()
        there = set(world.machines)
        receipt = world.perform()
        world.prove_gone()
        assert there <= set(receipt["before"]["workers"]), point


def test_a_command_that_is_killed_again_and_again_comes_to_an_end(make):
    world = make(dies_at=1)
    for attempt in range(1, MOST_POINTS):
        world.points, world.dies_at = 0, 9 * attempt
        try:
            world.perform()
        except Killed:
            continue
        break
    world.prove_gone()


@pytest.mark.parametrize("victim", ["broker", "provisioner", "controller", "cloud", "level"])
def test_what_dies_at_any_point_and_comes_back_keeps_no_teardown_from_its_end(make, victim):
    for point in points_of(make):
        world = make(victim=victim, dies_at=point, for_points=7)
        for _ in range(4):  # as a person would, who is told what is not confirmed yet
            try:
                world.perform()
            except (WorkersRemain, EpuError):
                assert world.levels or victim == "cloud", "it is refused for something"
                continue
            break
        world.prove_gone()


@pytest.mark.parametrize("victim", ["broker", "provisioner", "cloud"])
def test_what_dies_at_any_point_for_ever_leaves_the_base_standing_while_workers_may_live(
    make, victim
):
    refused = 0
    for point in points_of(make):
        world = make(victim=victim, dies_at=point)
        try:
            world.perform()
        except WorkersRemain:
            refused += 1
            assert not world.machines or len(world.levels) == len(LEVELS), point
            if world.machines or victim == "cloud":
                with pytest.raises(WorkersRemain):
                    world.perform()
                assert not world.machines or len(world.levels) == len(LEVELS), point
                continue
            # The last was ended, and nobody was left to say so: the clouds do.
            world.perform()
        world.prove_gone()
    assert refused > 10


def test_a_controller_that_dies_for_ever_at_any_point_is_not_needed(make):
    for point in points_of(make):
        world = make(victim="controller", dies_at=point)
        assert world.perform()["clean"]
        world.prove_gone()
