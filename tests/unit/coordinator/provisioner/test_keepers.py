"""Which controller may claim which pool."""

from __future__ import annotations

from coordinator.provisioner.keepers import claimable, with_pool, without_pool


def test_a_shared_controller_may_claim_what_has_none_of_its_own():
    assert claimable(["a", "b"], "", ["a"]) == ["b"]
    assert claimable(["a", "b"], "", []) == ["a", "b"]


def test_a_pools_own_controller_may_claim_that_pool_alone():
    assert claimable(["a", "b"], "a", ["a", "b"]) == ["a"]


def test_who_was_heard_of_is_remembered_once_and_forgotten_when_it_is_given_up():
    assert with_pool(["b"], "a") == with_pool(["a", "b"], "a") == ["a", "b"]
    assert with_pool(["a"], "") == ["a"]
    assert without_pool(["a", "b"], "a") == ["b"]
    assert without_pool(["b"], "a") == ["b"]


def test_a_pool_with_its_own_controller_is_refused_to_the_shared_one_until_it_is_released(world):
    part = world.part
    assert part.claim_epoch(["a", "b"], "shared") == {"a": 1, "b": 1}
    assert part.claim_epoch([], "own", "a") == {}
    assert part.keepers() == ["a"]
    assert part.claim_epoch(["a", "b"], "shared-2") == {"b": 2}
    assert part.claim_epoch(["a"], "own", "a") == {"a": 2}
    world.part = world.new_provisioner()
    assert world.part.keepers() == ["a"]
    world.part.release_keeper("a")
    assert world.part.claim_epoch(["a"], "shared-3") == {"a": 3}
    named = [event.name for event in world.part.events(0) if event.name.startswith("keeper")]
    assert named == ["keeper_added", "keeper_released"]
