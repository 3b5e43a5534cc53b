"""Engines that fail, seen from the controller: their own pool holds, and nobody else notices."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator import foreign_engines
from coordinator.controller import engine_process
from coordinator.controller.engine_process import EngineProcess
from coordinator.controller.keeper import Keeper
from coordinator.controller.records import PoolRecords
from coordinator.engine_life import EngineLife
from coordinator.engines.base import Decision, PoolView
from coordinator.errors import EngineFailed
from coordinator.events import EventLog
from coordinator.store.session import open_store
from tests.interrupted.system import POOL, SECTION, World

STRANGE = "tests.unit.coordinator.controller.misbehaving:Engine"


class BesideWorld(World):
    """A world whose controller's slow cycles go on when the test says so."""

    def new_keeper(self) -> Keeper:
        self.waiting: list[Callable[[], None]] = []
        store = open_store(self.directory / "controller.db")
        return Keeper(
            self.config,
            PoolRecords(store),
            EventLog(store, "controller", "run", lambda: self.now),
            self.call,
            lambda: self.now,
            lambda prefix: f"{prefix}-{next(self.numbers):04d}",
            lambda work: work(),
            self.waiting.append,
        )

    def events(self, name: str) -> list[Any]:
        return [one for one in self.keeper.events.read(0, 10_000) if one.name == name]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BesideWorld:
    monkeypatch.setattr(foreign_engines, "EngineLife", patient(EngineLife))
    found = BesideWorld(tmp_path)
    found.keeper.add_pool(POOL, SECTION)
    return found


def test_other_pools_live_on_while_an_engine_takes_its_time(world: BesideWorld) -> None:
    world.keeper.add_pool("slow", {"engine": {"type": STRANGE}})
    world.live_until(world.stable)
    assert len(world.alive()) == 2
    assert len(world.waiting) == 1, "a pool that decides is not asked to decide once more"
    assert world.keeper.pool("slow")["reason"] == "not looked at yet"


def test_what_was_changed_while_an_engine_decided_is_not_overrun_by_its_decision(
    world: BesideWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: list[Callable[[], None]] = []

    def decide(self: EngineProcess, view: PoolView) -> Decision:
        for change in changes:
            change()
        return Decision(size=1, reason="one")

    monkeypatch.setattr(EngineProcess, "decide", decide)
    world.live_until(world.stable)
    world.keeper.add_pool("slow", {"engine": {"type": STRANGE}})
    changes.append(lambda: world.keeper.freeze("an operator was quicker"))
    world.live(1)
    world.waiting.pop()()
    world.live(10)
    assert len(world.alive()) == 2, "nothing is launched for what was decided before the freeze"
    world.keeper.unfreeze()
    changes[:] = [lambda: world.keeper.remove_pool("slow")]
    world.waiting.pop()()
    world.live(10)
    assert len(world.alive()) == 2 and not world.waiting


def test_a_failing_engine_is_one_event_for_each_distinct_failure_until_it_works_again(
    world: BesideWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = ["it took 5.01 s", "it took 5.02 s", "no room", "it took 6 s", "", "it took 1 s"]

    def decide(self: EngineProcess, view: PoolView) -> Decision:
        if words := said.pop(0):
            raise EngineFailed(words)
        return Decision(size=0, reason="none")

    monkeypatch.setattr(EngineProcess, "decide", decide)
    world.keeper.add_pool("slow", {"engine": {"type": STRANGE}})
    while said:
        world.live(1)
        world.waiting.pop()()
    reasons = [event.reason for event in world.events("engine_failed")]
    assert reasons == ["it took 5.01 s", "no room", "it took 1 s"]
    assert "it took 1 s" in world.keeper.explain("slow")["sentence"]
    assert world.keeper.pool("slow")["state"] == "HELD"


def test_a_stored_pool_whose_engine_hangs_as_it_is_imported_holds_and_the_others_live(
    world: BesideWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = tmp_path / "plugins" / "gone_tomorrow.py"
    plugin.parent.mkdir()
    plugin.write_text("from coordinator.engines.n_preserving import NPreserving as Engine\n")
    monkeypatch.syspath_prepend(str(plugin.parent))
    section = {**SECTION, "engine": {"type": "gone_tomorrow:Engine", "preserve_n": 1}}
    world.keeper.add_pool("orphan", section)

    def whole() -> bool:
        while world.waiting:
            world.waiting.pop()()
        return len(world.alive()) == 3

    world.live_until(whole)
    plugin.write_text("import time\ntime.sleep(3600)\n")
    monkeypatch.setattr(engine_process, "START_WITHIN", 0.5)
    world.keeper = world.new_keeper()
    world.kill(next(node for node in world.alive() if node.startswith(POOL)))
    world.live(30)
    assert world.stable(), "nobody waited for it"
    world.waiting.pop()()
    orphan = world.keeper.pool("orphan")
    assert orphan["state"] == "HELD" and "it was not loaded within 0.5 s" in orphan["reason"]
    assert orphan["engine"]["type"] == "gone_tomorrow:Engine"
    assert len(world.alive()) == 3
    assert "gone_tomorrow" not in sys.modules


def patient(life: type[EngineLife]) -> Any:
    """Engines' processes with a minute to load: what a test adds loads, on any machine."""

    class Patient(life):  # type: ignore[valid-type,misc]
        def load(self, within: float, where: str = "", key: str = "engine") -> dict[str, Any]:
            found: dict[str, Any] = super().load(60.0, where, key)
            return found

    return Patient
