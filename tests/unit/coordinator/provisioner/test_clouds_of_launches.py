"""What a launch tells its cloud, what the cloud's answer proves, and how clouds are told of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agent.messages import InstanceState
from coordinator.clouds.base import LaunchRequest
from coordinator.errors import CredentialsRejected, InsufficientCapacity, RetryLater


def test_the_settings_of_a_launch_reach_the_driver_and_its_repeats(world: Any) -> None:
    cloud = world.clouds["cloud"]
    cloud.fail_next("launch", RetryLater("lost"), after_acting=True)
    world.apply(world.launch(settings={"type": "big"}))
    world.pass_time(20)
    assert cloud.calls.count("launch") >= 2
    assert [machine.request.settings for machine in cloud.history] == [{"type": "big"}]


def test_a_launch_that_is_larger_than_its_cloud_takes_conflicts_and_changes_nothing(
    make_world: Callable[..., Any],
) -> None:
    world = make_world(batch_limit=1)
    assert world.part.instances("sleeper").clouds["cloud"].batch_limit == 1
    answer = world.part.apply(world.batch(world.launch(count=2)))
    assert (answer.outcome, answer.detail) == ("conflict", "cloud takes 1 machines a launch")
    assert world.states() == {}
    assert world.apply(world.launch("a"), world.launch("b")) == "applied"
    world.pass_time(20)
    assert world.machines() == ["a-0", "b-0"]
    tokens = {machine.request.user_data for machine in world.clouds["cloud"].machines}
    assert len(tokens) == 2, "each machine has a user-data of its own"


def test_an_intent_that_was_proven_empty_ends_at_once_when_it_is_not_wanted(world: Any) -> None:
    world.clouds["cloud"].fail_next("launch", *[InsufficientCapacity("full")] * 100)
    world.apply(world.launch())
    world.pass_time(1)
    assert world.view("l1-0").retryable
    world.apply(world.terminate("l1-0"))
    assert world.state("l1-0") is InstanceState.TERMINATED
    world.pass_time(60)
    assert world.ever_made() == 0


def test_rejected_credentials_do_not_prove_that_a_lost_reply_made_nothing(world: Any) -> None:
    cloud = world.clouds["cloud"]
    cloud.fail_next("launch", RetryLater("lost"), after_acting=True)
    cloud.fail_next("launch", RetryLater("busy"))
    world.apply(world.launch())
    world.pass_time(0)
    cloud.fail_next("list_instances", *[RetryLater("busy")] * 3)
    cloud.fail_next("launch", *[CredentialsRejected("expired")] * 2)
    world.pass_time(4)
    found = world.view("l1-0")
    assert "credentials rejected" in found.reason
    assert not found.retryable
    world.apply(world.terminate("l1-0"))
    assert world.state("l1-0") is InstanceState.TERMINATING
    world.pass_time(200)
    assert world.state("l1-0") is InstanceState.TERMINATED
    assert world.machines() == []


def test_a_cloud_that_fails_and_one_that_rejects_us_are_told_with_every_snapshot(
    make_world: Callable[..., Any],
) -> None:
    world = make_world(clouds=("cloud", "other", "third"), lag=0.0)
    world.clouds["cloud"].fail_next("list_instances", *[RetryLater("down")] * 100)
    world.clouds["other"].fail_next("list_instances", CredentialsRejected("expired"))
    world.pass_time(40)
    told = world.part.instances("sleeper").clouds
    assert told["cloud"].silent_for >= 30 and "down" in told["cloud"].problem
    assert 0 < told["other"].rejected_for <= 60 and "expired" in told["other"].problem
    assert (told["third"].silent_for, told["third"].problem) == (0.0, "")


def test_the_price_that_a_cloud_names_is_on_the_record(make_world: Callable[..., Any]) -> None:
    world = make_world(lag=0.0, price=0.1, prices={"big": 0.4})
    world.apply(world.launch("a"), world.launch("b", settings={"type": "big"}))
    world.pass_time(5)
    assert [world.view(node).price for node in ("a-0", "b-0")] == [0.1, 0.4]


def test_two_accounts_on_one_cloud_leave_each_others_machines_alone(world: Any) -> None:
    """The boot tool's base nodes carry our run; another run's pool has our pool's name."""
    cloud = world.clouds["cloud"]
    base = LaunchRequest(launch_id="base", run="run", pool="broker", count=1, user_data="")
    theirs = LaunchRequest(launch_id="x", run="another", pool="sleeper", count=2, user_data="")
    for request in (base, theirs):
        cloud.launch(request)
    world.running(2)
    world.part.terminate_all(now=True)
    world.pass_time(200)
    assert world.part.progress()["done"]
    assert world.machines() == ["base-0", "x-0", "x-1"]
    # And the other way about: what the other account may end is what it lists.
    assert [m.launch_id for m in cloud.list_instances("another")] == ["x", "x"]


def test_records_that_ended_long_ago_are_forgotten_and_what_lives_is_not(world: Any) -> None:
    nodes = world.running(2)
    world.apply(world.terminate(nodes[0]))
    world.pass_time(30)
    world.hears(nodes[1])
    world.clock.now += 8 * 86400
    world.pass_time(10)
    with world.engine.connect() as connection:
        left = connection.exec_driver_sql("select node_id from instances").scalars().all()
        lines = connection.exec_driver_sql("select distinct node_id from transitions").scalars()
        assert (left, list(lines)) == ([nodes[1]], [nodes[1]])
    assert world.state(nodes[1]) is InstanceState.RUNNING


@pytest.mark.parametrize("count", [1, 120])
def test_a_hundred_drains_are_asked_of_their_agents_and_end(
    make_world: Callable[..., Any], count: int
) -> None:
    world = make_world(lag=0.0, in_memory=True, batch_limit=200)
    nodes = world.running(count)
    for node in nodes:
        world.agents[node] = {"drain": {"node_id": node, "draining": True, "drained": True}}
    world.apply(*[world.drain(node) for node in nodes])
    world.pass_time(5)
    assert world.machines() == []
    assert {node for node, method in world.asked if method == "drain"} == {
        f"agent-{node}" for node in nodes
    }
