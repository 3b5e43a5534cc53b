"""What must hold for a pool of any engine, with bounds: I10 and its kin, engine by engine."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.messages import InstanceState as S

QUEUE = {"queue": "jobs"}
MEMBERS = {
    "by_length": {
        "type": "queue_length",
        **QUEUE,
        "queuelen_high_water": 50,
        "queuelen_low_water": 10,
        "max_instances": 20,
    },
    "by_backlog": {"type": "target_tracking", **QUEUE, "target": 8},
    "by_time": {"type": "time_to_drain", **QUEUE, "drain_time": 60, "service_time": 5},
    "by_load": {
        "type": "target_tracking",
        "metric_kind": "utilisation",
        "metric": "load",
        "target": 50,
    },
    "by_threshold": {
        "type": "sensor_threshold",
        "metric": "load",
        "function": "average",
        "scale_up_threshold": 60,
        "scale_up_by": 2,
        "scale_down_threshold": 20,
        "scale_down_by": 1,
    },
    "fixed": {"type": "n_preserving", "preserve_n": 4},
}
ENGINES = {
    **MEMBERS,
    "all": {"type": "combined", "engines": {k: MEMBERS[k] for k in ("by_length", "by_load")}},
}
every_engine = pytest.mark.parametrize("engine", ENGINES)
#: Rules as a plan may have them; times in cycles of 1 s.
RULES: dict[str, Any] = {
    "min": 1,
    "max": 9,
    "max_step_up": 3,
    "cooldown_down": 10,
    "stabilization_window": 20,
}
lenient = settings(deadline=None, derandomize=True, max_examples=4)


class Pool:
    """A pool that lives under inputs: messages ready, and the load that its workers tell."""

    def __init__(self, make_world: Any, engine: str, **rules: Any) -> None:
        self.world = make_world(ENGINES[engine], **{**RULES, **rules})
        self.wanted: list[int] = []
        self.broken: set[str] = set()

    def live(self, cycles: int, ready: int, load: float) -> None:
        world = self.world
        for _ in range(cycles):
            if getattr(world.spec.engine_settings, "queue", ""):
                world.queue = (ready, 0)
            for node_id in set(world.running) - self.broken:
                world.signs[node_id] = {"figures": {"load": load}, "busy": False}
            world.step()
            if world.memory.wanted is not None:
                self.wanted.append(world.memory.wanted)

    def batches(self, last: int) -> list[Any]:
        return [one.batch for one in self.world.outcomes[-last:] if one.batch is not None]


inputs = st.tuples(st.integers(0, 200), st.floats(0, 100))


@every_engine
@lenient
@given(phases=st.lists(st.tuples(st.integers(1, 15), inputs), min_size=1, max_size=6))
def test_no_input_makes_an_engine_break_its_pools_bounds(
    make_world: Any, engine: str, phases: list[tuple[int, tuple[int, float]]]
) -> None:
    pool = Pool(make_world, engine)
    for cycles, (ready, load) in phases:
        pool.live(cycles, ready, load)
        assert pool.world.machines <= 9 + pool.world.spec.max_surge
    assert all(1 <= wanted <= 9 for wanted in pool.wanted)
    steps = [after - before for before, after in zip(pool.wanted, pool.wanted[1:], strict=False)]
    assert max(steps, default=0) <= 3


@every_engine
@lenient
@given(given=inputs, before=inputs)
def test_constant_input_settles(
    make_world: Any, engine: str, given: tuple[int, float], before: tuple[int, float]
) -> None:
    pool = Pool(make_world, engine)
    pool.live(10, *before)
    pool.live(190, *given)
    assert not pool.batches(last=30), "nothing is done any more"
    assert len(set(pool.wanted[-30:])) == 1


@every_engine
@pytest.mark.parametrize("half", [30])
def test_a_square_wave_turns_a_pool_at_most_twice_a_period(
    make_world: Any, engine: str, half: int
) -> None:
    periods = 4
    pool = Pool(make_world, engine)
    for _ in range(periods):
        pool.live(half, 150, 95.0)
        pool.live(half, 0, 1.0)
    moves = [a - b for a, b in zip(pool.wanted[1:], pool.wanted, strict=False) if a != b]
    turns = sum((a > 0) != (b > 0) for a, b in zip(moves, moves[1:], strict=False))
    assert turns <= 2 * periods


@every_engine
@pytest.mark.parametrize("blindness", ["no report", "old readings"])
@pytest.mark.parametrize("meanwhile", [(0, 1.0), (200, 99.0)])
def test_nothing_is_done_on_data_that_is_stale(
    make_world: Any, engine: str, blindness: str, meanwhile: tuple[int, float]
) -> None:
    pool = Pool(make_world, engine)
    pool.live(60, 30, 50.0)
    supply = pool.world.running
    assert not pool.batches(last=10)
    if blindness == "no report":
        pool.world.sensors = False
    else:
        pool.world.stale_by = 60.0
        for node_id in supply:  # silent for long enough to say nothing, and not to be judged
            pool.world.silent[node_id] = pool.world.now - 40
    pool.live(30, *meanwhile)
    assert not pool.batches(last=30) and pool.world.running == supply


@every_engine
@pytest.mark.parametrize("how", ["vanishes", "fails"])
def test_one_lost_worker_is_exactly_one_replacement(make_world: Any, engine: str, how: str) -> None:
    pool = Pool(make_world, engine)
    pool.live(60, 30, 40.0)
    world = pool.world
    before, launched = len(world.running), world.launched
    assert before >= 1 and not pool.batches(last=10)
    lost = world.running[0]
    if how == "vanishes":
        world.vanish(lost)
    else:
        world.fail_program(lost)
        pool.broken.add(lost)
    pool.live(60, 30, 40.0)
    assert len(world.running) == before
    assert world.launched - launched == 1
    assert lost not in world.ids(S.RUNNING)
