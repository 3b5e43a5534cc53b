"""Blindness: nobody becomes MISSING because of us, and who is truly silent is found after.

The sensors' memory, the health, the controller and the provisioner are the real ones, with the
default time-outs, on a clock of ours (``tests.interrupted.system``).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agent.messages import SensorReading
from coordinator.pool_values import HealthSettings
from coordinator.sensors.history import GRACE, Observations
from coordinator.sensors.queue_length import reading_names
from tests.interrupted.system import POOL, World

HEALTH = HealthSettings()
#: Within so many seconds after the end of an outage is a node found that is silent.
FOUND_WITHIN = int(GRACE + HEALTH.missing_timeout + HEALTH.really_missing_timeout + 30)
#: A step, s: of beats each 10 s and a loopback each 5 s nothing is missed.
TICK = 5.0
SECTION = {
    "programs": {"worker": {"command": ["work"]}},
    "heartbeat_interval": 10,
    "engine": {"type": "n_preserving", "preserve_n": 2},
}

WorldOf = Callable[[int], World]


@pytest.fixture
def world_of(tmp_path: Path) -> WorldOf:
    """A World whose pool has so many workers, all RUNNING and heard for a while."""

    def build(size: int) -> World:
        world = World(tmp_path)
        world.tick = TICK
        world.observations = Observations(TICK)
        engine = {"type": "n_preserving", "preserve_n": size}
        world.keeper.add_pool(POOL, {**SECTION, "engine": engine})
        world.live_until(world.stable, 60)
        world.live(60)
        assert len(world.alive()) == world.made() == size
        return world

    return build


def without_broker(world: World, minutes: int) -> None:
    """The broker is away; as nobody is heard and no call is answered, steps may be long."""
    world.broker_away, world.tick = True, 30.0
    world.live(minutes * 60)
    world.broker_away, world.tick = False, TICK


def expect_a_silent_one_found(world: World, victim: str) -> None:
    """``victim`` is silent and its machine still listed: it alone is ended and replaced."""
    made, size = world.made(), len(world.alive())
    world.live_until(lambda: victim not in world.alive(), FOUND_WITHIN)
    world.live_until(world.stable, 60)
    assert world.made() == made + 1 and len(world.alive()) == size


@pytest.mark.parametrize("minutes", [1, 3, 10, 60])
def test_a_broker_that_was_away_makes_nobody_missing(world_of: WorldOf, minutes: int) -> None:
    world = world_of(1)
    without_broker(world, minutes)
    world.live(FOUND_WITHIN + 30)
    assert world.made() == len(world.alive()) == 1, "nobody was replaced"
    assert world.stable()
    seen = [event.extra.get("health") for event in world.keeper.events.read(0, 10_000)]
    assert "MISSING" not in seen


@pytest.mark.parametrize("minutes", [3, 60])
def test_who_fell_silent_while_the_broker_was_away_is_found_after_and_nobody_else(
    world_of: WorldOf, minutes: int
) -> None:
    world = world_of(3)
    victim = min(world.alive())
    world.silent.add(victim)
    without_broker(world, minutes)
    expect_a_silent_one_found(world, victim)


@pytest.mark.parametrize(
    ("who", "size"), [("sensors", 3), ("controller", 1), ("provisioner", 3), ("all of them", 1)]
)
def test_a_restart_of_any_process_makes_nobody_missing_and_the_silent_are_found(
    world_of: WorldOf, who: str, size: int
) -> None:
    world = world_of(size)
    before = set(world.alive())

    def restart() -> None:
        if who in ("sensors", "all of them"):
            world.observations = Observations(TICK)
        if who in ("provisioner", "all of them"):
            world.provisioner = world.new_provisioner()
        if who in ("controller", "all of them"):
            world.keeper = world.new_keeper()

    for _ in range(3):  # again and again, at moments of which each sees other ages
        restart()
        world.live(47)
    world.live(FOUND_WITHIN)
    assert set(world.alive()) == before and world.made() == size and world.stable()

    victim = min(before)
    world.silent.add(victim)
    world.live(int(HEALTH.missing_timeout) - 20)
    restart()
    # A restarted sensors service never heard the victim itself: the controller knows it did.
    expect_a_silent_one_found(world, victim)


def test_a_sensors_service_that_hangs_makes_nobody_missing_when_it_wakes(
    world_of: WorldOf,
) -> None:
    world = world_of(2)
    world.fault = lambda service, method: "before" if service == "sensors" else None
    world.deaf = True
    world.live(600)
    assert world.status()["state"] == "HELD"
    world.fault = lambda service, method: None
    world.deaf = False
    world.live(FOUND_WITHIN)
    assert world.made() == 2 and world.stable()


def test_a_pool_of_one_heals_with_nobody_else_to_compare_it_to(world_of: WorldOf) -> None:
    world = world_of(1)
    (victim,) = world.alive()
    world.silent.add(victim)
    expect_a_silent_one_found(world, victim)


def test_without_management_api_queues_are_not_read_and_nobody_goes_until_they_are(
    tmp_path: Path,
) -> None:
    """T9: AMQP is up, so beats go on; only the figures of the queue stop coming."""
    world = World(tmp_path)
    world.tick = TICK
    world.observations = Observations(TICK)
    engine = {
        "type": "queue_length",
        "queue": "jobs",
        "queuelen_high_water": 50,
        "queuelen_low_water": 10,
        "max_instances": 3,
    }
    world.keeper.add_pool(POOL, {**SECTION, "engine": engine})
    figures = {"ready": 100.0, "unacknowledged": 1.0}

    def read() -> None:  # in the step that follows
        for name, value in zip(reading_names("jobs"), figures.values(), strict=False):
            reading = SensorReading(name=name, value=value, age=0.0, sample=str(world.now))
            world.observations.reading(reading, world.now + TICK)

    def live(seconds: int) -> None:
        for _ in range(round(seconds / TICK)):
            read()
            world.step()

    live(60)
    assert len(world.alive()) == 3
    figures["ready"] = 0.0
    world.live(600)  # the figures of before the outage grow old
    assert len(world.alive()) == 3 and world.status()["state"] == "HELD"
    assert "old" in world.status()["reason"]
    assert all(one["health"] == "OK" for one in world.status()["instances"])
    lost = world.alive()[0]
    world.kill(lost)
    world.live(60)
    assert lost not in world.alive() and len(world.alive()) == 3, "a loss is made good meanwhile"
    figures["unacknowledged"] = 0.0
    live(400)
    assert world.alive() == [], "and then it catches up by itself"
