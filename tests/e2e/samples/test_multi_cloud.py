"""The sample "multi-cloud": what the first cloud can't carry, the second does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from coordinator.clouds.process import kill_machine
from coordinator.config import cloud_directory

#: The controller's choice of clouds has quick tests of its own (test_cloud_choice).
pytestmark = [pytest.mark.e2e, pytest.mark.soak, pytest.mark.timeout(600)]

POOL = "epu-anywhere"


def test_a_cloud_without_room_and_one_that_fails_are_carried_by_the_other(
    boot: Callable[..., Any],
) -> None:
    sample = boot("multi-cloud", "-g", "room=1", "-g", "workers=1")
    assert sample.clouds_of(POOL) == ["first"]
    sample.epu("pool", "set-n", POOL, "2")
    sample.system.wait(lambda: sample.clouds_of(POOL) == ["first", "second"], "it went elsewhere")
    assert "room for 1 machines" in sample.epu("explain", POOL)

    first = cloud_directory(sample.system.state_dir, "first")
    (first / "closed").touch()
    [lost] = [one.name for one in first.iterdir() if one.is_dir()]
    kill_machine(first, lost)
    sample.system.wait(lambda: sample.clouds_of(POOL) == ["second", "second"], "it carries both")
    assert {one["cloud"] for one in sample.json("nodes")["nodes"]} == {"second"}
