"""``epu replay`` over the store of a controller that lived a while."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from coordinator.engines.base import Decision
from coordinator.engines.n_preserving import NPreserving
from coordinator.simulation.replay_source import may_lack_the_newest
from mgmt.replays.cli import replay_command
from tests.interrupted.system import POOL, SECTION, World


@pytest.fixture
def lived(tmp_path: Path) -> World:
    """A pool that came up, lost a machine, grew, and idled; its controller is not closed."""
    world = World(tmp_path / "run")
    world.directory.mkdir(exist_ok=True)
    world.keeper.add_pool(POOL, SECTION)
    world.live_until(world.stable)
    world.kill(world.alive()[0])
    world.live(5)
    world.live_until(world.stable)
    world.keeper.reconfigure(POOL, {"engine.preserve_n": 3, "max": 5})
    world.live(5)
    world.live_until(world.stable)
    return world


def replay(*words: str) -> tuple[int, Any]:
    found = CliRunner().invoke(replay_command, [*words, "--json"], standalone_mode=False)
    if found.exception is not None:
        raise found.exception
    return found.return_value, json.loads(found.stdout)


def test_all_that_a_controller_decided_is_decided_again_from_its_store(
    lived: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = str(lived.directory / "controller.db")
    code, document = replay("--store", store)
    assert code == 0 and document["replayed"] >= 6
    assert document["same"] == document["replayed"] and not document["different"]
    before = sorted(lived.directory.iterdir())
    lived.live(300)
    assert replay("--store", store)[1]["replayed"] == document["replayed"], "idle, and stored"
    assert sorted(lived.directory.iterdir()) == before, "the file is only read"

    monkeypatch.setattr(NPreserving, "decide", lambda self, view: Decision(size=2, reason="two"))
    code, document = replay("--store", store, "--pool", POOL)
    assert code == 1 and document["same"] < document["replayed"]
    grown = [d for one in document["different"] for d in one["differences"] if d["what"] == "size"]
    assert {"what": "size", "then": 3, "now": 2} in grown
    assert replay("--store", store, "--pool", "other")[1]["replayed"] == 0
    assert replay("--store", store, "--at", "1970-01-13T00:00")[1]["replayed"] <= 1


def test_a_store_that_was_copied_alone_is_doubted_and_one_that_was_copied_whole_is_not(
    lived: World, tmp_path: Path
) -> None:
    live = lived.directory / "controller.db"
    alone, whole = tmp_path / "alone.db", tmp_path / "whole.db"
    shutil.copy(live, alone)
    with closing(sqlite3.connect(live)) as connection:
        connection.execute(f"VACUUM INTO '{whole}'")
    assert (
        replay("--store", str(whole))[1]["replayed"] == replay("--store", str(live))[1]["replayed"]
    )
    doubts = {one: may_lack_the_newest(one) for one in (live, whole, alone)}
    assert not doubts[live] and not doubts[whole]
    assert "VACUUM INTO" in doubts[alone] and "alone.db-wal" in doubts[alone]


def test_a_file_that_is_no_store_is_said_in_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("not a database, but long enough to be read as one " * 50)
    with pytest.raises(Exception, match=r"notes\.txt: it is no store of a controller"):
        replay("--store", str(file))
