"""T5: what must hold holds in many histories, and the same seed is the same history."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from coordinator.simulation.living import live_seed

SEEDS = 200
BLOCKS = 20
#: The same histories say the same again; who asks for more (``make simulate``) asks for new ones.
ALWAYS = 10


@pytest.mark.parametrize(
    "block",
    [pytest.param(n, marks=[] if n < ALWAYS else [pytest.mark.soak]) for n in range(BLOCKS)],
)
def test_everything_holds_in_many_histories(block: int) -> None:
    for seed in range(block, SEEDS, BLOCKS):
        outcome = live_seed(seed)
        assert not outcome.broken, f"{outcome.broken}; again: {outcome.replay}"


def test_histories_are_long_enough_to_say_something() -> None:
    outcomes = [live_seed(seed) for seed in range(5)]
    assert sum(one.machines for one in outcomes) > 10
    assert all(one.seconds > 300 and one.events > 1000 for one in outcomes)
    assert len({one.digest for one in outcomes}) == len(outcomes)


def test_a_seed_is_the_same_history_in_every_process(tmp_path: Path) -> None:
    here = live_seed(7)
    for hash_seed in ("0", "4711"):
        other = subprocess.run(
            [sys.executable, "-m", "coordinator.simulation", "--seed", "7"],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        assert f"trace {here.digest}" in other.stdout
    assert live_seed(7).digest == here.digest
