"""A boot is given up only when its node could have told us that it is ready."""

from __future__ import annotations

from typing import Any

import pytest

from agent.messages import InstanceState, ReadyReport


@pytest.fixture
def world(exact_world: Any) -> Any:
    exact_world.registrar = {"accounts_available": True}
    assert exact_world.apply(exact_world.launch(boot_timeout=60.0)) == "applied"
    exact_world.turn(5)
    exact_world.part.node_enrolled("l1-0", [])
    exact_world.turn(5)
    return exact_world


def test_who_is_ready_while_the_registrar_is_away_has_not_failed_when_it_is_back(
    world: Any,
) -> None:
    world.registrar = None
    world.turn(300)
    assert world.state("l1-0") is InstanceState.BOOTING
    world.registrar = {"accounts_available": True}
    world.turn(20)
    assert world.part.node_ready(ReadyReport(node_id="l1-0", ok=True))["accepted"]
    assert world.state("l1-0") is InstanceState.RUNNING


def test_who_is_not_ready_has_failed_soon_after(world: Any) -> None:
    world.registrar = None
    world.turn(300)
    world.registrar = {"accounts_available": True}
    world.turn(45)
    assert world.state("l1-0") is InstanceState.BOOT_FAILED


def test_a_provisioner_that_was_away_hears_nodes_before_it_gives_them_up(world: Any) -> None:
    world.clock.now += 300
    world.part = world.new_provisioner()
    world.turn(10)
    assert world.part.node_ready(ReadyReport(node_id="l1-0", ok=True))["accepted"]


def test_who_enrols_just_before_accounts_are_known_to_be_back_has_its_time(
    exact_world: Any,
) -> None:
    world = exact_world
    world.registrar = {"accounts_available": True}
    assert world.apply(world.launch(boot_timeout=60.0)) == "applied"
    world.turn(5)
    world.registrar = {"accounts_available": False}
    world.turn(200)
    world.part.node_enrolled("l1-0", [])
    world.tick()
    assert world.state("l1-0") is InstanceState.BOOTING
    world.registrar = {"accounts_available": True}
    world.turn(20)
    assert world.part.node_ready(ReadyReport(node_id="l1-0", ok=True))["accepted"]


def test_a_teardown_lets_who_has_enrolled_become_ready_and_then_drains_it(world: Any) -> None:
    world.part.terminate_all()
    world.turn(5)
    assert world.state("l1-0") is InstanceState.BOOTING, "its worker may have a job in hand"
    world.part.node_ready(ReadyReport(node_id="l1-0", ok=True))
    world.tick()
    assert world.state("l1-0") is InstanceState.DRAINING


def test_a_cloud_that_is_asked_already_is_not_asked_again_for_being_woken(world: Any) -> None:
    """Else the service turned in circles for as long as a cloud took to answer."""
    cloud = next(iter(world.part.cycles))
    cycle = world.part.cycles[cloud]
    seen = []
    driver_lists = cycle.calls.driver.list_instances

    def lists(*args: Any) -> Any:
        cycle.wake()
        seen.append(world.part.due_in(cloud))
        return driver_lists(*args)

    cycle.calls.driver.list_instances = lists
    world.pass_time(10)
    assert seen and set(seen) == {float("inf")}
