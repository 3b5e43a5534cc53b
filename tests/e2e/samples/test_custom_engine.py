"""The sample "custom-engine": a pool that an engine from outside decides about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bootlevels.plans.sleeper.producer import produce

#: The engine has a table of its own among the unit tests.
pytestmark = [pytest.mark.e2e, pytest.mark.soak, pytest.mark.timeout(600)]

POOL = "epu-spare"


def test_an_engine_of_ones_own_keeps_a_spare_worker_while_others_are_busy(
    boot: Callable[..., Any],
) -> None:
    sample = boot("custom-engine")
    assert "0 busy and 1 spare" in sample.epu("explain", POOL)
    # It outlives the test: a quick machine or a slow one, the pool has a spare worker meanwhile.
    produce(sample.system.access, "spare-work", ["long"], 300.0)
    sample.system.wait(lambda: sample.pool(POOL)["running"] == 2, "one busy and one spare", 90)
    assert len(sample.system.alive()) == 2
    sample.epu("pool", "reconfigure", POOL, "engine.spare=-1", code=2)
