"""While nodes can't get accounts, boots are not given up and nothing new is launched."""

from __future__ import annotations

from typing import Any

import pytest

from agent.messages import InstanceState


@pytest.fixture
def world(exact_world: Any) -> Any:
    exact_world.registrar = {"accounts_available": True}
    return exact_world


def test_boot_timeout_stands_still_and_goes_on_where_it_stopped(world: Any) -> None:
    assert world.apply(world.launch(boot_timeout=60.0)) == "applied"
    world.turn(30)
    world.registrar = {"accounts_available": False}
    world.turn(1000)
    assert world.state("l1-0") is InstanceState.BOOTING
    assert len(world.events("accounts_away")) == 1
    assert world.part.progress()["accounts_away"]["reason"]
    world.registrar = {"accounts_available": True}
    world.turn(15)
    assert world.state("l1-0") is InstanceState.BOOTING, "30 of its 60 s were left"
    assert "after 100" in world.events("accounts_back")[0].reason
    world.turn(30)
    assert world.state("l1-0") is InstanceState.BOOT_FAILED


def test_launches_hold_say_why_and_go_on(world: Any) -> None:
    world.registrar = {"accounts_available": False}
    world.turn(5)
    assert world.apply(world.launch()) == "applied"
    world.turn(100)
    assert world.ever_made() == 0 and world.state("l1-0") is InstanceState.REQUESTED
    assert "held until nodes can get accounts" in world.view("l1-0").reason
    world.registrar = {"accounts_available": True}
    world.turn(5)
    assert world.machines() == ["l1-0"]


def test_who_has_an_account_is_not_spared(world: Any) -> None:
    assert world.apply(world.launch(boot_timeout=60.0)) == "applied"
    world.turn(5)
    world.part.node_enrolled("l1-0", [])
    world.registrar = {"accounts_available": False}
    world.turn(70)
    assert world.state("l1-0") is InstanceState.BOOT_FAILED


def test_a_registrar_that_only_restarts_holds_nothing(world: Any) -> None:
    world.registrar = None  # it does not answer
    world.turn(20)
    assert world.apply(world.launch()) == "applied"
    world.turn(5)
    assert world.machines() == ["l1-0"] and not world.events("accounts_away")
    world.turn(30)
    assert "does not answer" in world.events("accounts_away")[0].reason


def test_a_restart_in_mid_outage_gives_up_no_boot(world: Any) -> None:
    assert world.apply(world.launch(boot_timeout=60.0)) == "applied"
    world.turn(5)
    world.registrar = {"accounts_available": False}
    world.turn(10)
    world.part = world.new_provisioner()
    world.pass_time(200)  # it has not asked yet
    assert world.state("l1-0") is InstanceState.BOOTING
    world.registrar = {"accounts_available": True}
    world.turn(5)
    assert world.state("l1-0") is InstanceState.BOOTING


def test_a_teardown_ends_what_is_held(world: Any) -> None:
    world.registrar = {"accounts_available": False}
    world.turn(5)
    assert world.apply(world.launch()) == "applied"
    world.part.terminate_all(now=True)
    world.turn(20)
    assert world.part.progress()["done"]


def test_a_cloud_that_calls_the_machine_otherwise_than_it_said_is_told(
    make_world: Any,
) -> None:
    world = make_world(lag=5.0)
    assert world.apply(world.launch()) == "applied"
    world.tick()
    world.part.node_enrolled("l1-0", [], "i-somebody-elses")
    assert world.part.node("l1-0")["claimed_cloud_id"] == "i-somebody-elses"
    world.pass_time(20)
    told = world.events("claim_contradicted")
    assert len(told) == 1 and "i-somebody-elses" in told[0].reason
