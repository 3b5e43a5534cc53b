"""Small fleets that live as far as a test wants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from coordinator.simulation.happenings import plan_all
from coordinator.simulation.history import CloudPlan, Happening, History, PoolPlan
from coordinator.simulation.world import World

POOL = "blue"


@pytest.fixture
def fleet() -> Callable[..., World]:
    """``fleet(n, happenings…, **section)``: a pool of ``n``, one cloud, nothing lived yet."""

    def make(n: int, *happenings: Happening, **section: Any) -> World:
        given = {
            "programs": {"worker": {"command": ["work"]}},
            "heartbeat_interval": 10,
            "engine": {"type": "n_preserving", "preserve_n": n},
            "health": {"missing_timeout": 60},
            "max": n + 2,
            **section,
        }
        cloud = CloudPlan(name="north", settings={"lag": 3.0}, window=3.0, boots_in=(5.0, 8.0))
        history = History(
            seed=1,
            pools=(PoolPlan(name=POOL, section=given),),
            clouds=(cloud,),
            happenings=tuple(happenings),
        )
        world = World(history)
        plan_all(world)
        return world

    return make
