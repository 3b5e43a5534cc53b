"""Health: what is judged of a node, case by case."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.messages import HealthStatus as H
from agent.messages import (
    InstanceState,
    InstanceView,
    NodeRole,
    NodeSigns,
    ProcessState,
    ProgramSpec,
    SensorReport,
)
from coordinator.controller.health import judge, sight_of
from coordinator.pool_spec import HealthSettings

NOW = 1_000_000.0
SETTINGS = HealthSettings()
ROLE = NodeRole(
    programs={
        "worker": ProgramSpec(command=("work",)),
        "side": ProgramSpec(command=("side",), worker=False),
    }
)
RUNNING = InstanceView(
    node_id="n",
    launch_id="l",
    index=0,
    pool="p",
    cloud="c",
    template="t",
    state=InstanceState.RUNNING,
    wanted_at=NOW - 5000,
    state_since=NOW - 4000,
)
SEES = SensorReport(pool="p", observing_age=10_000.0, blind=False)


def health(signs=None, *, note=None, report=SEES, instance=RUNNING, now=NOW):
    if isinstance(signs, dict):
        signs = NodeSigns(node_id="n", **signs)
    return judge(instance, signs, sight_of(report), SETTINGS, ROLE, note, now)


def program(name, state):
    return {"processes": (ProcessState(name=name, state=state),)}


def silent_for(seconds, **changes):
    """Judged twice, as two cycles do: the first one asks for a sign of life."""
    first = health({"heard_age": seconds}, **changes)
    return health({"heard_age": seconds}, note=first.note, **changes)


def test_a_node_that_beats_is_ok():
    assert health({"heard_age": 3.0}).status is H.OK


def test_a_calm_node_keeps_the_same_note():
    first = health({"heard_age": 3.0})
    assert health({"heard_age": 4.0}, note=first.note, now=NOW + 9).note is first.note


@pytest.mark.parametrize(
    ("age", "status"),
    [(120, H.OK), (121, H.OUT_OF_CONTACT), (135, H.OUT_OF_CONTACT), (135.5, H.MISSING)],
)
def test_silence_is_out_of_contact_then_missing(age, status):
    assert silent_for(age).status is status


def test_nobody_is_missing_who_was_not_asked_for_a_sign_of_life():
    assert health({"heard_age": 5000.0}).status is H.OUT_OF_CONTACT


def test_a_node_heard_again_is_ok_at_once():
    lost = silent_for(1000.0)
    assert health({"heard_age": 0.1}, note=lost.note).status is H.OK


def test_a_node_never_heard_has_its_boot_timeout():
    fresh = replace(RUNNING, state_since=NOW - 299)
    late = replace(RUNNING, state_since=NOW - 301)
    assert health(instance=fresh).status is H.UNKNOWN
    assert health(instance=late).status is H.OUT_OF_CONTACT


def test_a_node_heard_before_the_sensors_restarted_has_only_its_missing_timeout():
    note = health({"heard_age": 1.0}).note
    report = replace(SEES, observing_age=130.0)
    assert health(note=note, report=report).status is H.OUT_OF_CONTACT


def test_silence_counts_from_when_the_sensors_could_hear():
    for observing in (-30.0, 0.0, 119.0):
        report = replace(SEES, observing_age=observing)
        assert silent_for(5000.0, report=report).status is H.UNKNOWN
    assert silent_for(5000.0, report=replace(SEES, observing_age=136.0)).status is H.MISSING


def test_silence_counts_from_when_the_node_became_running():
    instance = replace(RUNNING, state_since=NOW - 10)
    assert silent_for(5000.0, instance=instance).status is H.UNKNOWN


@pytest.mark.parametrize("report", [None, replace(SEES, blind=True)], ids=["no answer", "blind"])
def test_a_blind_sensors_service_makes_nobody_missing(report):
    out = health({"heard_age": 130.0})
    assert out.status is H.OUT_OF_CONTACT
    judged = health({"heard_age": 9000.0}, note=out.note, report=report)
    assert judged.status is H.UNKNOWN
    assert judged.note is out.note, "an outage changes no note, so it says nothing"


def test_a_lost_presence_is_a_hint_only():
    lost = {"heard_age": 5.0, "presence_lost_age": 2.0}
    first = health(lost)
    assert first.status is H.OUT_OF_CONTACT
    again = health({"heard_age": 100.0, "presence_lost_age": 97.0}, note=first.note, now=NOW + 95)
    assert again.status is H.OUT_OF_CONTACT, "a lost connection alone makes nobody missing"


def test_a_beat_after_the_lost_presence_clears_it():
    assert health({"heard_age": 1.0, "presence_lost_age": 2.0}).status is H.OK


@pytest.mark.parametrize("state", ["RUNNING", "STARTING", "BACKOFF", "STOPPED", "STOPPING"])
def test_a_program_that_runs_or_is_being_restarted_is_no_error(state):
    assert health({"heard_age": 1.0, **program("worker", state)}).status is H.OK


def test_a_fatal_program_is_a_process_error():
    judged = health({"heard_age": 1.0, **program("worker", "FATAL")})
    assert judged.status is H.PROCESS_ERROR
    assert "worker" in judged.reason


def test_an_exited_program_is_an_error_only_in_a_second_beat():
    def beat(number, note):
        seen = {"heard_age": 1.0, "boot_id": "b", "sequence": number}
        return health({**seen, **program("worker", "EXITED")}, note=note)

    first = beat(1, None)
    same = beat(1, first.note)
    second = beat(2, same.note)
    assert [first.status, same.status, second.status] == [H.OK, H.OK, H.PROCESS_ERROR]
    third = beat(3, second.note)
    assert third.status is H.PROCESS_ERROR
    back = health({"heard_age": 1.0, **program("worker", "RUNNING")}, note=third.note)
    assert back.status is H.OK
    assert beat(5, back.note).status is H.OK, "the count starts again"


@pytest.mark.parametrize(
    ("name", "drains"),
    [("worker", False), ("worker:worker_0", False), ("worker_00", False), ("side", True)],
)
def test_a_node_is_drained_first_unless_its_worker_is_what_failed(name, drains):
    assert health({"heard_age": 1.0, **program(name, "FATAL")}).drain_first is drains


@pytest.mark.parametrize(
    ("sibling", "drains"),
    [("RUNNING", True), ("STARTING", True), ("STOPPING", True), ("FATAL", False)],
)
def test_one_failed_copy_does_not_end_the_jobs_of_its_siblings(sibling, drains):
    copies = (
        ProcessState(name="worker:worker-0", state="FATAL"),
        ProcessState(name="worker:worker-1", state=sibling),
        ProcessState(name="side", state="RUNNING"),
    )
    judged = health({"heard_age": 1.0, "busy": True, "processes": copies})
    assert judged.status is H.PROCESS_ERROR
    assert judged.drain_first is drains


@pytest.mark.parametrize(("failures", "status"), [(2, H.OK), (3, H.MONITOR_ERROR)])
def test_three_beats_without_a_supervisor_are_a_monitor_error(failures, status):
    assert health({"heard_age": 1.0, "supervisor_failures": failures}).status is status


def test_an_old_report_of_a_failure_is_not_believed():
    assert health({"heard_age": 121.0, **program("worker", "FATAL")}).status is H.OUT_OF_CONTACT


@pytest.mark.parametrize("state", [s for s in InstanceState if s not in (InstanceState.RUNNING,)])
def test_who_does_not_run_is_unknown(state):
    instance = replace(RUNNING, state=state, state_since=NOW)
    assert health({"heard_age": 1.0, **program("worker", "FATAL")}, instance=instance).status is (
        H.UNKNOWN
    )


@pytest.mark.parametrize(
    ("ago", "heard", "status"),
    [
        (119, 0.0, H.UNKNOWN),
        (125, 1.0, H.ZOMBIE),
        (125, 10.0, H.UNKNOWN),
        (1000, 31.0, H.UNKNOWN),
        (1000, 29.0, H.ZOMBIE),
    ],
)
def test_a_terminated_machine_that_goes_on_beating_is_a_zombie(ago, heard, status):
    gone = replace(RUNNING, state=InstanceState.TERMINATED, state_since=NOW - ago)
    assert health({"heard_age": heard}, instance=gone).status is status


def test_a_clock_that_jumps_ahead_makes_no_one_missing_who_was_just_launched():
    fresh = replace(RUNNING, state_since=NOW - 2)
    jumped = NOW + 3600
    first = health(instance=fresh, now=jumped)
    second = health(instance=fresh, now=jumped + 1, note=first.note)
    assert H.MISSING not in (first.status, second.status)


def test_a_failed_program_is_told_with_its_exit_status_and_its_last_words():
    failed = ProcessState(
        name="worker",
        state="FATAL",
        exit_status=3,
        problem="Exited too quickly",
        stderr_tail="Traceback …\nno such queue\n\n",
    )
    found = health({"heard_age": 1.0, "processes": (failed,)})
    assert found.status is H.PROCESS_ERROR
    assert found.reason == "program worker failed for good (exit status 3): no such queue"
    assert found.failed == (failed,)


def test_each_distinct_failure_is_news_once():
    one = ProcessState(name="side", state="FATAL", exit_status=1)
    other = ProcessState(name="worker", state="FATAL", exit_status=2)
    first = health({"heard_age": 1.0, "processes": (one,)}, now=NOW)
    again = health({"heard_age": 1.0, "processes": (one,)}, note=first.note, now=NOW + 1)
    assert again.note is first.note
    both = health({"heard_age": 1.0, "processes": (one, other)}, note=again.note, now=NOW + 2)
    assert both.note.fault != first.note.fault and both.note.since == NOW
    well = health({"heard_age": 1.0}, note=both.note, now=NOW + 3)
    assert (well.status, well.note.fault) == (H.OK, "")
