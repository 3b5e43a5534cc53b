"""T7 and T8: boots that always fail, and the brake's table, through the whole system."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coordinator.simulation.facts import Decided
from coordinator.simulation.history import Happening
from coordinator.simulation.settling import unsettled
from coordinator.simulation.world import World

POOL = "blue"


def test_boots_that_always_fail_make_few_machines_and_a_back_off_that_is_seen(
    fleet: Callable[..., World],
) -> None:
    """T7: thirty minutes in which no node boots."""
    trouble = Happening(
        at=0.0, what="boots_fail", lasts=1801.0, values={"how": "fails", "share": 1}
    )
    world = fleet(5, trouble)
    most = 0
    for second in range(10, 1800, 10):
        world.run_until(second)
        most = max(most, len(world.watcher.alive(POOL)))
    made = len(world.machines)
    assert most <= 5 + 2 + 1, "never more than max and surge"
    assert 10 < made <= 60, f"{made} machines in half an hour"
    status = world.coordinator.controller.part.pool(POOL)
    assert "launches wait" in status["reason"] and "did not" not in status["state"]
    explained = world.coordinator.controller.part.explain(POOL)
    assert explained["backoff"]["seconds_left"] > 100


TABLE = [
    (3, 1, "MANAGED", 1),
    (3, 3, "MANAGED", 1),
    (5, 1, "MANAGED", 1),
    (5, 4, "MANAGED", 1),
    (5, 5, "MELTDOWN", 0),
    (20, 1, "MANAGED", 1),
    (20, 4, "MANAGED", 2),
    (20, 5, "MELTDOWN", 0),
    (20, 20, "MELTDOWN", 0),
    (100, 1, "MANAGED", 1),
    (100, 4, "MANAGED", 4),
    (100, 5, "MANAGED", 5),
    (100, 19, "MANAGED", 10),
    (100, 20, "MELTDOWN", 0),
    (100, 21, "MELTDOWN", 0),
    (100, 100, "MELTDOWN", 0),
]


@pytest.mark.parametrize(("n", "unhealthy", "level", "replaced"), TABLE)
def test_the_brake_is_as_its_table_says(
    fleet: Callable[..., World], n: int, unhealthy: int, level: str, replaced: int
) -> None:
    """T8: so many workers of a pool fail in one moment."""
    world = fleet(n, max=2 * n, max_surge=n)
    world.run_until(59.5)
    there = world.running(POOL)
    assert len(there) == n
    assert world.coordinator.controller.part.pool(POOL)["brake"] == "NORMAL"
    for agent in there[:unhealthy]:
        agent.fail_worker()
        agent.beat_now()
    world.run_until(61.5)  # one cycle
    assert world.coordinator.controller.part.pool(POOL)["brake"] == level
    gone = [one for one in world.watcher.last_move.values() if "PROCESS_ERROR" in one.reason]
    assert len(gone) == replaced


def test_a_meltdown_lets_one_go_after_ten_minutes(fleet: Callable[..., World]) -> None:
    world = fleet(5)
    world.run_until(59.5)
    for agent in world.running(POOL):
        agent.fail_worker()
        agent.beat_now()

    def gone() -> int:
        moves = world.watcher.last_move.values()
        return sum("PROCESS_ERROR" in one.reason for one in moves)

    world.run_until(640.0)
    assert gone() == 0
    world.run_until(700.0)
    assert gone() == 1


@pytest.mark.parametrize("minutes", [1, 3, 10, 60])
def test_a_broker_that_is_away_makes_nobody_missing(
    fleet: Callable[..., World], minutes: int
) -> None:
    world = fleet(3, Happening(at=100.0, what="broker_away", lasts=60.0 * minutes))
    world.run_until(100.0 + 60.0 * minutes + 300.0)
    assert len(world.machines) == 3 and len(world.watcher.alive(POOL)) == 3
    assert world.coordinator.controller.part.pool(POOL)["state"] == "STABLE"


@pytest.mark.parametrize("process", ["controller", "provisioner", "sensors"])
@pytest.mark.parametrize("down", [0.0, 300.0])
def test_a_restart_of_any_process_makes_nobody_missing(
    fleet: Callable[..., World], process: str, down: float
) -> None:
    world = fleet(1, Happening(at=100.0, what="restart", lasts=down, values={"process": process}))
    world.run_until(700.0)
    assert len(world.machines) == 1 and len(world.watcher.alive(POOL)) == 1


def test_a_pool_of_one_heals(fleet: Callable[..., World]) -> None:
    world = fleet(1)
    world.run_until(100.0)
    world.running(POOL)[0].mute = True
    world.run_until(300.0)
    assert len(world.machines) == 2 and len(world.watcher.alive(POOL)) == 1


def test_a_machine_that_its_cloud_denies_is_told_to_stop(fleet: Callable[..., World]) -> None:
    """Its cloud could not be listed until the machine was gone for it: nobody has its name."""
    away = {"cloud": "north", "methods": ("list_instances",), "error": "retry", "share": 1.0}
    undead = {"pool": POOL, "pick": 1, "count": 1, "denied": True}
    world = fleet(
        1,
        Happening(at=0.0, what="cloud_fails", lasts=100.0, values=away),
        Happening(at=90.0, what="zombie", lasts=120.0, values=undead),
        health={"missing_timeout": 60, "zombie_timeout": 60},
    )
    world.run_until(209.0)
    (old,) = (one for one in world.machines.values() if one.undead)
    world.run_until(450.0)
    assert old.node_id not in world.watcher.alive(POOL) and not old.alive
    assert len(world.running(POOL)) == 1
    assert any("zombie_told_to_stop" in line for line in world.watcher.lines)


def test_a_fleet_is_not_at_rest_while_a_person_has_set_its_size(
    fleet: Callable[..., World],
) -> None:
    override = {"pool": POOL, "changes": {"override": {"size": 2, "for": 200.0}}}
    world = fleet(2, Happening(at=50.0, what="reconfigure", values=override))
    world.run_until(200.0)
    assert any("a person" in one for one in unsettled(world))
    world.run_until(400.0)
    assert not list(unsettled(world))


def test_a_rollout_replaces_everybody_and_keeps_its_promise(fleet: Callable[..., World]) -> None:
    order = {"pool": POOL, "action": "start", "edits": 1}
    world = fleet(3, Happening(at=60.0, what="rollout", values=order), settle_time=5)
    world.run_until(59.0)
    old = set(world.watcher.alive(POOL))
    world.run_until(600.0)
    assert len(world.watcher.alive(POOL)) == 3 and not old & set(world.watcher.alive(POOL))
    assert not list(unsettled(world))


def test_a_batch_of_an_earlier_life_that_is_refused_holds_nobody_up(
    fleet: Callable[..., World],
) -> None:
    """Stored, and the controller dies before it is sent: its next life's epoch is newer
    (simulated history 2939: the unhealthy one stayed for ever)."""
    world = fleet(3)
    world.run_until(60.0)
    controller, seen = world.coordinator.controller, world.watcher.seen

    def dies_before_it_is_sent(decided: Decided) -> Decided:
        if controller.life == 1:
            controller.doomed = ("before", 1.0)
        return seen(decided)

    world.watcher.seen = dies_before_it_is_sent
    (failed, *_) = world.running(POOL)
    failed.fail_worker()
    failed.beat_now()
    world.run_until(200.0)
    assert controller.life == 2 and not failed.alive
    assert not list(unsettled(world))


def test_an_adopted_machine_takes_a_launched_ones_place_until_its_person_switches_it_off(
    fleet: Callable[..., World],
) -> None:
    values = {"pool": POOL, "count": 1, "how": "ok"}
    world = fleet(2, Happening(at=60.0, what="adopt", lasts=200.0, values=values))
    world.run_until(59.0)
    assert len(world.running(POOL)) == 2
    world.run_until(200.0)
    (own,) = world.adopted.values()
    assert own.alive and own.worker_state == "RUNNING" and len(world.running(POOL)) == 1
    assert not list(unsettled(world))
    world.run_until(500.0)
    assert not own.alive and len(world.running(POOL)) == 2
    assert not list(unsettled(world))


def test_an_adopted_machine_that_nobody_needs_finishes_and_stops(
    fleet: Callable[..., World],
) -> None:
    values = {"pool": POOL, "count": 2, "how": "ok"}
    world = fleet(1, Happening(at=60.0, what="adopt", values=values))
    world.run_until(400.0)
    assert sum(one.alive for one in world.adopted.values()) == 1
    assert world.running(POOL) == [] and not list(unsettled(world))
