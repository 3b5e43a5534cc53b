"""The protocol between controller and provisioner."""

from __future__ import annotations

from typing import Any

import pytest

from agent.messages import CancelDrain, InstanceState
from coordinator.errors import ConfigProblem, NotFound
from coordinator.provisioner.records import TOLD_AT_MOST


def test_the_same_batch_twice_is_applied_once(world: Any) -> None:
    batch = world.batch(world.launch(count=3))
    assert [world.part.apply(batch).outcome for _ in range(3)] == [
        "applied",
        "repeated",
        "repeated",
    ]
    world.pass_time(20)
    assert world.ever_made() == 3


def test_a_batch_of_an_older_epoch_is_superseded_and_changes_nothing(world: Any) -> None:
    assert world.part.claim_epoch(["sleeper"]) == {"sleeper": 1}
    stale = world.batch(world.launch("stale"))
    assert world.part.claim_epoch(["sleeper"]) == {"sleeper": 2}
    assert world.part.apply(stale).outcome == "superseded"
    assert world.states() == {}
    assert world.apply(world.launch("fresh")) == "applied"


def test_a_claim_that_is_delivered_twice_supersedes_nobody(world: Any) -> None:
    assert world.part.claim_epoch(["sleeper"], "one") == {"sleeper": 1}
    batch = world.batch(world.launch("mine"))
    assert world.part.claim_epoch(["sleeper"], "one") == {"sleeper": 1}
    assert world.part.apply(batch).outcome == "applied"


def test_another_controller_s_claim_supersedes_the_one_before(world: Any) -> None:
    world.part.claim_epoch(["sleeper"], "one")
    stale = world.batch(world.launch("stale"))
    assert world.part.claim_epoch(["sleeper"], "two") == {"sleeper": 2}
    assert world.part.apply(stale).outcome == "superseded"
    assert world.part.claim_epoch(["sleeper"], "one") == {"sleeper": 3}


def test_an_epoch_learnt_from_a_batch_belongs_to_no_claim_of_before(world: Any) -> None:
    """Our store was put back: whoever claimed in it may not share the newer epoch."""
    world.part.claim_epoch(["sleeper"], "old")
    assert world.apply(world.launch("a"), epoch=5) == "applied"
    assert world.part.claim_epoch(["sleeper"], "old") == {"sleeper": 6}


def test_a_batch_based_on_an_older_version_conflicts_and_changes_nothing(world: Any) -> None:
    batch = world.batch(world.launch("late"))
    world.apply(world.launch("first"))
    answer = world.part.apply(batch)
    assert answer.outcome == "conflict"
    assert "version 1, not 0" in answer.detail
    assert list(world.states()) == ["first-0"]


def test_what_happens_in_the_world_makes_older_views_conflict(world: Any) -> None:
    nodes = world.running(1)
    batch = world.batch(world.launch("replacement"))
    world.part.presence_lost(nodes)
    world.clouds["cloud"].vanish("m-000001")
    world.hears("l1-0", age=100.0, presence_lost_age=50.0)
    world.pass_time(10)
    assert world.states() == {"l1-0": "TERMINATED"}
    assert world.part.apply(batch).outcome == "conflict"


def test_who_enrolled_meanwhile_is_not_ended_by_who_has_not_seen_it(world: Any) -> None:
    """Found by simulated history 2074: once enrolled it may have a job in hand."""
    world.apply(world.launch("l1"))
    world.pass_time(20)
    assert world.states() == {"l1-0": "BOOTING"}
    batch = world.batch(world.terminate("l1-0"))
    world.part.node_enrolled("l1-0", ["10.0.0.1"])
    assert world.part.apply(batch).outcome == "conflict"
    assert world.states() == {"l1-0": "BOOTING"}


def test_a_refused_batch_may_be_sent_again_with_a_fresh_view(world: Any) -> None:
    batch = world.batch(world.launch("late"))
    world.apply(world.launch("first"))
    assert world.part.apply(batch).outcome == "conflict"
    again = world.batch(world.launch("late"), batch_id=batch.batch_id)
    assert world.part.apply(again).outcome == "applied"


def test_pools_have_versions_and_epochs_of_their_own(world: Any) -> None:
    batch = world.batch(world.launch("a"))
    world.apply(world.launch("b"), pool="other")
    world.part.claim_epoch(["other"])
    assert world.part.apply(batch).outcome == "applied"
    assert world.states("other") == {"b-0": "REQUESTED"}


def test_a_delta_tells_exactly_what_changed_since(world: Any) -> None:
    world.apply(world.launch("a"))
    version = world.part.instances("sleeper").version
    assert world.part.instances("sleeper", version).instances == ()
    world.apply(world.launch("b"))
    delta = world.part.instances("sleeper", version)
    assert [view.node_id for view in delta.instances] == ["b-0"]
    assert all(view.changed_in == delta.version for view in delta.instances)


def test_a_reader_from_the_future_gets_everything(world: Any) -> None:
    world.apply(world.launch("a"))
    snapshot = world.part.instances("sleeper", 99)
    assert (snapshot.since, [view.node_id for view in snapshot.instances]) == (0, ["a-0"])


def test_an_idle_provisioner_writes_nothing_and_keeps_its_version(world: Any) -> None:
    world.running(3)
    world.pass_time(20)
    version = world.part.instances("sleeper").version
    with world.engine.connect() as connection:
        before = connection.exec_driver_sql("pragma data_version").scalar()
        world.pass_time(120)
        assert connection.exec_driver_sql("pragma data_version").scalar() == before
    assert world.part.instances("sleeper").version == version


def test_snapshots_stay_bounded_however_many_have_ended(world: Any) -> None:
    for number in range(0, TOLD_AT_MOST + 100, 50):
        world.apply(*[world.terminate(f"t{number + i}-0") for i in range(50)])
    assert len(world.part.instances("sleeper").instances) == TOLD_AT_MOST
    world.pass_time(4000, step=500)
    assert world.part.instances("sleeper").instances == ()


def test_an_absurd_batch_names_every_problem_and_changes_nothing(world: Any) -> None:
    batch = world.batch(world.launch("a", count=0), world.launch("b.c"), world.terminate("what"))
    with pytest.raises(ConfigProblem) as found:
        world.part.apply(batch)
    assert len(found.value.problems) == 3
    assert world.states() == {}


def test_commands_touch_no_instance_of_another_pool(world: Any) -> None:
    world.running(1)
    assert world.apply(world.terminate("l1-0"), pool="other") == "applied"
    assert world.states() == {"l1-0": "RUNNING"}


def test_what_was_not_asked_for_yet_ends_without_a_call(world: Any) -> None:
    world.apply(world.launch())
    world.apply(world.terminate("l1-0"))
    world.pass_time(30)
    assert world.history("l1-0") == ["REQUESTED", "TERMINATED"]
    assert "launch" not in world.clouds["cloud"].calls


def test_a_terminated_zombie_is_terminated_once_more(world: Any) -> None:
    world.running(1)
    world.apply(world.terminate("l1-0"))
    world.pass_time(30)
    before = world.clouds["cloud"].calls.count("terminate")
    world.apply(world.terminate("l1-0"))
    world.pass_time(100)
    assert world.clouds["cloud"].calls.count("terminate") == before + 1


def test_enrolment_of_an_unknown_machine_is_not_found(world: Any) -> None:
    with pytest.raises(NotFound):
        world.part.node_for_enrolment("nobody", 0)


def test_an_enrolment_is_the_first_witness_before_any_listing(world: Any) -> None:
    world.apply(world.launch())
    world.tick()
    known = world.part.node_for_enrolment("l1", 0)
    assert (known["node_id"], known["pool"], known["run"]) == ("l1-0", "sleeper", "run")
    assert known["role"]["drain_timeout"] == 100.0
    world.part.node_enrolled("l1-0", ["10.0.0.9"])
    assert world.state("l1-0") is InstanceState.BOOTING
    assert world.view("l1-0").addresses == ("10.0.0.9",)
    report = world.enrol_and_report("l1-0", outputs={"url": "http://x"})
    assert report == {"accepted": True, "state": "RUNNING"}
    assert world.view("l1-0").outputs == {"url": "http://x"}
    world.pass_time(20)
    assert world.view("l1-0").listed
    assert world.history("l1-0") == ["REQUESTED", "LAUNCHING", "BOOTING", "RUNNING"]


def test_a_readiness_report_may_be_repeated(world: Any) -> None:
    world.running(1)
    version = world.part.instances("sleeper").version
    assert world.enrol_and_report("l1-0") == {"accepted": True, "state": "RUNNING"}
    assert world.part.instances("sleeper").version == version


def test_readiness_of_a_node_that_is_not_wanted_is_not_accepted(world: Any) -> None:
    world.running(1)
    world.apply(world.terminate("l1-0"))
    assert world.enrol_and_report("l1-0") == {"accepted": False, "state": "TERMINATING"}
    world.pass_time(30)
    assert world.enrol_and_report("l1-0") == {"accepted": False, "state": "TERMINATED"}
    assert world.part.live_nodes() == []


def test_a_report_that_comes_after_boot_timeout_revives_nothing(world: Any) -> None:
    world.apply(world.launch(boot_timeout=20.0))
    world.pass_time(60)
    assert world.enrol_and_report("l1-0") == {"accepted": False, "state": "BOOT_FAILED"}


def test_a_cancelled_drain_takes_the_node_back_and_tells_its_agent(world: Any) -> None:
    world.running(1)
    world.apply(world.drain("l1-0"))
    world.pass_time(2)
    world.apply(CancelDrain(command_id="c", node_id="l1-0", reason="needed"))
    assert world.state("l1-0") is InstanceState.RUNNING
    world.pass_time(2)
    assert ("agent-l1-0", "cancel_drain") in world.asked
    world.agents["l1-0"] = {
        "cancel_drain": {"node_id": "l1-0", "draining": False, "drained": False}
    }
    world.pass_time(2)
    world.asked.clear()
    world.pass_time(200)
    assert world.asked == [], "the agent has confirmed"
    assert world.state("l1-0") is InstanceState.RUNNING
    assert [event.name for event in world.part.events()][-2:] == [
        "drain_started",
        "drain_cancelled",
    ]
