"""T1 for the provisioner as pools grow, shrink, end; see ``tests.interrupted.provisioner_life``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.interrupted.provisioner_life import (
    LAGS,
    POLL,
    Life,
    problems_of,
    scale_in,
    scale_out,
    teardown,
)

SCENARIOS = [scale_out, scale_in, teardown]


@pytest.mark.parametrize("polls", LAGS)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_a_provisioner_killed_anywhere_leaks_nothing_and_doubles_nothing(
    scenario: Callable[[Life], int], polls: int, tmp_path: Path, empty_store: Path
) -> None:
    assert list(problems_of(scenario, tmp_path, empty_store, lag=polls * POLL)) == []
