"""T15: stores that the first schema wrote open in this version, and nothing happens.

``*_0001.sql`` are dumps of a running system's stores at migration 0001: two workers that
run, two that drain for a day, one that vanished and one batch a size.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import inspect, text

from coordinator.clouds.base import LaunchRequest
from coordinator.store.schema import HEAD, metadata
from coordinator.store.session import open_store
from tests.interrupted.system import POOL, World

DUMPS = Path(__file__).parent
SAVED_AT = 1_000_065.0


@pytest.fixture
def old_stores(tmp_path: Path) -> Path:
    """A directory with the stores as the first version left them."""
    for component in ("provisioner", "controller"):
        connection = sqlite3.connect(tmp_path / f"{component}.db")
        connection.executescript((DUMPS / f"{component}_0001.sql").read_text())
        connection.close()
    return tmp_path


def rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def test_an_old_store_is_migrated_and_has_every_column(old_stores: Path) -> None:
    for component in ("provisioner", "controller"):
        store = open_store(old_stores / f"{component}.db")
        with store.connect() as connection:
            assert connection.execute(text("select * from alembic_version")).scalar() == HEAD
            for table in metadata.sorted_tables:
                found = {column["name"] for column in inspect(connection).get_columns(table.name)}
                assert found == set(table.c.keys()), table.name
        store.dispose()


def test_a_system_on_old_stores_changes_nothing(old_stores: Path) -> None:
    file = old_stores / "provisioner.db"
    launches = rows(file, "select launch_id, count from launches order by created_at")
    states = rows(file, "select node_id, state, cloud_id from instances order by node_id")
    world = World(old_stores)
    for launch_id, count in launches:
        request = LaunchRequest(
            launch_id=str(launch_id), run="run", pool=POOL, count=int(str(count)), user_data=""
        )
        world.cloud.launch(request)
    for _, state, cloud_id in states:
        if state == "TERMINATED":
            world.cloud.vanish(str(cloud_id))
    alive, made = sorted(world.alive()), world.made()
    assert alive == sorted(node for node, state, _ in states if state != "TERMINATED")
    batches = rows(file, "select * from batches")

    world.now = SAVED_AT
    world.live(60)

    assert rows(file, "select node_id, state, cloud_id from instances order by node_id") == states
    assert rows(file, "select * from batches") == batches, "the controller commanded something"
    assert (sorted(world.alive()), world.made()) == (alive, made)
    assert world.status()["state"] == "STABLE"
    assert world.status()["section"]["variables"] == {"colour": "blue"}


def test_a_system_on_old_stores_goes_on_with_its_work(old_stores: Path) -> None:
    """What was drained when the old version stopped still ends, and a lost one is replaced."""
    test_a_system_on_old_stores_changes_nothing(old_stores)
    world = World(old_stores)
    world.now = SAVED_AT + 200
    # Another process, another cloud object: its machines are gone, and their agents silent.
    world.live_until(lambda: len(world.alive()) >= 2, 400)
    states = Counter(state for (state,) in rows(old_stores / "provisioner.db", _STATES))
    assert states["TERMINATED"] >= 4


_STATES = "select state from instances"


MIGRATES_SLOWLY = """
import sys
from agent import green
import alembic.command, eventlet
from agent.watchdog import stay_awake
from coordinator.store.session import open_store

block, upgrade = eventlet.patcher.original("time").sleep, alembic.command.upgrade

def slowly(*given):
    block(2.0)
    upgrade(*given)

alembic.command.upgrade = slowly
eventlet.spawn_n(stay_awake, 0.7)
eventlet.sleep(0)
open_store(sys.argv[1])
print("migrated", flush=True)
block(20.0)
"""


def test_a_migration_that_takes_long_is_no_process_that_hangs(old_stores: Path) -> None:
    """A large store: ended by the alarm it would be begun again for ever. Afterwards it rings."""
    words = [sys.executable, "-c", MIGRATES_SLOWLY, str(old_stores / "provisioner.db")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.stdout == "migrated\n", done.stderr
    assert done.returncode == 1 and "Timeout" in done.stderr
