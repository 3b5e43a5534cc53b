"""What is said of a pool."""

from __future__ import annotations

from mgmt.pool_words import count_of


def test_the_zeros_of_a_controller_that_did_not_look_yet_are_not_told_as_numbers() -> None:
    assert count_of({"running": 0, "decided_age": None}, "running") is None
    assert count_of({"running": 0, "decided_age": 0.2}, "running") == 0
    assert count_of({"running": 3}, "running") == 3  # an older controller says no age
