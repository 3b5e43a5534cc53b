from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.provisioner.looks import LOOKS_AFTER, LOOKS_APART, WHOLE_LOOKS_APART, Looks


def lose(world: Any, *node_ids: str, heard: tuple[str, ...] = ()) -> None:
    """The machines are gone, and the broker says so of their agents at once."""
    world.hears(*heard)
    for machine in world.clouds["cloud"].machines:
        node_id = f"{machine.request.launch_id}-{machine.index}"
        if node_id in node_ids:
            world.clouds["cloud"].vanish(machine.cloud_id)
            lost = {"node_id": node_id, "heard_age": 60.0, "presence_lost_age": 0.0}
            world.witness["nodes"][node_id] = lost
    world.part.presence_lost(list(node_ids))


def listings(world: Any) -> int:
    return int(world.clouds["cloud"].calls.count("list_instances"))


def just_listed(world: Any) -> None:
    """Now; the next whole listing is five seconds away."""
    before = listings(world)
    while listings(world) == before:
        world.pass_time(0.1, step=0.1)


@pytest.mark.parametrize(
    ("lag", "found_within"), [(0.0, 0.1), (0.4, 0.6), (0.9, 1.1), (1.8, 2.1), (3.5, 4.1)]
)
def test_a_lost_machine_that_the_cloud_still_lists_is_looked_at_again_soon(
    make_world: Callable[..., Any], lag: float, found_within: float
) -> None:
    world = make_world(lag=lag)
    world.running(2)
    just_listed(world)
    lose(world, "l1-0", heard=("l1-1",))
    world.pass_time(found_within, step=0.1)
    assert world.states() == {"l1-0": "TERMINATED", "l1-1": "RUNNING"}
    assert world.view("l1-0").reason.startswith("vanished")


def test_who_is_found_gone_is_asked_for_once_more_and_no_listing_of_all_follows(
    make_world: Callable[..., Any],
) -> None:
    """Of a thousand machines it takes long, and the launch of the successor waited for it."""
    world = make_world(lag=0.0)
    world.running(2)
    just_listed(world)
    before = listings(world)
    lose(world, "l1-0", heard=("l1-1",))
    world.pass_time(0.5, step=0.1)
    assert world.states() == {"l1-0": "TERMINATED", "l1-1": "RUNNING"}
    assert world.clouds["cloud"].calls.count("terminate") == 1
    assert listings(world) - before == 1


def test_a_machine_that_stays_listed_is_looked_at_a_few_times_and_left_alone(world: Any) -> None:
    world.running(1)
    world.pass_time(60)
    undisturbed = listings(world)
    world.pass_time(60)
    undisturbed = listings(world) - undisturbed
    world.part.presence_lost(["l1-0"])
    before = listings(world)
    world.pass_time(60)
    assert listings(world) - before <= undisturbed + len(LOOKS_AFTER)
    assert world.states() == {"l1-0": "RUNNING"}


def test_the_looks_at_one_who_is_gone_delay_no_look_at_another(
    make_world: Callable[..., Any],
) -> None:
    world = make_world(lag=0.0)
    world.running(2)
    just_listed(world)
    lose(world, "l1-0", heard=("l1-1",))
    world.pass_time(1.1, step=0.1)
    assert world.states() == {"l1-0": "TERMINATED", "l1-1": "RUNNING"}
    lose(world, "l1-1")
    world.pass_time(0.1, step=0.1)
    assert world.states()["l1-1"] == "TERMINATED"


def test_who_answers_the_ping_is_not_looked_at_again(world: Any) -> None:
    world.running(1)
    world.agents["l1-0"] = {"beat_now": {}}
    just_listed(world)
    before = listings(world)
    world.part.presence_lost(["l1-0"])
    world.pass_time(4.5)
    assert listings(world) - before == 1


def test_a_mass_loss_costs_a_few_listings_and_not_one_for_each(
    make_world: Callable[..., Any],
) -> None:
    world = make_world(lag=3.0, in_memory=True, batch_limit=1000)
    nodes = world.running(300)
    before = listings(world)
    for start in range(0, 300, 10):  # as the broker tells them: not all at once
        lose(world, *nodes[start : start + 10])
        world.tick()
        world.clock.now += 0.05
    world.pass_time(6)
    # Looks over the seconds in which they are lost and the four after them; whole listings.
    assert listings(world) - before <= 14
    assert set(world.states().values()) == {"TERMINATED"}


def test_a_look_at_some_forgets_nothing_of_the_others(make_world: Callable[..., Any]) -> None:
    """Who is silent and absent from whole listings counts on, whoever is looked at between."""
    world = make_world(lag=20.0)
    world.clouds["cloud"].settings = world.clouds["cloud"].settings.__class__(
        lag=20.0, gone_listed_for=0.0
    )
    world.running(1, launch_id="l1")
    world.running(1, launch_id="l2")
    world.pass_time(60)
    lose(world, "l1-0", heard=("l2-0",))
    for _ in range(9):
        world.pass_time(5)
        world.witness["nodes"]["l1-0"] |= {"heard_age": 200.0, "presence_lost_age": 100.0}
        world.part.presence_lost(["l2-0"])
    assert world.states() == {"l1-0": "TERMINATED", "l2-0": "RUNNING"}


# ------------------------------------------------------------------ the schedule itself


@given(
    hints=st.lists(
        st.tuples(st.floats(0, 30), st.sampled_from("abcdef")), min_size=1, max_size=20
    ).map(sorted)
)
def test_looks_are_apart_end_and_leave_out_nobody(hints: list[tuple[float, str]]) -> None:
    looks, looked, seen, now = Looks(), [], set(), 0.0
    waiting = list(hints)
    while waiting or looks.times:
        now = min([at for at, _ in waiting[:1]] + [looks.next_at()])
        assert now < math.inf
        while waiting and waiting[0][0] <= now:
            looks = looks.hinted([waiting.pop(0)[1]], now)
        if due := looks.due(now):
            looked.append(now)
            seen |= due
            looks = looks.looked(now)
    assert seen == {who for _, who in hints}
    assert all(b - a >= LOOKS_APART - 1e-9 for a, b in zip(looked, looked[1:], strict=False))
    assert now <= hints[-1][0] + LOOKS_AFTER[-1] + LOOKS_APART + 1e-9
    assert looks.next_at() == math.inf


def test_looks_at_very_many_are_whole_listings_and_further_apart() -> None:
    looks = Looks().hinted(["a"], 10.0).looked(10.0, whole=True)
    assert looks.next_at() == 10.0 + WHOLE_LOOKS_APART > 10.0 + LOOKS_APART


def test_a_whole_listing_is_a_look_at_everybody() -> None:
    looks = Looks().hinted(["a", "b"], 10.0).listed(10.5)
    assert looks.due(10.6) == frozenset()
    assert looks.due(10.7) == frozenset()
    assert looks.due(11.0) == {"a", "b"}, "the looks that come after it are still to come"


def test_the_controller_is_told_when_a_machine_is_gone_and_not_while_it_is_in_doubt(
    make_world: Callable[..., Any],
) -> None:
    world = make_world(lag=1.8)
    world.running(2)
    just_listed(world)
    lose(world, "l1-0", heard=("l1-1",))
    world.pass_time(1.1, step=0.1)
    assert ("controller", "look") not in world.asked
    world.pass_time(1.0, step=0.1)
    assert world.asked.count(("controller", "look")) == 1
