"""T1 for the provisioner as machines come; see ``tests.interrupted.provisioner_life``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.interrupted.provisioner_life import LAGS, POLL, Life, boot, problems_of, replace

SCENARIOS = [boot, replace]


@pytest.mark.parametrize("polls", LAGS)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_a_provisioner_killed_anywhere_leaks_nothing_and_doubles_nothing(
    scenario: Callable[[Life], int], polls: int, tmp_path: Path, empty_store: Path
) -> None:
    assert list(problems_of(scenario, tmp_path, empty_store, lag=polls * POLL)) == []


#: A driver whose listings lag while it promises that they do not.
BROKEN_PROMISE = {"lag": 2 * POLL, "window": 0.0}


def test_the_idempotency_token_holds_where_a_listing_breaks_its_promise(
    tmp_path: Path, empty_store: Path
) -> None:
    assert list(problems_of(boot, tmp_path, empty_store, **BROKEN_PROMISE)) == []


def test_without_the_idempotency_token_a_lagging_listing_doubles_machines(
    tmp_path: Path, empty_store: Path
) -> None:
    """The test of the test: it must be able to see what the token prevents."""
    settings = {**BROKEN_PROMISE, "honours_launch_id": False}
    problems = problems_of(boot, tmp_path, empty_store, **settings)
    assert any("machines were made for 3 intents" in problem for _, problem in problems)
