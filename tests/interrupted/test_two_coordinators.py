"""T4: two controllers, two provisioners, all of whom believe that they lead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.messages import CommandBatch, LaunchInstances
from tests.interrupted.system import POOL, SECTION, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    found = World(tmp_path)
    found.keeper.add_pool(POOL, SECTION)
    return found


class Everybody:
    """Each second both controllers cycle and both provisioners reconcile.

    Calls reach the provisioners in turn, as from one queue that both consume.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.keepers = [world.keeper, world.new_keeper()]
        self.provisioners = [world.provisioner, world.new_provisioner()]
        self.calls = 0
        answer = world._answer

        def in_turn(service: str, method: str, *args: Any) -> Any:
            self.calls += 1
            world.provisioner = self.provisioners[self.calls % 2]
            return answer(service, method, *args)

        world._answer = in_turn  # type: ignore[method-assign]

    def live(self, seconds: int) -> None:
        for _ in range(seconds):
            self.world.step()
            for part in self.provisioners:
                for cloud in part.due():
                    part.reconcile(cloud)
                part.drain_step()
            for keeper in self.keepers:
                if keeper is not self.world.keeper:
                    keeper.cycle()


def test_two_of_everything_launch_each_machine_once(world: World) -> None:
    both = Everybody(world)
    both.live(60)
    assert len(world.alive()) == 2 and world.made() == 2
    reasons = [keeper.pool(POOL)["reason"] for keeper in both.keepers]
    assert sum("another controller keeps this pool" in reason for reason in reasons) == 1


def test_two_of_everything_replace_a_lost_machine_once(world: World) -> None:
    both = Everybody(world)
    both.live(40)
    world.kill(world.alive()[0])
    both.live(60)
    assert len(world.alive()) == 2 and world.made() == 3


def test_the_one_that_claimed_last_is_obeyed_and_the_other_is_not(world: World) -> None:
    both = Everybody(world)
    both.live(40)
    leads = next(k for k in both.keepers if "another controller" not in k.pool(POOL)["reason"])
    stale = next(keeper for keeper in both.keepers if keeper is not leads)
    stale.reconfigure(POOL, {"engine.preserve_n": 9})
    both.live(40)
    assert len(world.alive()) == 2 and world.made() == 2
    leads.reconfigure(POOL, {"engine.preserve_n": 3})
    both.live(40)
    assert len(world.alive()) == 3 and world.made() == 3


def test_a_command_on_its_way_when_leadership_changed_starts_nothing(world: World) -> None:
    world.live_until(world.stable)
    snapshot = world.provisioner.instances(POOL)
    late = CommandBatch(
        batch_id="late",
        pool=POOL,
        based_on=snapshot.version,
        epoch=snapshot.epoch,
        launches=(
            LaunchInstances(
                command_id="c",
                launch_id="late",
                count=5,
                cloud="here",
                template="worker",
                reason="r",
            ),
        ),
    )
    world.keeper = world.new_keeper()
    world.live(5)
    assert [world.provisioner.apply(late).outcome for _ in range(2)] == ["superseded"] * 2
    world.live(60)
    assert world.made() == 2
