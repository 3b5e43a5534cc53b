"""The provisioner cases of the specification (PR-1 … PR-14) against a cloud that lags."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agent.messages import InstanceState
from coordinator.clouds.base import LaunchRequest
from coordinator.errors import (
    CredentialsRejected,
    InsufficientCapacity,
    LaunchRefused,
    RetryLater,
)


def test_pr_1_an_unknown_template_is_launch_failed_and_no_machine(world: Any) -> None:
    world.apply(world.launch(template="wroker"))
    world.pass_time(20)
    found = world.view("l1-0")
    assert found.state is InstanceState.LAUNCH_FAILED
    assert "wroker" in found.reason and "did you mean 'worker'" in found.reason
    assert not found.retryable
    assert world.ever_made() == 0


def test_pr_1_an_unknown_cloud_is_launch_failed_and_no_machine(world: Any) -> None:
    world.apply(world.launch(cloud="clod"))
    world.pass_time(20)
    assert world.state("l1-0") is InstanceState.LAUNCH_FAILED
    assert "did you mean 'cloud'?" in world.view("l1-0").reason
    assert world.ever_made() == 0


def test_pr_2_a_missing_variable_is_named_and_makes_no_machine(world: Any) -> None:
    from jinja2 import Environment, StrictUndefined, UndefinedError

    from userdata_templates.render import MissingVariable

    def render(_template: str, _form: str, variables: dict[str, Any]) -> str:
        try:
            text = Environment(undefined=StrictUndefined).from_string("{{ shoe_size }}")
            return text.render(variables)
        except UndefinedError as problem:
            raise MissingVariable(str(problem)) from None

    world.render = render
    world.apply(world.launch())
    world.apply(world.launch("l2", variables={"shoe_size": "43"}))
    world.pass_time(20)
    assert world.state("l1-0") is InstanceState.LAUNCH_FAILED
    assert "shoe_size" in world.view("l1-0").reason
    assert world.machines() == ["l2-0"]


def test_pr_3_a_whole_life_takes_exactly_the_states_of_the_table(world: Any) -> None:
    world.running()
    world.apply(world.terminate("l1-0"))
    world.pass_time(20)
    assert world.history("l1-0") == [
        "REQUESTED",
        "LAUNCHING",
        "BOOTING",
        "RUNNING",
        "TERMINATING",
        "TERMINATED",
    ]
    assert world.machines() == []
    names = [event.name for event in world.part.events()]
    assert names == ["new_launch", "new_node", "node_ready", "node_terminating", "node_terminated"]


def test_pr_4_the_same_launch_id_twice_is_one_machine_per_index(world: Any) -> None:
    world.apply(world.launch(count=2))
    world.apply(world.launch(count=2))
    world.pass_time(30)
    world.apply(world.launch(count=2))
    world.pass_time(30)
    assert world.ever_made() == 2
    assert world.machines() == ["l1-0", "l1-1"]


def test_pr_4_two_provisioners_on_one_store_make_one_machine(world: Any) -> None:
    other = world.new_provisioner()
    batch = world.batch(world.launch(count=2))
    assert [world.part.apply(batch).outcome, other.apply(batch).outcome] == ["applied", "repeated"]
    for _ in range(20):
        world.pass_time(1)
        for cloud in other.due():
            other.reconcile(cloud)
    assert world.ever_made() == 2


def test_pr_5_a_launch_that_arrives_after_its_termination_starts_nothing(world: Any) -> None:
    world.apply(world.terminate("l1-0"))
    assert world.state("l1-0") is InstanceState.TERMINATED
    world.apply(world.launch())
    world.pass_time(30)
    assert world.state("l1-0") is InstanceState.TERMINATED
    assert world.ever_made() == 0


def test_pr_5_a_machine_is_ended_whose_twin_index_has_a_tombstone(world: Any) -> None:
    world.apply(world.terminate("l1-1"))
    world.apply(world.launch(count=2))
    world.pass_time(40)
    assert world.states() == {"l1-0": "BOOTING", "l1-1": "TERMINATED"}
    assert world.machines() == ["l1-0"]


def test_pr_6_no_capacity_is_retryable_after_launch_timeout_and_no_machine(world: Any) -> None:
    world.clouds["cloud"].fail_next("launch", *[InsufficientCapacity("full")] * 1000)
    world.apply(world.launch(launch_timeout=60.0))
    world.pass_time(50)
    assert world.state("l1-0") is InstanceState.LAUNCHING
    world.pass_time(60)
    found = world.view("l1-0")
    assert (found.state, found.retryable) == (InstanceState.LAUNCH_FAILED, True)
    assert "full" in found.reason
    assert world.ever_made() == 0


def test_pr_6_capacity_that_returns_in_time_is_taken(world: Any) -> None:
    world.clouds["cloud"].fail_next("launch", *[InsufficientCapacity("full")] * 3)
    world.apply(world.launch())
    world.pass_time(60)
    assert world.state("l1-0") is InstanceState.BOOTING
    assert not world.view("l1-0").retryable


def test_pr_6_a_lost_reply_is_repeated_and_never_a_second_machine(world: Any) -> None:
    lost = [RetryLater("the reply was lost")] * 3
    world.clouds["cloud"].fail_next("launch", *lost, after_acting=True)
    world.apply(world.launch(count=2))
    world.pass_time(60)
    assert world.clouds["cloud"].calls.count("launch") > 1
    assert world.ever_made() == 2
    assert world.states() == {"l1-0": "BOOTING", "l1-1": "BOOTING"}


def test_pr_6_throttling_is_answered_with_growing_pauses(world: Any) -> None:
    world.clouds["cloud"].fail_next("launch", *[RetryLater("slow down")] * 1000)
    world.apply(world.launch(launch_timeout=10_000.0))
    world.pass_time(600)
    assert 8 <= world.clouds["cloud"].calls.count("launch") <= 20
    assert world.state("l1-0") is InstanceState.LAUNCHING


def test_pr_6_a_refused_launch_fails_at_once_and_is_not_retryable(world: Any) -> None:
    world.clouds["cloud"].fail_next("launch", LaunchRefused("no such image"))
    world.apply(world.launch())
    world.pass_time(5)
    found = world.view("l1-0")
    assert (found.state, found.retryable) == (InstanceState.LAUNCH_FAILED, False)
    assert found.reason == "no such image"
    assert world.clouds["cloud"].calls.count("launch") == 1


@pytest.mark.parametrize(("after", "state"), [(30, "BOOTING"), (120, "TERMINATED")])
def test_pr_7_a_booting_machine_that_vanishes_is_believed_after_the_window(
    make_world: Callable[..., Any], after: float, state: str
) -> None:
    world = make_world(lag=0.0, gone_listed_for=0.0)
    world.clouds["cloud"].consistency_window = 60.0
    world.apply(world.launch(boot_timeout=1000.0))
    world.pass_time(1)
    assert world.states() == {"l1-0": "BOOTING"}
    world.clouds["cloud"].vanish("m-000001")
    world.pass_time(after)
    assert world.states() == {"l1-0": state}
    assert ("vanished" in world.view("l1-0").reason) == (state == "TERMINATED")


def test_pr_7_a_running_machine_that_is_not_listed_stays_while_its_agent_beats(world: Any) -> None:
    world.running()
    world.hears("l1-0")
    world.clouds["cloud"].vanish("m-000001")
    world.pass_time(300)
    assert world.states() == {"l1-0": "RUNNING"}
    world.hears("l1-0", age=31.0)
    world.pass_time(6)
    assert world.states() == {"l1-0": "TERMINATED"}


def test_pr_7_nobody_vanishes_while_the_second_witness_is_blind_or_away(world: Any) -> None:
    world.running()
    world.clouds["cloud"].vanish("m-000001")
    world.witness = None
    world.pass_time(200)
    assert world.states() == {"l1-0": "RUNNING"}
    world.witness = {"blind": True, "observing_age": 500.0, "nodes": {}}
    world.pass_time(200)
    assert world.states() == {"l1-0": "RUNNING"}
    world.witness = {"blind": False, "observing_age": -20.0, "nodes": {}}
    world.pass_time(30)
    assert world.states() == {"l1-0": "RUNNING"}


def test_pr_8_no_readiness_in_time_is_boot_failed_with_the_end_of_the_console(world: Any) -> None:
    world.apply(world.launch(boot_timeout=60.0))
    world.pass_time(30)
    world.clouds["cloud"].say("m-000001", "x" * 5000 + "kernel panic")
    world.pass_time(60)
    found = world.view("l1-0")
    assert found.state is InstanceState.BOOT_FAILED
    assert "boot_timeout (60 s)" in found.reason and found.reason.endswith("kernel panic")
    assert len(found.reason) < 2000
    assert world.machines() == ["l1-0"]


def test_pr_8_a_reported_problem_is_boot_failed_with_its_step(world: Any) -> None:
    world.apply(world.launch())
    world.pass_time(10)
    answer = world.enrol_and_report("l1-0", ok=False, step="check tcp", problem="port 80 closed")
    assert answer == {"accepted": True, "state": "BOOT_FAILED"}
    assert world.view("l1-0").reason == "check tcp: port 80 closed"
    assert world.events("node_ready_failed")[0].reason == "check tcp: port 80 closed"


def test_pr_9_terminate_all_ends_what_is_there_and_is_done_when_the_cloud_says_so(
    world: Any,
) -> None:
    world.running(3, "gone")
    world.apply(*[world.terminate(f"gone-{i}") for i in range(3)])
    world.pass_time(20)
    world.running(3, "up")
    world.apply(world.launch("coming", 3))
    world.pass_time(1)
    assert len(world.machines()) == 6
    progress = world.part.terminate_all(now=True)
    assert (progress["enabled"], progress["done"]) == (False, False)
    assert len(progress["remaining"]) == 6
    world.pass_time(3)
    assert world.machines() == ["coming-0", "coming-1", "coming-2"], "not listed yet"
    world.pass_time(5)
    assert world.machines() == []
    assert not world.part.progress()["done"], "the listing still shows them"
    world.apply(world.launch("late"))
    assert world.state("late-0") is InstanceState.REJECTED
    world.pass_time(30)
    progress = world.part.progress()
    assert progress["done"] and progress["clouds"]["cloud"]["listed"] == 0
    assert progress["remaining"] == []
    world.part.enable()
    assert not world.part.progress()["done"]
    world.apply(world.launch("again"))
    world.pass_time(20)
    assert world.machines() == ["again-0"]


def test_pr_9_a_teardown_survives_a_restart(world: Any) -> None:
    world.running(2)
    world.part.terminate_all(now=True)
    world.part = world.new_provisioner()
    assert world.apply(world.launch("late")) == "applied"
    world.pass_time(30)
    assert world.part.progress()["done"]
    assert world.machines() == []
    assert world.state("late-0") is InstanceState.REJECTED


def test_pr_9_a_cloud_that_can_not_be_listed_is_never_done(world: Any) -> None:
    world.running(1)
    world.part.terminate_all(now=True)
    world.pass_time(30)
    world.clouds["cloud"].fail_next("list_instances", *[RetryLater("down")] * 100)
    world.pass_time(30)
    progress = world.part.progress()
    assert not progress["done"]
    assert "down" in progress["clouds"]["cloud"]["problem"]


def test_pr_11_a_stray_is_destroyed_after_the_window_and_foreigners_never(world: Any) -> None:
    world.running(1)
    cloud = world.clouds["cloud"]
    ours = LaunchRequest(launch_id="x", run="run", pool="sleeper", count=1, user_data="")
    base = LaunchRequest(launch_id="b", run="run", pool="broker-host", count=1, user_data="")
    foreign = LaunchRequest(launch_id="f", run="other", pool="sleeper", count=1, user_data="")
    for request in (ours, base, foreign):
        cloud.launch(request)
    world.pass_time(20)
    assert world.machines() == ["b-0", "f-0", "l1-0", "x-0"]
    world.pass_time(40)
    assert world.machines() == ["b-0", "f-0", "l1-0"]
    assert len(world.events("stray_destroyed")) == 1


def test_pr_11_a_second_machine_of_one_intent_is_destroyed(
    make_world: Callable[..., Any],
) -> None:
    world = make_world(lag=5.0, honours_launch_id=False)
    world.clouds["cloud"].fail_next("launch", RetryLater("lost"), after_acting=True)
    world.apply(world.launch())
    world.pass_time(10)
    assert world.machines() == ["l1-0", "l1-0"]
    world.pass_time(60)
    assert world.machines() == ["l1-0"]


def test_pr_13_a_launch_that_never_shows_is_repeated_then_given_up(world: Any) -> None:
    world.clouds["cloud"].fail_next("launch", *[RetryLater("busy")] * 1000)
    world.apply(world.launch(launch_timeout=100.0))
    world.pass_time(90)
    assert world.state("l1-0") is InstanceState.LAUNCHING
    world.pass_time(40)
    assert world.history("l1-0")[-2:] == ["TERMINATING", "TERMINATED"]
    assert world.clouds["cloud"].calls.count("launch") > 3


def test_pr_14_rejected_credentials_hold_one_cloud_with_one_event(
    make_world: Callable[..., Any],
) -> None:
    world = make_world(clouds=("cloud", "other"), lag=0.0)
    cloud = world.clouds["cloud"]
    cloud.fail_next("list_instances", *[CredentialsRejected("expired")] * 10)
    world.apply(world.launch("l1", launch_timeout=30.0), world.launch("l2", cloud="other"))
    world.pass_time(350)
    assert len(cloud.calls) <= 8, "no loop"
    assert [event.reason for event in world.events("cloud_held")] == ["expired"]
    assert world.states() == {"l1-0": "REQUESTED", "l2-0": "BOOT_FAILED"}
    assert world.machines("other") == ["l2-0"]
    assert world.part.status()["held"] == ["cloud"]
    world.pass_time(900)
    assert world.state("l1-0") in (InstanceState.BOOTING, InstanceState.BOOT_FAILED)
    assert world.machines() == ["l1-0"]
    assert len(world.events("cloud_held")) == 1
    assert len(world.events("cloud_recovered")) == 1
    assert world.part.status()["held"] == []


def test_pr_14_a_right_to_list_alone_does_not_end_the_hold_of_launches(exact_world: Any) -> None:
    world = exact_world
    world.clouds["cloud"].fail_next("launch", *[CredentialsRejected("no RunInstances")] * 5)
    world.apply(world.launch(launch_timeout=30.0))
    world.pass_time(290)
    assert world.state("l1-0") is InstanceState.LAUNCHING
    assert world.clouds["cloud"].calls.count("launch") == 5
    assert len(world.events("cloud_held")) == 1
    assert world.events("cloud_recovered") == []
    world.pass_time(60)
    assert world.state("l1-0") is InstanceState.BOOTING
    assert len(world.events("cloud_recovered")) == 1
