"""What a look at a running pool says."""

from __future__ import annotations

from typing import Any

from mgmt.demo.watch import sample_of


def status(**changes: Any) -> dict[str, Any]:
    whole = {
        "decided_age": 0.5, "readings": {"queue.q.ready": {"value": 7.0}}, "running": 2,
        "pending": 1, "draining": 0, "wanted": 3, "state": "PENDING", "reason": "as wanted",
    }  # fmt: skip
    return {**whole, **changes}


def test_a_look_is_as_of_the_cycle_that_it_tells_of() -> None:
    sample = sample_of(status(), done=4, now=100.0)
    assert sample is not None
    assert (sample.at, sample.running, sample.ready, sample.done) == (99.5, 2, 7, 4)


def test_a_controller_that_did_not_look_yet_since_its_start_says_nothing_of_workers() -> None:
    assert sample_of(status(decided_age=None, running=0, wanted=None), done=4, now=100.0) is None
