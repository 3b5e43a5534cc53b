"""A broken world is seen: each invariant on facts that break it, and on some that don't."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.messages import CommandBatch, DrainInstance, InstanceState, TerminateInstance
from coordinator.pool_spec import parse_pool
from coordinator.simulation.facts import Decided, Facts, Known, Machine, Moved, Redelivery, Sized
from coordinator.simulation.invariants import broken_by

S = InstanceState
SPEC = parse_pool(
    "blue",
    {
        "max": 2,
        "min": 1,
        "budget": 3.0,
        "machine_price": 1.0,
        "engine": {
            "type": "queue_length",
            "queue": "jobs-blue",
            "queuelen_high_water": 5,
            "queuelen_low_water": 1,
            "max_instances": 9,
        },
    },
)
FOLLOWS = replace(SPEC, min=0, max=9, rules=replace(SPEC.rules, budget=None))
OVERRIDDEN = parse_pool(
    "blue", {"max": 9, "min": 1, "override": {"size": 0, "until": 9e9}, "engine": {}}
)
UNLIMITED = parse_pool("blue", {"max": 2, "min": 1, "engine": {"preserve_n": 1}})


def machine(node_id: str = "blue-a-0", cloud_id: str = "m-1", **changes: Any) -> Machine:
    known = {"cloud": "north", "cloud_id": cloud_id, "node_id": node_id, "pool": "blue"}
    return Machine(**{**known, "ours": True, "alive": True, "born_at": 0.0, **changes})


def known(node_id: str = "blue-a-0", state: S = S.RUNNING, price: float | None = None) -> Known:
    return Known(node_id, "blue", state, state is S.TERMINATED, price)


def moved(before: S | None, to: S, reason: str = "fewer", **changes: Any) -> Moved:
    return replace(Moved("blue-a-0", "blue", before, to, reason, "somebody", 100.0), **changes)


def decided(spec: Any = SPEC, **changes: Any) -> Decided:
    batch = CommandBatch(
        batch_id="b",
        pool="blue",
        based_on=1,
        epoch=1,
        drains=changes.pop("drains", ()),
        terminations=changes.pop("terminations", ()),
    )
    given = {"now": 100.0, "memory": {"wanted": 1}, "before": {"wanted": 1}, **changes}
    return Decided(pool="blue", batch=batch, spec=spec, **given)


def sized(was: int, wanted: int, launched: int = 0, **changes: Any) -> Sized:
    known = {"spec": FOLLOWS, "reason": "0 messages", "reading_age": 60.0, "allowed": 6.0}
    return Sized(**{"pool": "blue", "was": was, "wanted": wanted, "launched": launched,
                    **known, **changes})  # fmt: skip


def ends(reason: str) -> tuple[TerminateInstance, ...]:
    return (TerminateInstance(command_id="c", node_id="blue-a-0", reason=reason),)


def drains(reason: str) -> tuple[DrainInstance, ...]:
    return (DrainInstance(command_id="c", node_id="blue-a-0", reason=reason),)


def held(**hold: Any) -> Any:
    return replace(SPEC, rules=parse_pool("blue", {"hold": hold, "engine": {}}).rules)


WELL = Facts(now=0.0, machines=(machine(),), records={"blue-a-0": known()})
BROKEN: list[tuple[str, dict[str, Any]]] = [
    ("I1", {"records": {}}),
    ("I1", {"orphaned": {"m-1": 1000.0}}),
    ("I2", {"caps": {"blue": 0}}),
    ("I2", {"records": {"a": known("a", price=2.0), "b": known("b", price=2.0)},
            "machines": (), "budgets": {"blue": 3.0}, "specs": {"blue": SPEC}}),
    ("I3", {"moved": (moved(S.RUNNING, S.TERMINATING, busy=True),)}),
    ("I3", {"moved": (moved(S.DRAINING, S.TERMINATING, busy=True, deadline=101.0),)}),
    ("I3", {"moved": (moved(S.BOOT_FAILED, S.TERMINATING, busy=True),)}),
    ("I4", {"machines": (machine(), machine(cloud_id="m-2"))}),
    ("I5", {"moved": (moved(S.TERMINATED, S.RUNNING),)}),
    ("I5", {"moved": (moved(S.TERMINATING, S.RUNNING),)}),
    ("I6", {"moved": (moved(S.RUNNING, S.DRAINING, "rollout: it is old", left=1, promised=2),)}),
    ("I7", {"decided": (decided(held(recommend_only=True)),)}),
    ("I7", {"decided": (decided(held(suspend=["replace"]), terminations=ends("MISSING: x"),
                                unheard={"blue-a-0": 1e9}),)}),
    ("I7", {"decided": (decided(held(suspend=["scale_in"]), before={"wanted": 2}),)}),
    ("I7", {"decided": (decided(held(suspend=["scale_out"]), memory={"wanted": 2}),)}),
    ("I7", {"decided": (decided(drains=drains("MONITOR_ERROR: x"),
                                memory={"wanted": 1, "brake": "MELTDOWN",
                                        "meltdown_since": 50.0}),)}),
    ("I8", {"moved": (moved(S.BOOTING, S.DRAINING),)}),
    ("I8", {"moved": (moved(None, S.RUNNING),)}),
    ("I11", {"foreign_ended": ("m-9",)}),
    ("I12", {"redelivered": (Redelivery("blue-a-0", "scale-in"),)}),
    ("blindness", {"decided": (decided(terminations=ends("MISSING: silent"), sees=False,
                                       unheard={"blue-a-0": 1e9}),)}),
    ("blindness", {"decided": (decided(terminations=ends("MISSING: silent"),
                                       unheard={"blue-a-0": 20.0}),)}),
    ("staleness", {"sized": (sized(2, 1),)}),
    ("staleness", {"sized": (sized(1, 2, launched=1),)}),
    ("staleness", {"sized": (sized(2, 0, reading_age=1e9),)}),
    ("staleness", {"sized": (sized(3, 2, spec=OVERRIDDEN),)}),
    ("bounds", {"decided": (decided(UNLIMITED, memory={"wanted": 0}),)}),
    ("bounds", {"decided": (decided(UNLIMITED, memory={"wanted": 3}),)}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "changes"), BROKEN)
def test_a_broken_world_is_seen(name: str, changes: dict[str, Any]) -> None:
    broken = broken_by(replace(WELL, **changes))
    assert name in {one.split(":")[0] for one in broken}, broken


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"machines": (machine(ours=False), machine("x", "m-2", ours=False))},
        {"moved": (moved(S.RUNNING, S.TERMINATING, "MISSING: silent", busy=True),)},
        {"moved": (moved(S.DRAINING, S.TERMINATING, busy=True, deadline=100.0),)},
        {"moved": (moved(S.RUNNING, S.TERMINATING, busy=True),), "teardown_at_once": True},
        {"redelivered": (Redelivery("blue-a-0", "deadline"),)},
        {"moved": (moved(S.RUNNING, S.DRAINING, "rollout: it is old", left=2, promised=2),)},
        {"sized": (sized(2, 1, reading_age=20.0),)},
        {"sized": (sized(2, 1, reading_age=None, allowed=None),)},
        {"sized": (sized(1, 2),)},  # as many as there are already
        {"sized": (sized(0, 1, launched=1, spec=UNLIMITED),)},  # min says so
        {"sized": (sized(3, 2, spec=UNLIMITED),)},  # max says so
        {"sized": (sized(3, 1, spec=OVERRIDDEN),)},  # a person says none, min says one
    ],
)
def test_a_world_in_order_breaks_nothing(changes: dict[str, Any]) -> None:
    assert broken_by(replace(WELL, **changes)) == []
