from __future__ import annotations

import pytest

from coordinator.controller.turns import Turns


def test_who_asks_during_a_turn_gets_one_after_it_and_no_two_run_at_once() -> None:
    running, most, done = 0, 0, 0

    def work() -> None:
        nonlocal running, most, done
        running += 1
        most = max(most, running)
        if done == 0:  # three ask during the first turn
            for _ in range(3):
                turns.take()
        running -= 1
        done += 1

    turns = Turns(work)
    turns.take()
    assert (done, most) == (2, 1)


def test_a_turn_that_fails_prevents_no_later_one() -> None:
    outcomes = iter([RuntimeError("broken"), None])

    def work() -> None:
        problem = next(outcomes)
        if problem is not None:
            raise problem

    turns = Turns(work)
    with pytest.raises(RuntimeError, match="broken"):
        turns.take()
    turns.take()
    assert list(outcomes) == []
