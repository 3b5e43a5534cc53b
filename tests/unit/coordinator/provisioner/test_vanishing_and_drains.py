from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agent.messages import InstanceState
from coordinator.errors import RetryLater


def test_a_killed_node_is_terminated_at_the_hint_of_a_lost_presence(exact_world: Any) -> None:
    world = exact_world
    world.running(2)
    world.hears("l1-0", "l1-1")
    world.clouds["cloud"].vanish("m-000001")
    world.hears("l1-1")
    world.witness["nodes"]["l1-0"] = {
        "node_id": "l1-0",
        "heard_age": 4.0,
        "presence_lost_age": 0.01,
    }
    world.part.presence_lost(["l1-0"])
    assert world.part.due() == ["cloud"]
    world.part.reconcile("cloud")
    assert world.states() == {"l1-0": "TERMINATED", "l1-1": "RUNNING"}
    assert world.view("l1-0").reason.startswith("vanished")


def test_gone_and_presence_lost_suffice_where_the_cloud_reads_the_world(exact_world: Any) -> None:
    world = exact_world
    world.running(1)
    world.clouds["cloud"].vanish("m-000001")
    world.part.presence_lost(["l1-0"])
    world.witness = None
    world.part.reconcile("cloud")
    assert world.states() == {"l1-0": "TERMINATED"}


@pytest.mark.parametrize(("heard", "state"), [((), "TERMINATED"), (("l1-0",), "BOOTING")])
def test_who_dies_between_enrolment_and_its_first_beat_is_found_at_once(
    exact_world: Any, heard: tuple[str, ...], state: str
) -> None:
    world = exact_world
    world.apply(world.launch())
    world.pass_time(10)
    world.part.node_enrolled("l1-0", ["10.1.1.1"])
    world.clouds["cloud"].vanish("m-000001")
    world.hears(*heard)
    world.pass_time(6)
    assert world.states() == {"l1-0": state}


def test_a_lost_presence_alone_terminates_nothing_and_is_pinged_once(exact_world: Any) -> None:
    world = exact_world
    world.running(1)
    world.part.presence_lost(["l1-0"])
    world.pass_time(100)
    assert world.states() == {"l1-0": "RUNNING"}
    assert world.asked.count(("agent-l1-0", "beat_now")) == 1


def test_a_presence_that_returned_is_no_witness_later(world: Any) -> None:
    world.running(1)
    world.part.presence_lost(["l1-0"])
    world.pass_time(20)
    world.hears("l1-0")
    world.clouds["cloud"].vanish("m-000001")
    world.pass_time(100)
    assert world.states() == {"l1-0": "RUNNING"}, "it was heard after its presence was lost"


def test_an_agent_that_answers_the_ping_clears_the_hint(exact_world: Any) -> None:
    world = exact_world
    world.running(1)
    world.agents["l1-0"] = {"beat_now": {}}
    world.part.presence_lost(["l1-0"])
    world.pass_time(1)
    world.clouds["cloud"].vanish("m-000001")
    world.pass_time(30)
    assert world.states() == {"l1-0": "RUNNING"}, "one witness, and nobody to ask for another"


@pytest.mark.parametrize("lag", [0.0, 5.0, 20.0, 60.0])
def test_listings_that_lag_blink_and_run_backwards_kill_nobody(
    make_world: Callable[..., Any], lag: float
) -> None:
    world = make_world(lag=lag, backwards=True, blink=0.3, seed=7)
    world.apply(world.launch(count=5, launch_timeout=1000.0))
    world.pass_time(2 * lag + 30)
    nodes = [f"l1-{index}" for index in range(5)]
    for node in nodes:
        assert world.enrol_and_report(node)["accepted"]
    world.hears(*nodes)
    world.pass_time(1000, step=2.0)
    assert set(world.states().values()) == {"RUNNING"}
    assert world.machines() == nodes
    assert world.ever_made() == 5


def test_a_drained_node_goes_before_its_deadline(world: Any) -> None:
    world.running(1)
    world.agents["l1-0"] = {"drain": {"node_id": "l1-0", "draining": True, "drained": False}}
    world.apply(world.drain("l1-0", 100.0))
    world.pass_time(30)
    assert world.state("l1-0") is InstanceState.DRAINING
    assert world.machines() == ["l1-0"]
    world.agents["l1-0"] = {"drain": {"node_id": "l1-0", "draining": True, "drained": True}}
    world.pass_time(20)
    assert world.history("l1-0")[-3:] == ["DRAINING", "TERMINATING", "TERMINATED"]
    assert world.machines() == []


def test_a_busy_node_is_never_terminated_before_its_drain_deadline(world: Any) -> None:
    world.running(1)
    world.apply(world.drain("l1-0", 100.0))
    world.pass_time(99)
    assert world.machines() == ["l1-0"], "its agent can't be reached, which proves nothing"
    world.pass_time(2)
    assert world.machines() == []


def test_a_drain_deadline_survives_a_restart(world: Any) -> None:
    world.running(1)
    world.apply(world.drain("l1-0", 100.0))
    world.pass_time(60)
    world.part = world.new_provisioner()
    world.pass_time(35)
    assert world.machines() == ["l1-0"]
    world.pass_time(10)
    assert world.machines() == []


def test_a_gentle_teardown_drains_what_runs_and_ends_what_does_not(world: Any) -> None:
    world.running(2)
    world.agents["l1-0"] = {"drain": {"node_id": "l1-0", "draining": True, "drained": True}}
    world.apply(world.launch("l2"))
    world.pass_time(10)
    assert world.states()["l2-0"] == "BOOTING"
    world.part.terminate_all(drain_timeout=60.0)
    world.pass_time(5)
    assert world.machines() == ["l1-1"]
    assert world.state("l1-1") is InstanceState.DRAINING
    world.pass_time(50)
    assert world.machines() == ["l1-1"]
    world.pass_time(30)
    assert world.part.progress()["done"]


def test_now_turns_a_gentle_teardown_into_a_quick_one(world: Any) -> None:
    world.running(2)
    world.part.terminate_all()
    world.pass_time(5)
    assert len(world.machines()) == 2
    world.part.terminate_all(now=True)
    world.pass_time(20)
    assert world.part.progress()["done"]


def test_a_terminate_that_fails_is_repeated_with_growing_pauses(world: Any) -> None:
    world.running(1)
    world.clouds["cloud"].fail_next("terminate", *[RetryLater("busy")] * 1000)
    world.apply(world.terminate("l1-0"))
    world.pass_time(600)
    assert world.state("l1-0") is InstanceState.TERMINATING
    assert 8 <= world.clouds["cloud"].calls.count("terminate") <= 20


def test_a_broken_cloud_delays_no_other(make_world: Callable[..., Any]) -> None:
    world = make_world(clouds=("cloud", "other"), lag=0.0)

    def defect(*_: Any) -> Any:
        raise TypeError("a defect of the driver")

    world.clouds["cloud"].list_instances = defect
    world.apply(world.launch("l1"), world.launch("l2", cloud="other"))
    world.pass_time(30)
    assert world.machines("other") == ["l2-0"]
    assert world.states()["l2-0"] == "BOOTING"
    assert "TypeError" in world.part.status()["clouds"]["cloud"]["problem"]


def test_what_vanished_is_terminated_once_so_that_it_never_comes_back(exact_world: Any) -> None:
    world = exact_world
    world.running(1)
    world.clouds["cloud"].vanish("m-000001")
    world.part.presence_lost(["l1-0"])
    world.pass_time(100)
    assert world.states() == {"l1-0": "TERMINATED"}
    assert world.clouds["cloud"].calls.count("terminate") == 1
