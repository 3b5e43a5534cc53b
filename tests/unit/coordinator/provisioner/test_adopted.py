"""Machines that people booted: recorded, drained, stopped; gone when their agent is."""

from __future__ import annotations

from typing import Any

import pytest

from agent.messages import ADOPTED_CLOUD, InstanceState, NodeRole
from agent.wire import to_wire

NODE = "sleeper-a1-0"
WANTED = {
    "role": to_wire(NodeRole(heartbeat_interval=10.0, drain_timeout=100.0)),
    "template": "worker",
    "boot_timeout": 60.0,
}


def adopt(world: Any, index: int = 0, cloud_id: str = "") -> dict[str, Any]:
    machine = {"cloud_id": cloud_id, "hostname": "desk"}
    found: dict[str, Any] = world.part.adopt_node("sleeper-a1", index, "sleeper", WANTED, machine)
    return found


@pytest.fixture
def adopted(exact_world: Any) -> Any:
    """A world with one adopted worker, RUNNING, its agent there."""
    adopt(exact_world)
    assert exact_world.enrol_and_report(NODE)["accepted"]
    exact_world.agents[NODE] = {"describe": {}, "stop": None}
    exact_world.pass_time(5)
    return exact_world


def test_its_record_begins_in_booting_and_says_who_booted_it(exact_world: Any) -> None:
    known = adopt(exact_world)
    assert (known["node_id"], known["state"]) == (NODE, "BOOTING")
    view = exact_world.view(NODE)
    assert view.adopted and "desk" in view.reason
    assert [event.node for event in exact_world.events("new_node")] == [NODE]
    assert adopt(exact_world) == known, "asked again it is the same"
    assert exact_world.history(NODE) == ["BOOTING"]


def test_a_running_one_is_never_called_gone_by_a_listing(adopted: Any) -> None:
    adopted.agents.clear()
    adopted.part.presence_lost([NODE])
    adopted.pass_time(300)
    assert adopted.state(NODE) is InstanceState.RUNNING, "silence is for the controller to judge"


def test_it_is_gone_when_its_agent_is_after_it_was_asked_to_stop(adopted: Any) -> None:
    assert adopted.apply(adopted.terminate(NODE)) == "applied"
    adopted.pass_time(20)
    assert adopted.state(NODE) is InstanceState.TERMINATING, "its agent still answers"
    assert ("agent-" + NODE, "stop") in adopted.asked
    del adopted.agents[NODE]
    adopted.pass_time(3)
    assert adopted.state(NODE) is InstanceState.TERMINATED
    assert "its owner's business" in adopted.view(NODE).reason


def test_it_is_drained_before_it_is_stopped(adopted: Any) -> None:
    assert adopted.apply(adopted.drain(NODE)) == "applied"
    adopted.agents[NODE]["drain"] = {"node_id": NODE, "draining": True, "drained": False}
    adopted.pass_time(5)
    assert ("agent-" + NODE, "stop") not in adopted.asked
    adopted.agents[NODE]["drain"] = {"node_id": NODE, "draining": True, "drained": True}
    adopted.pass_time(5)
    assert ("agent-" + NODE, "stop") in adopted.asked


def test_one_that_never_becomes_ready_has_failed_and_is_stopped_too(exact_world: Any) -> None:
    adopt(exact_world)
    exact_world.part.node_enrolled(NODE, [])
    exact_world.part.node_starting(NODE, "check tcp 127.0.0.1:80", "failing: refused")
    exact_world.pass_time(70)
    view = exact_world.view(NODE)
    assert view.state is InstanceState.BOOT_FAILED and view.boot_cause == "check"
    assert view.reason.endswith("check tcp 127.0.0.1:80: failing: refused")
    assert exact_world.apply(exact_world.terminate(NODE)) == "applied"
    exact_world.pass_time(3)
    assert exact_world.state(NODE) is InstanceState.TERMINATED


def test_a_teardown_stops_it_and_names_it_as_left_to_its_owner(adopted: Any) -> None:
    adopted.part.terminate_all(now=True)
    adopted.pass_time(20)
    progress = adopted.part.progress()
    assert not progress["done"] and progress["clouds"][ADOPTED_CLOUD]["listed"] == 1
    del adopted.agents[NODE]
    adopted.pass_time(10)
    progress = adopted.part.progress()
    assert progress["done"] and progress["adopted"] == [NODE]


def test_nobody_is_adopted_while_launches_are_disabled(exact_world: Any) -> None:
    exact_world.part.terminate_all()
    assert adopt(exact_world)["state"] == "REJECTED"
    assert exact_world.states() == {}


def test_a_system_without_adopted_workers_knows_no_such_cloud(exact_world: Any) -> None:
    exact_world.running(1)
    progress = exact_world.part.progress()
    assert list(progress["clouds"]) == ["cloud"] and progress["adopted"] == []


def test_a_launch_on_that_cloud_is_refused_with_the_reason(exact_world: Any) -> None:
    assert exact_world.apply(exact_world.launch(cloud=ADOPTED_CLOUD)) == "applied"
    exact_world.pass_time(5)
    view = exact_world.view("l1-0")
    assert view.state is InstanceState.LAUNCH_FAILED and "a person boots" in view.reason


def test_where_a_start_is_can_be_asked_and_changes_no_version(world: Any) -> None:
    assert world.apply(world.launch()) == "applied"
    world.pass_time(15)
    world.part.node_enrolled("l1-0", [], "", "config: read; broker: away")
    version = world.part.instances("sleeper").version
    world.part.node_starting("l1-0", "program web", "STARTING")
    found = world.part.node("l1-0")
    assert (found["start_step"], found["start_detail"]) == ("program web", "STARTING")
    assert found["start_step_at"] == world.clock.now
    assert world.part.instances("sleeper").version == version, "no batch is refused for it"
    assert [line["state"] for line in found["history"]] == ["REQUESTED", "LAUNCHING", "BOOTING"]


def test_a_boot_that_times_out_is_explained_by_what_its_cloud_still_shows(world: Any) -> None:
    def boot_status(cloud_id: str) -> str:
        return (
            "status: error\ndetail:\n"
            "('scripts-user', RuntimeError('Runparts: 1 failures (runcmd) in 1 attempted'))"
        )

    world.clouds["cloud"].boot_status = boot_status
    assert world.apply(world.launch(boot_timeout=60.0)) == "applied"
    world.pass_time(90)
    view = world.view("l1-0")
    assert view.state is InstanceState.BOOT_FAILED and view.boot_cause == "cloud_init_module"
    assert "module scripts-user failed" in view.reason and "\n" not in view.reason
    event = world.events("node_ready_failed")[0]
    assert event.extra["cause"] == "cloud_init_module"
    assert "status: error" in event.extra["detail"]


def test_ids_are_compared_only_where_the_cloud_tells_machines_their_own(world: Any) -> None:
    assert world.apply(world.launch()) == "applied"
    world.pass_time(15)
    assert world.part.node_for_enrolment("l1", 0)["cloud_id"] == world.view("l1-0").cloud_id
    world.clouds["cloud"].machine_knows_id = False
    assert world.part.node_for_enrolment("l1", 0)["cloud_id"] is None


def test_a_draining_one_is_gone_when_its_queue_is_and_the_sensors_hear_nothing(
    adopted: Any,
) -> None:
    adopted.hears(NODE)
    adopted.apply(adopted.drain(NODE, 1000.0))
    del adopted.agents[NODE]
    adopted.hears(NODE, age=5.0, presence_lost_age=1.0)
    adopted.pass_time(60)
    assert adopted.state(NODE) is InstanceState.DRAINING, "its agent is being started again"
    adopted.hears()
    adopted.witness["blind"] = True
    adopted.pass_time(60)
    assert adopted.state(NODE) is InstanceState.DRAINING, "nobody can tell"
    adopted.hears()
    adopted.pass_time(5)
    assert adopted.state(NODE) is InstanceState.TERMINATED
    assert adopted.history(NODE)[-2:] == ["TERMINATING", "TERMINATED"]


def test_a_draining_one_that_only_hangs_keeps_its_time(adopted: Any) -> None:
    adopted.hears()
    adopted.agents[NODE]["drain"] = {"node_id": NODE, "draining": True, "drained": False}
    adopted.apply(adopted.drain(NODE, 100.0))
    adopted.pass_time(90)
    assert adopted.state(NODE) is InstanceState.DRAINING
