"""From a seed to a history: which fleet, which faults, which orders of operators.

Each part has a generator of its own, made from the seed and its name: what is drawn for one
part never depends on how much was drawn for another. Histories are short on purpose, with
time-outs that fit, and trouble comes thick: a fleet of years lives through less.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from coordinator.simulation.drawing_fleet import draw_cloud, draw_pool
from coordinator.simulation.history import CloudPlan, Happening, History, PoolPlan

PROCESSES = ("controller", "provisioner", "sensors")


def generator(seed: int, part: str) -> random.Random:
    """The generator of one part of a history."""
    return random.Random(f"{seed}/{part}")


def draw(seed: int) -> History:
    """The history of a seed."""
    rng = generator(seed, "fleet")
    clouds = tuple(draw_cloud(rng, name) for name in ("north", "south")[: rng.choice((1, 1, 1, 2))])
    cycle = rng.choice((2.0, 3.0, 5.0, 5.0))
    poll = rng.choice((2.0, 5.0))
    quiet_after = rng.choice((150.0, 200.0, 300.0, 400.0, 600.0))
    names = ("blue", "red")[: rng.choice((1, 1, 2))]
    pools = tuple(draw_pool(rng, name, clouds, quiet_after) for name in names)
    happenings = sorted(_happenings(seed, pools, clouds, quiet_after), key=lambda one: one.at)
    return History(
        seed=seed,
        pools=pools,
        clouds=clouds,
        happenings=tuple(happenings),
        cycle_interval=cycle,
        listing_interval=rng.choice((2.0, 5.0, 10.0)),
        queue_poll_interval=poll,
        loopback_interval=rng.choice((2.0, 5.0)),
        blindness_grace=rng.choice((30.0, 30.0, 60.0)),
        latency=rng.choice((0.0, 0.0, 0.5, 2.0)),
        quiet_after=quiet_after,
    )


# ------------------------------------------------------------------ what happens to it


def _happenings(
    seed: int, pools: Sequence[PoolPlan], clouds: Sequence[CloudPlan], until: float
) -> Iterator[Happening]:
    rng = generator(seed, "happenings")
    kinds: list[Callable[..., Happening]] = [
        _restart, _restart, _crash, _crash, _broker_away, _registrar_away,
        _management_away, _management_away, _management_away,
        _messages, _cloud_fails, _cloud_fails, _listings_blink, _replies_lost, _vanish, _vanish,
        _mass_loss, _cut_off, _mute, _fails, _fails, _zombie, _agent_restarts, _boots_fail,
        _set_n, _set_n, _operator, _operator, _clock_jumps, _rollout,
    ]  # fmt: skip
    # A few kinds per history, each more often: that is how combinations are found.
    chosen = rng.sample(kinds, rng.randint(1, 6))
    for _ in range(rng.randint(0, 10)):
        at = round(rng.uniform(5.0, until * 0.9), 1)
        kind = rng.choice(chosen)
        yield kind(rng, at, until - at, pools, clouds)
    yield from _adoptions(generator(seed, "adoptions"), pools, until)
    if rng.random() < 0.04:
        at = round(rng.uniform(20.0, until * 0.9), 1)
        values = {"now": rng.random() < 0.3, "drain_timeout": rng.choice((None, 5.0, 30.0))}
        yield Happening(at=at, what="teardown", values=values)


def _adoptions(rng: random.Random, pools: Sequence[PoolPlan], until: float) -> Iterator[Happening]:
    """In every tenth history people boot machines of their own."""
    for _ in range(rng.choice((0,) * 9 + (rng.randint(1, 3),))):
        at = round(rng.uniform(5.0, until * 0.9), 1)
        values = {
            "pool": rng.choice(pools).name,
            "count": rng.randint(1, 3),
            "how": rng.choice(("ok", "ok", "ok", "fails", "mute")),
        }
        lasts = _lasts(rng, until - at, 0.0, 30.0, 120.0, 300.0)
        yield Happening(at=at, what="adopt", lasts=lasts, values=values)


def _lasts(rng: random.Random, left: float, *choices: float) -> float:
    return round(min(rng.choice(choices), max(1.0, left)), 1)


def _restart(rng: random.Random, at: float, left: float, *_: Any) -> Happening:
    down = rng.choice((0.0, 1.0, 5.0, 60.0))
    return Happening(at=at, what="restart", lasts=down, values={"process": rng.choice(PROCESSES)})


def _crash(rng: random.Random, at: float, left: float, *_: Any) -> Happening:
    values = {
        "process": rng.choice(("controller", "provisioner", "provisioner")),
        "point": rng.choice(("before", "after")),
    }
    return Happening(at=at, what="crash", lasts=rng.choice((0.0, 2.0, 20.0)), values=values)


def _broker_away(rng: random.Random, at: float, left: float, *_: Any) -> Happening:
    # Longer than the history: the quiet begins when it is back.
    lasts = rng.choice((1.0, 5.0, 20.0, 60.0, 60.0, 180.0, 180.0, 600.0, 3600.0))
    return Happening(at=at, what="broker_away", lasts=lasts)


def _management_away(rng: random.Random, at: float, left: float, *_: Any) -> Happening:
    return Happening(at=at, what="management_away", lasts=_lasts(rng, left, 10.0, 60.0, 300.0))


def _registrar_away(rng: random.Random, at: float, left: float, *_: Any) -> Happening:
    return Happening(at=at, what="registrar_away", lasts=_lasts(rng, left, 10.0, 60.0, 300.0))


def _messages(rng: random.Random, at: float, left: float, *_: Any) -> Happening:
    values = {
        "lost": rng.choice((0.0, 0.1, 0.3)),
        "doubled": rng.choice((0.0, 0.2)),
        "late": rng.choice((0.0, 0.3)),
        "latest": rng.choice((2.0, 15.0)),
    }
    return Happening(at=at, what="messages", lasts=_lasts(rng, left, 30.0, 120.0), values=values)


def _cloud_fails(
    rng: random.Random,
    at: float,
    left: float,
    pools: Sequence[PoolPlan],
    clouds: Sequence[CloudPlan],
) -> Happening:
    methods: tuple[str, ...] = rng.choice(
        (("launch",), ("terminate",), ("list_instances",), ("launch", "terminate"),
         ("launch", "terminate", "list_instances"))
    )  # fmt: skip
    errors = ["retry", "retry", "credentials", "defect"]
    if methods == ("launch",):
        errors += ["capacity", "capacity", "refused"]
    values = {
        "cloud": rng.choice(clouds).name,
        "methods": methods,
        "error": rng.choice(errors),
        "share": rng.choice((0.3, 1.0)),
    }
    return Happening(
        at=at, what="cloud_fails", lasts=_lasts(rng, left, 10.0, 60.0, 300.0), values=values
    )


def _listings_blink(
    rng: random.Random,
    at: float,
    left: float,
    pools: Sequence[PoolPlan],
    clouds: Sequence[CloudPlan],
) -> Happening:
    values = {
        "cloud": rng.choice(clouds).name,
        "blink": rng.choice((0.0, 0.1, 0.5)),
        "backwards": rng.random() < 0.5,
    }
    return Happening(
        at=at, what="listings_lie", lasts=_lasts(rng, left, 30.0, 120.0), values=values
    )


def _replies_lost(
    rng: random.Random,
    at: float,
    left: float,
    pools: Sequence[PoolPlan],
    clouds: Sequence[CloudPlan],
) -> Happening:
    values = {"cloud": rng.choice(clouds).name, "share": rng.choice((0.2, 0.5))}
    return Happening(
        at=at, what="replies_lost", lasts=_lasts(rng, left, 60.0, 300.0), values=values
    )


def _of_pool(
    rng: random.Random, at: float, what: str, pools: Sequence[PoolPlan], lasts: float = 0.0,
    **values: Any
) -> Happening:  # fmt: skip
    given = {"pool": rng.choice(pools).name, "pick": rng.randrange(1 << 30), **values}
    return Happening(at=at, what=what, lasts=lasts, values=given)


def _vanish(
    rng: random.Random, at: float, left: float, pools: Sequence[PoolPlan], *_: Any
) -> Happening:
    noticed = rng.choice((0.1, 0.1, 60.0))
    return _of_pool(rng, at, "vanish", pools, count=rng.randint(1, 2), noticed=noticed)


def _mass_loss(
    rng: random.Random, at: float, left: float, pools: Sequence[PoolPlan], *_: Any
) -> Happening:
    return _of_pool(rng, at, "vanish", pools, count=1000, noticed=rng.choice((0.1, 60.0)))


def _cut_off(
    rng: random.Random, at: float, left: float, pools: Sequence[PoolPlan], *_: Any
) -> Happening:
    lasts = _lasts(rng, left, 10.0, 60.0, 200.0)
    return _of_pool(rng, at, "cut_off", pools, lasts, count=rng.choice((1, 1, 2, 1000)))


def _mute(
    rng: random.Random, at: float, left: float, pools: Sequence[PoolPlan], *_: Any
) -> Happening:
    return _of_pool(rng, at, "mute", pools, count=rng.choice((1, 1, 2, 1000)))


def _fails(
    rng: random.Random, at: float, left: float, pools: Sequence[PoolPlan], *_: Any
) -> Happening:
    how = rng.choice(("worker", "side", "supervisor"))
    return _of_pool(rng, at, "fails", pools, count=rng.choice((1, 1, 2, 1000)), how=how)


def _zombie(
    rng: random.Random, at: float, left: float, pools: Sequence[PoolPlan], *_: Any
) -> Happening:
    lasts, denied = rng.choice((70.0, 150.0)), rng.random() < 0.5
    return _of_pool(rng, at, "zombie", pools, lasts, count=1, denied=denied)


def _agent_restarts(
    rng: random.Random, at: float, left: float, pools: Sequence[PoolPlan], *_: Any
) -> Happening:
    return _of_pool(rng, at, "agent_restarts", pools, count=rng.choice((1, 1000)))


def _boots_fail(
    rng: random.Random, at: float, left: float, pools: Sequence[PoolPlan], *_: Any
) -> Happening:
    values = {"how": rng.choice(("fails", "mute")), "share": rng.choice((0.3, 1.0))}
    return Happening(
        at=at, what="boots_fail", lasts=_lasts(rng, left, 30.0, 120.0, 300.0), values=values
    )


def _set_n(
    rng: random.Random, at: float, left: float, pools: Sequence[PoolPlan], *_: Any
) -> Happening:
    pool = rng.choice(pools)
    most = int(pool.section["max"])
    if pool.section["engine"]["type"] == "n_preserving":
        unique = pool.section["engine"].get("unique_instances", {})
        changes: dict[str, Any] = {"engine.preserve_n": rng.randint(len(unique), most)}
    else:
        changes = {"min": rng.randint(0, most)}
    return Happening(at=at, what="reconfigure", values={"pool": pool.name, "changes": changes})


def _operator(
    rng: random.Random, at: float, left: float, pools: Sequence[PoolPlan], *_: Any
) -> Happening:
    pool = rng.choice(pools)
    what = rng.choice(("hold", "suspend", "suspend", "override", "max", "surge", "protect"))
    if what == "protect":
        return _of_pool(rng, at, what, (pool,), count=1)
    if what == "hold":
        hold: Any = {"recommend_only": True, "reason": "a look"}
        changes: dict[str, Any] = {"hold": hold}
    elif what == "suspend":
        word = rng.choice(("scale_in", "scale_out", "replace"))
        changes = {"hold": {"suspend": [word], "reason": "a look"}}
    elif what == "override":
        size = rng.randint(0, int(pool.section["max"]))
        changes = {"override": {"size": size, "for": rng.choice((30.0, 120.0))}}
    elif what == "max":
        least = int(pool.section.get("min", 0))
        changes = {"max": rng.randint(max(1, least), int(pool.section["max"]) + 2)}
    else:
        changes = {"max_surge": rng.choice((0, 1, 2))}
    lasts = _lasts(rng, left, 30.0, 120.0) if "hold" in changes else 0.0
    return Happening(
        at=at, what="reconfigure", lasts=lasts, values={"pool": pool.name, "changes": changes}
    )


def _rollout(
    rng: random.Random, at: float, left: float, pools: Sequence[PoolPlan], *_: Any
) -> Happening:
    values = {
        "pool": rng.choice(pools).name,
        "action": rng.choice(("start", "start", "start", "stop")),
        "edits": rng.choice((0, 1, 1, 1)),
    }
    return Happening(at=at, what="rollout", values=values)


def _clock_jumps(rng: random.Random, at: float, left: float, *_: Any) -> Happening:
    return Happening(
        at=at, what="clock_jumps", values={"by": rng.choice((-3600.0, -60.0, 60.0, 3600.0))}
    )
