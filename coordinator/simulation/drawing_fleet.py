"""From a seed to the pools and clouds of a history, and the jobs that come to them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from coordinator.simulation.history import CloudPlan, PoolPlan


def draw_cloud(rng: random.Random, name: str) -> CloudPlan:
    """One cloud: how it lags, what it costs, how fast its machines boot."""
    lag = rng.choice((0.0, 0.0, 3.0, 10.0, 30.0))
    settings: dict[str, Any] = {
        "lag": lag,
        "seed": rng.randrange(1 << 30),
        "gone_listed_for": rng.choice((0.0, 10.0, 60.0)),
        "price": rng.choice((None, 1.0)),
        "batch_limit": rng.choice((1, 5, 100, 100)),
    }
    if rng.random() < 0.1:
        settings["capacity"] = 2 + rng.randint(1, 8)  # two machines are not ours
    quickest = rng.choice((1.0, 5.0, 15.0))
    return CloudPlan(
        name=name,
        settings=settings,
        window=lag if lag else rng.choice((0.0, 0.0, 5.0)),
        boots_in=(quickest, quickest + rng.choice((1.0, 15.0))),
    )


def draw_pool(
    rng: random.Random, name: str, clouds: Sequence[CloudPlan], quiet_after: float
) -> PoolPlan:
    """One pool: its engine, its bounds, its time-outs, its jobs."""
    most = rng.choice((1, 3, 5, 8, 8, 12))
    least = rng.choice((0, 0, 0, 1, min(2, most)))
    section: dict[str, Any] = {
        "programs": {"worker": {"command": ["work"]}, "side": {"command": ["x"], "worker": False}},
        "busy_file": "busy",
        "heartbeat_interval": rng.choice((5, 10)),
        "drain_timeout": rng.choice((10, 60, 120)),
        "health": {
            "boot_timeout": rng.choice((40, 60, 90)),
            "launch_timeout": rng.choice((60, 120)),
            "missing_timeout": rng.choice((40, 60)),
            "really_missing_timeout": rng.choice((5, 15)),
            "zombie_timeout": rng.choice((30, 60)),
        },
        "max": most,
        "max_surge": rng.choice((0, 1, 1, 1, 2)),
        "settle_time": rng.choice((0, 5, 30)),
        "engine": {},
    }
    if least:
        section["min"] = least
    if rng.random() < 0.5:
        del section["busy_file"]
    if len(clouds) > 1:
        section["clouds"] = [one.name for one in clouds]
    if rng.random() < 0.1:
        section |= {"retain_failed": 1, "retain_failed_for": rng.choice((30, 120))}
    queue = f"jobs-{name}"
    section["engine"], follows = _engine(rng, queue, most)
    section |= _rules(rng, most, 0.4 if follows else 0.2)
    arrivals = tuple(_arrivals(rng, quiet_after)) if follows or rng.random() < 0.3 else ()
    if not follows and arrivals:
        section["work_queues"] = [queue]
    used = queue if follows or arrivals else ""
    return PoolPlan(name=name, section=section, queue=used, arrivals=arrivals)


def _rules(rng: random.Random, most: int, often: float) -> dict[str, Any]:
    rules: dict[str, Any] = {}
    if rng.random() < often:
        rules["max_step_up"] = rng.randint(1, 3)
    if rng.random() < often:
        rules["max_step_down"] = rng.randint(1, 3)
    if rng.random() < often:
        rules["cooldown_up"] = rng.choice((5, 30))
    if rng.random() < often:
        rules["cooldown_down"] = rng.choice((5, 30))
    if rng.random() < often:
        rules["stabilization_window"] = rng.choice((10, 60))
    if rng.random() < 0.05:
        period, other = rng.choice((3, 5)), rng.randint(0, most)
        bound = {rng.choice(("min", "max")): other} if other else {"min": most}
        entry = {"cron": f"*/{period} * * * *", "duration": rng.choice((60, 90)), **bound}
        rules["schedule"] = [entry]
    if rng.random() < 0.15:
        rules |= {"budget": float(rng.randint(1, most)), "machine_price": 1.0}
    return rules


def _engine(rng: random.Random, queue: str, most: int) -> tuple[dict[str, Any], bool]:
    """An engine's section, and whether it follows the queue."""
    kind = rng.choice(
        ("n_preserving", "n_preserving", "unique", "queue_length", "queue_length",
         "target_tracking", "time_to_drain", "sensor_threshold", "utilisation", "combined")
    )  # fmt: skip
    if kind == "n_preserving":
        return {"type": kind, "preserve_n": rng.randint(0, most)}, False
    if kind == "unique":
        wanted = rng.randint(1, most)
        ids = {f"u{number}": {"part": str(number)} for number in range(rng.randint(1, wanted))}
        return {
            "type": "n_preserving", "preserve_n": wanted, "unique_instances": ids,
        }, False  # fmt: skip
    if kind == "sensor_threshold":
        return {
            "type": kind, "metric": "cpu_percent", "scale_up_threshold": 80,
            "scale_down_threshold": 20,
        }, False  # fmt: skip
    if kind == "utilisation":
        return {
            "type": "target_tracking", "metric_kind": "utilisation", "metric": "cpu_percent",
            "target": 60,
        }, False  # fmt: skip
    if kind == "combined":
        one, _ = _queue_engine(rng, "queue_length", queue, most)
        return {
            "type": kind,
            "engines": {"steady": {"type": "n_preserving", "preserve_n": 1}, "load": one},
        }, True
    return _queue_engine(rng, kind, queue, most)


def _queue_engine(
    rng: random.Random, kind: str, queue: str, most: int
) -> tuple[dict[str, Any], bool]:
    if kind == "target_tracking":
        return {"type": kind, "queue": queue, "target": rng.choice((1, 3, 10))}, True
    if kind == "time_to_drain":
        return {"type": kind, "queue": queue, "drain_time": rng.choice((30, 120))}, True
    low = rng.choice((1, 2, 5))
    return {
        "type": kind,
        "queue": queue,
        "queuelen_high_water": low + rng.choice((0, 3, 10)),
        "queuelen_low_water": low,
        "min_instances": rng.choice((0, 0, 1)),
        "max_instances": most,
        "step": rng.choice((1, 1, 2)),
    }, True


def _arrivals(rng: random.Random, until: float) -> Iterator[tuple[float, int, float]]:
    """Bursts, a square wave, or a trickle."""
    shape = rng.choice(("burst", "wave", "trickle"))
    seconds = rng.choice((1.0, 5.0, 20.0, 40.0))
    if shape == "burst":
        for _ in range(rng.randint(1, 3)):
            yield rng.uniform(1.0, until * 0.7), rng.randint(1, 40), seconds
    elif shape == "wave":
        period = rng.choice((60.0, 120.0))
        at = rng.uniform(1.0, period)
        while at < until * 0.8:
            yield at, rng.randint(1, 15), seconds
            at += period
    else:
        at, pause = 1.0, rng.choice((3.0, 10.0))
        while at < until * 0.8:
            yield at, 1, seconds
            at += rng.uniform(0.2, 2.0) * pause
