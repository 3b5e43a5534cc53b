"""What a person orders of a node: drain, undrain, protect, unprotect, terminate."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.errors import ConfigProblem, InvalidTransition, NotFound

WHO = "ada@desk"


def test_a_node_that_a_person_drains_is_told_apart_from_one_that_the_pool_drains(
    world: Any,
) -> None:
    mine, the_pools = world.running(2)
    given = world.part.order_node(mine, "drain", WHO, "a noisy disk")
    assert given == {"node_id": mine, "order": "drain", "changed": True, "state": "DRAINING",
                     "protected": False}  # fmt: skip
    world.apply(world.drain(the_pools))
    assert world.view(mine).by_person and not world.view(the_pools).by_person
    assert world.view(mine).reason == "drain by ada@desk: a noisy disk"
    assert any(line.actor == "person ada@desk" for line in world.events("drain_started"))


def test_an_order_that_is_repeated_finds_nothing_to_do(world: Any) -> None:
    (node,) = world.running(1)
    for order in ("protect", "unprotect", "drain", "undrain", "terminate"):
        assert world.part.order_node(node, order, WHO)["changed"], order
        assert not world.part.order_node(node, order, WHO)["changed"], order


def test_a_drain_that_a_person_takes_back_is_over(world: Any) -> None:
    (node,) = world.running(1)
    world.apply(world.drain(node))
    assert world.part.order_node(node, "undrain", WHO)["state"] == "RUNNING"
    world.part.order_node(node, "drain", WHO)
    world.part.order_node(node, "undrain", WHO)
    assert not world.view(node).by_person


def test_a_protected_node_is_drained_by_nobody_and_ended_only_by_name(world: Any) -> None:
    (node,) = world.running(1)
    assert world.part.order_node(node, "protect", WHO)["protected"]
    assert world.view(node).protected
    with pytest.raises(InvalidTransition, match="protected"):
        world.part.order_node(node, "drain", WHO)
    assert world.part.order_node(node, "terminate", WHO)["state"] == "TERMINATING"


def test_an_order_changes_the_version_so_that_older_decisions_conflict(world: Any) -> None:
    (node,) = world.running(1)
    batch = world.batch(world.terminate(node))
    world.part.order_node(node, "protect", WHO)
    assert world.part.apply(batch).outcome == "conflict"


@pytest.mark.parametrize("order", ["drain", "undrain"])
def test_only_who_works_can_be_drained_or_taken_back(world: Any, order: str) -> None:
    world.apply(world.launch("l1"))
    with pytest.raises(InvalidTransition, match="REQUESTED"):
        world.part.order_node("l1-0", order, WHO)


def test_nobody_is_taken_back_in_a_teardown(world: Any) -> None:
    (node,) = world.running(1)
    world.part.terminate_all()
    with pytest.raises(InvalidTransition, match="teardown"):
        world.part.order_node(node, "undrain", WHO)


def test_who_has_ended_takes_no_orders_and_slips_are_named(world: Any) -> None:
    (node,) = world.running(1)
    world.part.order_node(node, "terminate", WHO)
    with pytest.raises(InvalidTransition, match="not kept"):
        world.part.order_node(node, "protect", WHO)
    with pytest.raises(NotFound):
        world.part.order_node("nobody-0", "drain", WHO)
    with pytest.raises(ConfigProblem, match="drain"):
        world.part.order_node(node, "drian", WHO)
    with pytest.raises(ConfigProblem, match="drain_timeout"):
        world.part.order_node(node, "drain", WHO, "", -1.0)


def test_who_ended_a_node_is_still_said_when_it_is_gone(world: Any) -> None:
    (node,) = world.running(1)
    world.part.order_node(node, "terminate", WHO, "it stinks")
    world.pass_time(100)
    assert world.states() == {node: "TERMINATED"}
    said = "terminate by ada@desk: it stinks; the cloud lists it no more"
    assert world.view(node).reason == said
    assert [event.reason for event in world.events("node_terminated")] == [said]
