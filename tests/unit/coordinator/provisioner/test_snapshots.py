"""What a controller is told that asks again after a long time."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.provisioner import records

POOL = "sleeper"


def ended(world: Any, count: int = 1) -> int:
    """The version at which ``count`` machines ran; they have ended since."""
    nodes = world.running(count)
    version: int = world.part.instances(POOL).version
    assert world.apply(*(world.terminate(node) for node in nodes)) == "applied"
    world.pass_time(60)
    assert set(world.states().values()) == {"TERMINATED"}
    return version


def test_an_end_is_told_however_long_ago_it_was(world: Any) -> None:
    version = ended(world)
    world.clock.now += 2 * records.TOLD_FOR
    told = world.part.instances(POOL, version).instances
    assert [(view.node_id, view.state.value) for view in told] == [("l1-0", "TERMINATED")]


def test_every_end_since_the_last_look_is_told_however_many_there_were(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = ended(world, 5)
    monkeypatch.setattr(records, "TOLD_AT_MOST", 2)
    assert len(world.part.instances(POOL, version).instances) == 5


def test_the_first_look_tells_only_the_latest_ends(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended(world, 5)
    monkeypatch.setattr(records, "TOLD_AT_MOST", 2)
    assert len(world.part.instances(POOL).instances) == 2
    world.clock.now += 2 * records.TOLD_FOR
    assert world.part.instances(POOL).instances == ()
