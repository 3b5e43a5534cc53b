"""The controller under every fault between it, the provisioner and the sensors.

What is judged is the world (``tests.interrupted.system``): how many machines run, and how
many were ever made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coordinator.controller.sources import sources_of
from coordinator.engines.base import Decision
from coordinator.engines.n_preserving import NPreserving
from coordinator.errors import ConfigProblem, NotFound
from tests.interrupted.system import POOL, SECTION, Crash, World


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
    world.keeper = world.new_keeper()
    world.live(60)
    assert len(world.alive()) == 1, "a restart forgot that it is frozen"
    world.keeper.unfreeze()
    world.live_until(world.stable)
    assert len(world.alive()) == 2


def test_a_pool_on_hold_replaces_nobody_until_it_is_resumed(world: World) -> None:
    world.live_until(world.stable)
    world.keeper.reconfigure(POOL, {"hold": {"suspend": ["replace"], "reason": "audit"}})
    world.kill(world.alive()[0])
    world.live(60)
    world.keeper = world.new_keeper()
    world.live(60)
    assert len(world.alive()) == 1
    assert "replace is suspended" in world.status()["reason"]
    world.keeper.resume(POOL)
    world.live_until(world.stable)
    assert len(world.alive()) == 2
    with pytest.raises(NotFound):
        world.keeper.resume("nobody")


def test_resuming_ends_a_meltdown_and_heals_at_once(world: World) -> None:
    world.keeper.reconfigure(POOL, {"engine.preserve_n": 6})
    world.live_until(world.stable)
    world.silent.update(world.alive())
    world.live_until(lambda: world.status()["brake"] == "MELTDOWN", 60)
    silent, made = set(world.alive()), world.made()
    world.live(20)
    assert world.made() == made
    world.silent.clear()
    world.silent.update(sorted(silent)[:1])
    world.keeper.resume(POOL)
    world.live_until(lambda: world.made() > made, 60)


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
    engine = {"type": "tests.unit.coordinator.controller.misbehaving:Engine", "how": "broken"}
    world.keeper.add_pool("other", {**SECTION, "engine": engine})
    world.live_until(world.stable)
    found = world.keeper.pool("other")
    assert found["state"] == "HELD" and "no such thing" in found["reason"]


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


def test_a_rollout_goes_on_in_the_next_controller_and_replaces_each_worker_once(
    world: World,
) -> None:
    wanted = {"engine.preserve_n": 3, "settle_time": 3, "drain_timeout": 2}
    world.keeper.reconfigure(POOL, wanted)
    world.live_until(world.stable)
    before = set(world.alive())
    world.keeper.reconfigure(POOL, {"variables": {"colour": "blue"}})
    world.live(2)
    assert world.status()["old"] == 3 and world.status()["rollout"] is None
    world.keeper.rollout(POOL)
    for second in range(200):
        if second % 7 == 0:
            world.keeper = world.new_keeper()
        if second == 3:
            world.keeper.rollout(POOL)  # a second time is the same rollout
        world.step()
        assert len(set(world.alive())) <= 4 and len(world.alive()) >= 3
    assert not before & set(world.alive()) and len(world.alive()) == 3
    assert world.made() == 6
    assert world.status()["rollout"]["state"] == "FINISHED"
    assert world.status()["old"] == 0 and world.stable()


def test_a_stopped_rollout_stays_stopped_and_a_surge_that_cannot_be_is_refused(
    world: World,
) -> None:
    world.live_until(world.stable)
    world.keeper.reconfigure(POOL, {"variables": {"colour": "blue"}, "max_surge": 0})
    with pytest.raises(ConfigProblem, match="max_surge=2"):
        world.keeper.rollout(POOL, max_surge=2)
    with pytest.raises(ConfigProblem, match="start or stop"):
        world.keeper.rollout(POOL, "begin")
    world.keeper.rollout(POOL)
    world.keeper.rollout(POOL, "stop")
    world.keeper = world.new_keeper()
    world.live(60)
    assert world.made() == 2 and world.status()["old"] == 2
    assert world.status()["rollout"]["state"] == "STOPPED"


def test_a_changed_text_of_a_template_makes_workers_old(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.sources = sources_of(world.config, lambda: world.now)
    world.keeper = world.new_keeper()
    world.live_until(world.stable)
    world.live(30)
    assert world.status()["old"] == 0
    monkeypatch.setattr("coordinator.controller.sources.template_digest", lambda name: "other")
    world.live(10)
    assert world.status()["old"] == 2
    world.keeper = world.new_keeper()
    world.live(5)
    assert world.status()["old"] == 2
