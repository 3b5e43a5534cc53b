"""T1 for the boot tool as it changes a run; see ``tests.interrupted.boot_tool``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interrupted.boot_tool import (
    LAGS,
    Life,
    Points,
    Scenario,
    SimulatedTime,
    booted,
    broken,
    gone,
    problems_of,
    reloaded,
    whole,
)

#: What happens before, what is interrupted, what is done then, and how the world must be.
SCENARIOS: dict[str, Scenario] = {
    "repair, then repair": (broken, Life.repair, Life.repair, whole),
    "repair, then terminate": (broken, Life.repair, Life.terminate, gone),
    "terminate, then terminate": (booted, Life.terminate, Life.terminate, gone),
    "reload, then reload": (reloaded, Life.reload, Life.reload, whole),
    "reload, then terminate": (reloaded, Life.reload, Life.terminate, gone),
}


@pytest.mark.parametrize("lag", LAGS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_boot_tool_killed_anywhere_leaks_nothing_and_converges(
    scenario: str, lag: float, tmp_path: Path, time: SimulatedTime, points: Points
) -> None:
    assert problems_of(SCENARIOS[scenario], tmp_path, time, points, lag) == []
