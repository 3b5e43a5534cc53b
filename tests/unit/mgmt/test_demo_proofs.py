"""The demonstration's proofs: each must be able to fail."""

from __future__ import annotations

from typing import Any

import pytest

from agent.messages import Event
from mgmt.demo import proofs
from mgmt.demo.proofs import Sample


def event(time: float, name: str, node: str = "", **extra: Any) -> Event:
    return Event(time=time, source="provisioner", name=name, node=node, extra=extra)


def sample(at: float, **fields: Any) -> Sample:
    values: dict[str, Any] = {
        "done": 0,
        "ready": 0,
        "unacknowledged": 0,
        "running": 1,
        "pending": 0,
        "draining": 0,
        "wanted": 1,
        "state": "STABLE",
        "reason": "",
    }
    return Sample(at=at, **{**values, **fields})


def test_a_job_that_was_never_done_is_missed_and_one_done_twice_is_not() -> None:
    assert proofs.all_jobs_done(2, ["a n 1", "b n 2", "a n 3"]).held
    assert not proofs.all_jobs_done(3, ["a n 1", "b n 2", "a n 3"]).held


@pytest.mark.parametrize(
    ("launched_at", "count", "in_time", "single"),
    [(12.0, 1, True, True), (16.0, 1, False, True), (12.0, 2, True, False)],
)
def test_a_replacement_must_be_soon_and_one(
    launched_at: float, count: int, in_time: bool, single: bool
) -> None:
    events = [
        event(9.0, "new_launch", count=1),
        event(11.0, "node_terminated", "killed"),
        event(launched_at, "new_launch", count=count),
    ]
    soon, one = proofs.replaced_once(events, "killed", 10.0)
    assert (soon.held, one.held) == (in_time, single)


def test_a_node_that_nobody_missed_was_not_replaced() -> None:
    events = [event(12.0, "new_launch", count=1)]
    assert [proof.held for proof in proofs.replaced_once(events, "killed", 10.0)] == [False]


def test_the_last_worker_may_go_only_after_the_last_job() -> None:
    events = [
        event(1.0, "node_ready", "a"),
        event(2.0, "node_ready", "b"),
        event(5.0, "drain_started", "a"),
        event(9.0, "drain_started", "b"),
    ]
    assert proofs.last_worker_stayed(events, last_done=8.0).held
    assert not proofs.last_worker_stayed(events, last_done=9.5).held


def test_a_last_worker_that_was_killed_was_not_removed_by_choice() -> None:
    events = [event(1.0, "node_ready", "a"), event(2.0, "node_terminated", "a")]
    assert proofs.last_worker_stayed(events, last_done=8.0).held


@pytest.mark.parametrize(("launched_at", "held"), [(10.1, True), (11.0, True), (13.0, False)])
def test_work_without_a_worker_must_lead_to_a_launch_within_a_cycle(
    launched_at: float, held: bool
) -> None:
    samples = [
        sample(9.0, running=0),
        sample(10.0, running=0, ready=5),
        sample(10.5, running=0, ready=5),
        sample(14.0, running=0, pending=1, ready=5),
    ]
    events = [event(2.0, "new_launch"), event(launched_at, "new_launch")]
    assert proofs.never_idle_with_work(events, samples, cycle=1.0, looked_every=0.25).held is held


def test_work_that_nobody_ever_launched_for_is_seen() -> None:
    samples = [sample(10.0, running=0, ready=5), sample(20.0, running=0, ready=5)]
    assert not proofs.never_idle_with_work([], samples, cycle=1.0, looked_every=0.25).held


def test_growing_and_shrinking_are_read_from_what_was_running() -> None:
    good = [sample(1.0, running=4), sample(2.0, running=0)]
    assert [proof.held for proof in proofs.grew_and_shrank(good, 4)] == [True, True]
    poor = [sample(1.0, running=3), sample(2.0, running=1)]
    assert [proof.held for proof in proofs.grew_and_shrank(poor, 4)] == [False, False]


def test_anything_left_is_named() -> None:
    assert proofs.nothing_left([], [], []).held
    left = proofs.nothing_left(["process 7: x"], [5672], ["/tmp/epu-1"])
    assert not left.held
    assert "process 7" in left.figures and "5672" in left.figures and "/tmp/epu-1" in left.figures
