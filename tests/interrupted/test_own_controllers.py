"""A pool with a controller of its own beside the shared one: nobody ever fights over it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.keepers import KeeperCalls
from agent.rpc_client import RemoteError
from agent.wire import to_wire
from coordinator.controller.keeper import Keeper
from coordinator.errors import ConfigProblem, EpuError
from tests.interrupted.system import POOL, SECTION, Crash, World


class Both:
    """``world.keeper`` is the shared controller, ``own`` that of POOL; calls reach each."""

    def __init__(self, world: World) -> None:
        self.world = world
        answer = world._answer
        self.own: Keeper = self.start()

        def routed(service: str, method: str, *args: Any) -> Any:
            if service == "controller":
                return self._of(world.keeper, method, args)
            if service == f"controller-{POOL}":
                return self._of(self.own, method, args)
            return answer(service.removesuffix(f"-{POOL}"), method, *args)

        world._answer = routed  # type: ignore[method-assign]

    def _of(self, keeper: Keeper, method: str, args: tuple[Any, ...]) -> Any:
        if method == "look":
            return keeper.cycle()
        try:
            return to_wire(getattr(keeper, method)(*args))
        except EpuError as problem:
            raise RemoteError(type(problem).__name__, str(problem)) from None

    def start(self) -> Keeper:
        """A new life of the pool's own controller: its store, and nothing else."""
        shared = self.world.config
        self.world.config = replace(shared, pool=POOL)
        try:
            return self.world.new_keeper()
        finally:
            self.world.config = shared

    def live(self, seconds: int) -> None:
        for _ in range(seconds):
            self.world.step()
            try:
                self.own.cycle()
            except Crash:
                self.world.fault = lambda service, method: None
                self.own = self.start()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_the_shared_controller_refuses_a_pool_that_has_its_own_and_says_whom_to_ask(
    world: World,
) -> None:
    both = Both(world)
    both.live(2)
    with pytest.raises(ConfigProblem, match=f"controller of its own.*ask controller-{POOL}"):
        world.keeper.check_whose(POOL)
    with pytest.raises(ConfigProblem, match=f"keeps the pool {POOL} alone"):
        both.own.check_whose("other")
    calls = KeeperCalls(world.call)
    assert calls.call("controller", "add_pool", POOL, SECTION)
    assert calls.call("controller", "add_pool", "other", {**SECTION, "max": 0})
    assert (both.own.names(), world.keeper.names()) == ([POOL], ["other"])
    both.live(40)
    assert len(world.alive()) == 2 == world.made()


def test_a_pool_of_the_shared_controller_goes_to_its_own_as_it_was_set(world: World) -> None:
    world.keeper.add_pool(POOL, SECTION)
    world.live_until(world.stable)
    world.keeper.reconfigure(POOL, {"engine.preserve_n": 3})
    both = Both(world)
    both.live(60)
    assert (both.own.names(), world.keeper.names()) == ([POOL], [])
    assert both.own.pool(POOL)["engine"]["preserve_n"] == 3
    assert len(world.alive()) == 3 == world.made()


@pytest.mark.parametrize("call", ["claim_epoch", "pool", "remove_pool", "apply"])
@pytest.mark.parametrize("when", ["crash after", "before"])
def test_a_death_or_a_lost_message_while_a_pool_changes_hands_costs_only_time(
    world: World, call: str, when: str
) -> None:
    world.keeper.add_pool(POOL, SECTION)
    world.live_until(world.stable)
    both = Both(world)
    left = [1]

    def fault(service: str, method: str) -> str | None:
        if method == call and left[0] and both.own is not None:
            left[0] -= 1
            return when
        return None

    if call == "apply":  # the first thing that the new one wants done
        both.live(5)
        both.own.reconfigure(POOL, {"engine.preserve_n": 3})
    world.fault = fault
    both.live(80)
    assert left == [0], "the fault must have happened"
    assert (both.own.names(), world.keeper.names()) == ([POOL], [])
    wanted = 3 if call == "apply" else 2
    assert len(world.alive()) == wanted == world.made()


def test_two_that_believe_that_they_keep_a_pool_launch_each_machine_once(world: World) -> None:
    """The shared one never hears that the pool is another's: only its claim is refused."""
    world.keeper.add_pool(POOL, SECTION)
    both = Both(world)
    world.fault = lambda service, method: "before" if method in ("pool", "remove_pool") else None
    both.own.add_pool(POOL, {**SECTION, "engine": {"type": "n_preserving", "preserve_n": 3}})
    both.live(60)
    assert len(world.alive()) == 3 == world.made()
    assert "controller" in world.keeper.pool(POOL)["reason"]
    world.keeper = world.new_keeper()  # its next life claims anew, and is refused
    both.live(20)
    assert len(world.alive()) == 3 == world.made()
    assert "another controller keeps this pool" in world.keeper.pool(POOL)["reason"]
