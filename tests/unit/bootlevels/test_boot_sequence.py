from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlevels.boot_sequence import (
    NEXT_STATES,
    Finished,
    LevelFailed,
    ServiceAction,
    ServiceState,
    StartLevel,
    changed_services,
    is_stopping,
    next_boot_action,
    next_boot_step,
    next_termination_step,
)
from bootlevels.plan import BootLevel, LaunchPlan, ServiceKind, ServiceSpec

NEW, REQUESTED, LAUNCHED, BOOTED, VERIFIED, REPLACING, TERMINATING, TERMINATED = ServiceState
NONE: frozenset[str] = frozenset()


def spec(name: str) -> ServiceSpec:
    return ServiceSpec(name=name, kind=ServiceKind.LOCAL)


PLAN = LaunchPlan(
    name="p",
    levels=(
        BootLevel(number=1, services=(spec("a"), spec("b"))),
        BootLevel(number=2, services=(spec("c"),)),
    ),
)
A, B, C = PLAN.services()


def test_a_boot_starts_with_all_services_of_the_lowest_level() -> None:
    assert next_boot_step(PLAN, {}, NONE) == StartLevel(1, (A, B))


def test_the_next_level_starts_only_when_every_service_below_is_verified() -> None:
    assert next_boot_step(PLAN, {"a": VERIFIED, "b": BOOTED}, NONE) == StartLevel(1, (B,))
    assert next_boot_step(PLAN, {"a": VERIFIED, "b": VERIFIED}, NONE) == StartLevel(2, (C,))


def test_a_failed_service_fails_its_level_and_nothing_above_starts() -> None:
    step = next_boot_step(PLAN, {"a": LAUNCHED, "b": VERIFIED}, frozenset({"a"}))
    assert step == LevelFailed(1, ("a",))


def test_a_failure_of_an_earlier_attempt_is_tried_again() -> None:
    assert next_boot_step(PLAN, {"a": LAUNCHED, "b": VERIFIED}, NONE) == StartLevel(1, (A,))


def test_a_verified_plan_is_finished() -> None:
    assert next_boot_step(PLAN, dict.fromkeys("abc", VERIFIED), NONE) == Finished()


@pytest.mark.parametrize(
    ("state", "action"),
    [
        (NEW, ServiceAction.BOOT),
        (LAUNCHED, ServiceAction.BOOT),
        (BOOTED, ServiceAction.VERIFY),
        (VERIFIED, None),
    ],
)
def test_what_a_service_needs_next(state: ServiceState, action: ServiceAction | None) -> None:
    assert next_boot_action(state) is action


def test_a_termination_goes_from_the_highest_level_down() -> None:
    states = {"a": VERIFIED, "b": LAUNCHED, "c": BOOTED}
    assert next_termination_step(PLAN, states, NONE) == StartLevel(2, (C,))
    states["c"] = TERMINATED
    assert next_termination_step(PLAN, states, NONE) == StartLevel(1, (A, B))


def test_what_was_never_launched_is_not_terminated() -> None:
    assert next_termination_step(PLAN, {"a": LAUNCHED}, NONE) == StartLevel(1, (A,))
    assert next_termination_step(PLAN, {}, NONE) == Finished()


def test_what_fails_to_end_keeps_the_levels_below_it() -> None:
    states = {"a": VERIFIED, "b": VERIFIED, "c": TERMINATING}
    assert next_termination_step(PLAN, states, frozenset({"c"})) == LevelFailed(2, ("c",))
    assert next_termination_step(PLAN, states, NONE) == StartLevel(2, (C,))


def test_a_verified_service_may_not_change_or_move_or_go() -> None:
    states = {"a": VERIFIED, "b": LAUNCHED}
    other = replace(A, attributes={"x": "1"})
    changed = replace(PLAN, levels=(BootLevel(number=1, services=(other, B)), PLAN.levels[1]))
    moved = replace(PLAN, levels=(BootLevel(number=1, services=(B,)),
                                  BootLevel(number=2, services=(A, C))))  # fmt: skip
    gone = replace(PLAN, levels=(BootLevel(number=1, services=(C,)),))
    assert changed_services(PLAN, changed, states) == ("a",)
    assert changed_services(PLAN, moved, states) == ("a",)
    assert changed_services(PLAN, gone, states) == ("a", "b")
    assert changed_services(PLAN, PLAN, states) == ()


def test_what_failed_or_never_ran_may_be_corrected() -> None:
    better = replace(B, attributes={"x": "1"})
    new = replace(PLAN, levels=(BootLevel(number=1, services=(A, better)),))
    assert changed_services(PLAN, new, {"a": VERIFIED, "b": LAUNCHED}) == ()


def test_a_termination_that_began_is_seen() -> None:
    assert is_stopping({"a": VERIFIED, "c": TERMINATED})
    assert not is_stopping({"a": VERIFIED, "b": LAUNCHED})


@given(st.dictionaries(st.sampled_from("abc"), st.sampled_from(list(ServiceState))))
def test_from_any_record_a_termination_that_succeeds_reaches_its_end(
    states: dict[str, ServiceState],
) -> None:
    for _ in range(5):
        step = next_termination_step(PLAN, states, NONE)
        if isinstance(step, Finished):
            break
        assert isinstance(step, StartLevel)
        for service in step.services:
            assert TERMINATING in NEXT_STATES[states[service.name]]
            states[service.name] = TERMINATED
    assert next_termination_step(PLAN, states, NONE) == Finished()
