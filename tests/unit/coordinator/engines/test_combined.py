"""combined: more when any wants more, fewer only when all want fewer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.messages import HealthStatus, InstanceState
from coordinator.engines.base import Decision, PoolView, ViewedInstance
from coordinator.engines.combined import Combined, CombinedSettings, Member
from coordinator.errors import ConfigProblem
from coordinator.pool_spec import parse_pool


class Fixed:
    """Wants its setting, or holds."""

    Settings = object

    def decide(self, view):
        size, held = view.settings
        count = 1 + (view.previous.memory.get("count", 0) if view.previous else 0)
        return Decision(size=size, held=held, reason=f"{size} please", memory={"count": count})


def wish(there, *members, previous=None):
    running = tuple(
        ViewedInstance(node_id=f"n{i}", state=InstanceState.RUNNING, health=HealthStatus.OK)
        for i in range(there)
    )
    settings = CombinedSettings(
        tuple(Member(f"m{i}", Fixed(), member) for i, member in enumerate(members))
    )
    view = PoolView(pool="p", now=0.0, instances=running, settings=settings, previous=previous)
    return Combined().decide(view)


@pytest.mark.parametrize(
    ("there", "members", "size"),
    [
        (3, [(5, False), (1, False)], 5),
        (3, [(2, False), (1, False)], 2),
        (3, [(3, False), (1, False)], 3),
        (3, [(1, True), (1, False)], 3),  # one that holds lets nobody go
        (3, [(1, True), (6, False)], 6),
    ],
)
def test_the_highest_wish_wins(there, members, size):
    decision = wish(there, *members)
    assert decision.size == size
    assert not decision.held


def test_it_holds_when_all_hold():
    assert wish(3, (1, True), (0, True)).held


def test_every_member_has_a_memory_of_its_own():
    first = wish(1, (1, False), (2, False))
    previous = Decision(size=2, reason="", memory={**first.memory, "m1": {"count": 7}})
    second = wish(1, (1, False), (2, False), previous=previous)
    assert second.memory == {"m0": {"count": 2}, "m1": {"count": 8}}


@given(
    there=st.integers(0, 20),
    members=st.lists(st.tuples(st.integers(0, 30), st.booleans()), min_size=1, max_size=5),
)
def test_fewer_only_when_all_want_fewer(there, members):
    decision = wish(there, *members)
    if decision.size < there:
        assert all(size < there and not held for size, held in members)
    # One that holds keeps what is there, lost workers (a size above it) included.
    kept = [max(size, there) if held else size for size, held in members]
    if not all(held for _, held in members):
        assert decision.size == max(kept)


def test_members_are_parsed_with_the_pool_and_their_queues_are_known():
    spec = parse_pool(
        "p",
        {
            "engine": {
                "type": "combined",
                "engines": {
                    "floor": {"type": "n_preserving", "preserve_n": 2},
                    "work": {"type": "target_tracking", "queue": "jobs", "target": 5},
                },
            }
        },
    )
    assert [one.name for one in spec.engine_settings.members] == ["floor", "work"]
    assert spec.role.work_queues == ("jobs",)


@pytest.mark.parametrize(
    ("engines", "key"),
    [
        ({}, "engines"),
        ({"a": {"type": "n_preservin"}}, r"engine\.engines\.a\.type.*n_preserving"),
        ({"a": {"type": "n_preserving", "preserve_n": -1}}, r"engine\.engines\.a.*preserve_n"),
        ({"a": {"preserve_n": 1}}, r"engine\.engines\.a\.type"),
    ],
)
def test_what_is_wrong_in_a_member_is_named_with_its_key(engines, key):
    with pytest.raises(ConfigProblem, match=key):
        parse_pool("p", {"engine": {"type": "combined", "engines": engines}})
