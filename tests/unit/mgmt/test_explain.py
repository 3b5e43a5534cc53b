"""The reasoning for a pool's size, as a person reads it."""

from __future__ import annotations

from typing import Any

import pytest

from agent.rpc_client import RemoteError
from coordinator.errors import NotFound
from mgmt.explain import explain, explanation_lines

REASONING: dict[str, Any] = {
    "pool": "sleeper",
    "time": 1_700_000_000.0,
    "sentence": "launched 1: 1 of 2 wanted, 60 jobs are more than 50",
    "state": "PENDING",
    "reason": "1 running and 0 pending of 2 wanted",
    "engine": "queue_length",
    "inputs": {
        "counts": {"supply": 1, "running": 1, "draining": 0},
        "readings": {"queue.work.ready": {"value": 60.0, "age": 0.4, "sample": "7"}},
        "unhealthy": {"l-3": {"health": "MISSING", "reason": "silent for 136 s"}},
        "previous_size": 1,
    },
    "wish": {"size": 9, "reason": "60 jobs are more than 50", "held": False, "unique_ids": []},
    "bounds": [
        {"name": "hold", "size": 9, "reason": "not limiting"},
        {"name": "max", "size": 2, "reason": "max is 2"},
        {"name": "budget", "size": 2, "reason": "not limiting"},
    ],
    "wanted": 2,
    "brake": {"level": "MANAGED", "reason": "1 unhealthy"},
    "backoff": {"seconds_left": 12.0, "failures": 2, "last": "no capacity"},
    "commands": [{"command": "LaunchInstances", "launch_id": "l-4", "count": 1, "reason": "r"}],
    "why_not_more": ["max: max is 2"],
    "why_not_fewer": ["all that are left are wanted"],
}


def test_every_input_each_bound_and_the_result_are_said():
    text = "\n".join(explanation_lines(REASONING))
    for word in (
        "queue.work.ready = 60 (0s old)",
        "1 running; 1 of them counts for the size",
        "l-3: MISSING, silent for 136 s",
        "max is 2",
        "not limiting: hold, budget",
        "wanted 2",
        "MANAGED",
        "12s more after 2 failures: no capacity",
        "LaunchInstances 1 as l-4",
        "why not more",
        "why not fewer",
    ):
        assert word in text
    assert text.startswith("pool sleeper is PENDING")
    assert explanation_lines(REASONING, past=True)[0].startswith("pool sleeper was PENDING")


def test_a_cycle_that_did_not_decide_says_why():
    frozen = {**REASONING, "wish": None, "bounds": [], "brake": None, "reason": "frozen: teardown"}
    assert "no decision in this cycle: frozen: teardown" in "\n".join(explanation_lines(frozen))


def test_a_pool_that_has_had_no_cycle_yet_is_not_an_error():
    assert explanation_lines({"pool": "x", "sentence": "no cycle yet"}) == ["no cycle yet"]


def test_an_unknown_pool_gets_the_nearest_name():
    def call(service: str, method: str, *args: Any, timeout: float) -> Any:
        if method == "pools":
            return [{"name": "sleeper"}]
        raise RemoteError("NotFound", "no pool")

    with pytest.raises(NotFound, match="did you mean 'sleeper'"):
        explain(call, "sleper")
