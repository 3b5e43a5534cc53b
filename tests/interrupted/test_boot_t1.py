"""T1 for the boot tool as it boots; see ``tests.interrupted.boot_tool``."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from bootlevels.machine_record import MachineRecord
from bootlevels.record import Record
from tests.interrupted.boot_tool import (
    LAGS,
    Crash,
    Life,
    Points,
    Scenario,
    SimulatedTime,
    maybe_gone,
    nothing,
    problems_of,
    whole,
)

#: What happens before, what is interrupted, what is done then, and how the world must be.
SCENARIOS: dict[str, Scenario] = {
    "boot, then repair": (nothing, Life.boot, Life.repair, whole),
    "boot, then boot": (nothing, Life.boot, Life.boot, whole),
    "boot, then terminate": (nothing, Life.boot, Life.terminate, maybe_gone),
    "early boot, then repair": (nothing, Life.boot_early, Life.repair, whole),
    "early boot, then terminate": (nothing, Life.boot_early, Life.terminate, maybe_gone),
}


@pytest.mark.parametrize("lag", LAGS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_boot_tool_killed_anywhere_leaks_nothing_and_converges(
    scenario: str, lag: float, tmp_path: Path, time: SimulatedTime, points: Points
) -> None:
    assert problems_of(SCENARIOS[scenario], tmp_path, time, points, lag) == []


def test_without_the_intent_on_record_a_kill_leaks_a_machine(
    tmp_path: Path, time: SimulatedTime, points: Points, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test of the test: it must be able to see what writing ahead prevents."""

    def forgotten(self: Record, service: str, launch_id: str, cloud: str, now: float) -> None:
        machine = MachineRecord(launch_id=launch_id, service=service, cloud=cloud, intended_at=now)
        self._services()
        self._machines[launch_id] = machine  # in memory only

    leaks = 0
    for die_at in range(12):
        points.seen, points.die_at, points.is_dead = 0, die_at, False
        life = Life(tmp_path / str(die_at), time, points, 0.0)
        with monkeypatch.context() as patched, suppress(Crash):
            patched.setattr(Record, "machine_intended", forgotten)
            life.boot()
        points.die_at, points.is_dead = None, False
        life.terminate()
        leaks += len(life.alive)
    assert leaks
