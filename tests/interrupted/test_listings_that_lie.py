"""T2: listings that lag up to a minute, run backwards, miss machines and blink.

No live record is deleted, nothing is made twice, and one lost machine is one replacement.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from coordinator.clouds.in_memory import InMemoryCloud, InMemorySettings
from coordinator.store.session import open_store
from tests.interrupted.system import POOL, SECTION, World

SIZE = 4


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("empty")
    for name in ("controller", "provisioner"):
        open_store(path / f"{name}.db").dispose()
    return path


def lying_world(directory: Path, lag: float, blink: float, seed: int) -> World:
    world = World(directory, lag=lag)
    lies = InMemorySettings(lag=lag, backwards=True, blink=blink, seed=seed)
    world.cloud = world.clouds["here"] = InMemoryCloud(lies, lambda: world.now)
    world.provisioner = world.new_provisioner()
    section = {**SECTION, "engine": {"type": "n_preserving", "preserve_n": SIZE}}
    world.keeper.add_pool(POOL, section)
    return world


@settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    lag=st.floats(0, 60),
    blink=st.floats(0, 0.6),
    seed=st.integers(0, 10_000),
    lost=st.booleans(),
)
@example(lag=60.0, blink=0.6, seed=1, lost=True)
def test_listings_that_lie_kill_nobody_and_double_nothing(
    empty: Path, lag: float, blink: float, seed: int, lost: bool
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        home = Path(shutil.copytree(empty, Path(directory) / "world"))
        world = lying_world(home, lag, blink, seed)
        world.live(int(2 * lag) + 60)
        first = sorted(world.alive())
        assert len(first) == SIZE and world.made() == SIZE, "one machine for each intent"
        if lost:
            world.kill(first[0])
            # It beats no more; its absence shows when the lag is over, or as silence before.
            world.live(int(2 * lag) + 120)
        else:
            world.live(100)
        survivors = first[1:] if lost else first
        assert set(survivors) <= set(world.alive()), "a live machine was ended"
        assert len(world.alive()) == SIZE
        assert world.made() == SIZE + lost, "no mass replacement"
        running = [one["node_id"] for one in world.status()["instances"]]
        assert set(survivors) <= set(running)
