"""The sample "custom-engine": a pool that an engine from outside decides about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bootlevels.plans.sleeper.producer import produce

pytestmark = pytest.mark.e2e

POOL = "epu-spare"


def test_an_engine_of_ones_own_keeps_a_spare_worker_while_others_are_busy(
    boot: Callable[..., Any],
) -> None:
    sample = boot("custom-engine")
    assert "0 busy and 1 spare" in sample.epu("explain", POOL)
    produce(sample.system.access, "spare-work", ["one"], 5.0)
    sample.system.wait(
        lambda: sample.pool(POOL)["running"] == 2, "one is busy and one is spare", 30
    )
    sample.system.wait(lambda: sample.pool(POOL)["wanted"] == 1, "the job is done", 30)
    sample.epu("wait", POOL, "--state", "STABLE", "--timeout", "30")
    sample.system.wait(lambda: len(sample.system.alive()) == 1, "one machine is left")
    sample.epu("pool", "reconfigure", POOL, "engine.spare=-1", code=2)
