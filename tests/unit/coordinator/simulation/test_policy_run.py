"""What a policy does over a trace, worked out by hand where that is possible."""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.controller.bounds import Limits
from coordinator.controller.decision import decide
from coordinator.controller.pool import PoolMemory
from coordinator.controller.recording import record
from coordinator.engines.base import Decision, PoolView, ViewedReading
from coordinator.engines.queue_length import QueueLength
from coordinator.errors import ConfigProblem
from coordinator.plugins import find_plugin
from coordinator.pool_spec import parse_pool
from coordinator.simulation.policy_report import PolicyReport, percentile, report_of
from coordinator.simulation.policy_run import PolicyRun, run_policy
from coordinator.simulation.trace_file import trace_from_text
from coordinator.simulation.trace_load import MOST_JOBS, Load, Trace, load_of
from coordinator.simulation.trace_recorded import boot_times_of, trace_of_recordings
from coordinator.simulation.trace_times import Times, times_of

BEGAN = 1_790_000_000.0
BOOT = times_of("60")


def jobs(*pairs: tuple[float, float]) -> Load:
    """Messages by (seconds after the beginning, service time)."""
    rows = "".join(f"{BEGAN + at},{service}\n" for at, service in pairs)
    return load_of(trace_from_text(f"time,service\n{rows}", "t.csv"), None, Random(1))


def run(load: Load, engine: dict[str, Any], workers: int | None = None, **rules: Any) -> PolicyRun:
    spec = parse_pool("p", {"engine": engine, **rules})
    found = find_plugin("epu.engines", spec.engine_type)()
    return run_policy(spec, found, load, BOOT, seed=1, workers=workers)


def report(run: PolicyRun, **given: Any) -> PolicyReport:
    return report_of("p", run, **given)


KEEP_TWO = {"type": "n_preserving", "preserve_n": 2}
QUEUE = {
    "type": "queue_length",
    "queue": "work",
    "queuelen_high_water": 5,
    "queuelen_low_water": 1,
    "max_instances": 9,
}


def test_messages_wait_for_the_first_free_worker_oldest_first() -> None:
    load = jobs((0, 10), (0, 20), (1, 5), (2, 1), (3, 1), (40, 1))
    found = run(load, KEEP_TWO, workers=2)
    assert found.waits == pytest.approx([0, 0, 9, 13, 13, 0])
    assert found.unserved == [] and found.launches == 0


def test_cold_machines_boot_first_and_are_paid_from_their_launch() -> None:
    load = jobs((0, 10), (99, 1))
    found = run(load, KEEP_TWO)
    assert found.waits == pytest.approx([60, 0])
    figures = report(found, price=3.6)
    assert figures.launches == 2
    assert figures.machine_hours == pytest.approx(2 * 100 / 3600)
    assert figures.cost == pytest.approx(3.6 * 2 * 100 / 3600)
    assert figures.workers_mean == pytest.approx(2 * 40 / 100, abs=0.05)


class Timetable:
    """Wants what its table says from so many seconds on."""

    Settings = dict

    def __init__(self, *table: tuple[float, int]) -> None:
        self.table = table

    def decide(self, view: PoolView) -> Decision:
        passed = view.now - BEGAN
        return Decision(size=[size for at, size in self.table if at <= passed][-1], reason="table")


def test_a_worker_that_goes_finishes_what_it_holds() -> None:
    spec = parse_pool("p", {})
    load = jobs((0, 300), (0, 300), (600, 1))
    found = run_policy(spec, Timetable((0, 2), (10, 0)), load, BOOT, seed=1, workers=2)
    assert found.terminations == 2
    assert found.machine_seconds == pytest.approx(600), "each worked its 300 s to the end"
    assert found.unserved == [pytest.approx(1)], "and nobody is left for the last one"


def test_a_draining_worker_is_taken_back_before_another_is_launched() -> None:
    spec = parse_pool("p", {})
    load = jobs((0, 500), (0, 500), (600, 1), (600, 1), (700, 1))
    table = Timetable((0, 2), (100, 1), (200, 3))
    found = run_policy(spec, table, load, BOOT, seed=1, workers=2)
    assert found.launches == 1 and found.terminations == 0
    assert max(point.draining for point in found.points) == 1


def test_the_engines_own_step_and_the_pools_bounds_count() -> None:
    load = jobs(*((0, 1000) for _ in range(40)), (3000, 1))
    found = run(load, QUEUE, min=1, max=4)
    assert max(point.running + point.booting for point in found.points) == 4
    figures = report(found, high_water=30, wait_target=500)
    assert figures.workers_max == 4 and figures.over_high_water is not None
    assert 0 < figures.over_high_water < figures.seconds
    assert figures.waited_longer is not None and figures.waited_longer > 0.5


def test_a_recorded_queue_is_followed_and_nobody_knows_waits() -> None:
    rows = "".join(f"{BEGAN + 300 * place},{ready}\n" for place, ready in enumerate((0, 60, 0)))
    trace = trace_from_text(f"time,queue\n{rows}", "q.csv")
    found = run(load_of(trace, None, Random(1)), QUEUE, min=1)
    figures = report(found)
    assert figures.wait_p50 is None and figures.messages == 0
    assert figures.workers_max > 3 and figures.over_high_water == pytest.approx(300, abs=31)
    assert found.points[-1].running < figures.workers_max


def test_a_failing_engine_is_told_and_the_pool_stays_as_it_is() -> None:
    class Broken:
        Settings = dict

        def decide(self, view: Any) -> Decision:
            raise LookupError("no")

    spec = parse_pool("p", {"engine": KEEP_TWO})
    found = run_policy(spec, Broken(), jobs((0, 1), (50, 1)), BOOT, seed=1, workers=1)
    assert list(found.failures) == ["LookupError: no"] and found.launches == 0


@settings(deadline=None, derandomize=True, max_examples=25)
@given(
    arrivals=st.lists(st.tuples(st.floats(0, 2000), st.floats(0, 200)), min_size=1, max_size=60),
    least=st.integers(0, 3),
    most=st.integers(3, 8),
)
def test_no_message_is_lost_and_no_bound_is_broken(
    arrivals: list[tuple[float, float]], least: int, most: int
) -> None:
    load = jobs(*sorted(arrivals))
    found = run(load, QUEUE, min=least, max=most)
    assert len(found.waits) + len(found.unserved) == len(arrivals)
    assert all(wait >= 0 for wait in found.waits)
    assert all(least <= point.wanted <= most for point in found.points)
    assert found.machine_seconds <= (found.launches + least) * (load.ends - load.began)


#: Each kind of engine, and what it made of ``busy_day`` when the simulation was slow and plain.
SAME_AS_EVER: tuple[tuple[dict[str, Any], tuple[int, int, int, int, str]], ...] = (
    (QUEUE, (322, 15, 15, 38077, "a861fa9cb1859197")),
    (
        {"type": "target_tracking", "queue": "work", "target": 2},
        (512, 87, 87, 44040, "f3e12a1d054c0b26"),
    ),
    (
        {"type": "target_tracking", "metric_kind": "utilisation"}
        | {"metric": "cpu_percent", "target": 60},
        (383, 76, 75, 73293, "5c42e6f12d6ca368"),
    ),
    (
        {"type": "time_to_drain", "queue": "work", "drain_time": 300, "boot_time": 60},
        (487, 230, 224, 94109, "6faf0404847220ff"),
    ),
    (
        {"type": "sensor_threshold", "metric": "cpu_percent"}
        | {"scale_up_threshold": 80, "scale_down_threshold": 20},
        (303, 15, 5, 76820, "9a4b9d5a37167afd"),
    ),
    (
        {"type": "combined"}
        | {"engines": {"a": QUEUE, "b": {"type": "target_tracking", "queue": "work", "target": 3}}},
        (327, 16, 16, 38503, "403d45e9ff9ae3ce"),
    ),
)


def busy_day() -> Load:
    """Two hours with a rush in their middle, 20 s a message."""
    random = Random(3)
    times = sorted(3600 + 3600 * (random.random() - random.random()) for _ in range(1500))
    return jobs(*((at, 5 + 30 * random.random()) for at in times))


def fingerprint(found: PolicyRun) -> tuple[int, int, int, int, str]:
    """What can't be the same by chance when a run is another one."""
    points = [[round(float(value), 6) for value in one] for one in found.points]
    told = [points, [round(one, 6) for one in found.waits], found.held, found.failures]
    digest = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]
    seconds = round(found.machine_seconds)
    return found.cycles, found.launches, found.terminations, seconds, digest


@pytest.mark.parametrize(
    ("engine", "told"), SAME_AS_EVER, ids=[str(engine["type"]) for engine, _ in SAME_AS_EVER]
)
def test_a_run_is_the_same_to_the_last_bit_however_fast_it_is_made(
    engine: dict[str, Any], told: tuple[int, int, int, int, str]
) -> None:
    """And ages, which are not renewed in each cycle, are nothing that our engines look at."""
    section = {"engine": engine, "min": 1, "max": 30, "stabilization_window": 120}
    section |= {"cooldown_up": 5, "cooldown_down": 20}
    spec = parse_pool("p", section)
    ours = find_plugin("epu.engines", spec.engine_type)()

    class Ageless:
        __module__ = ours.__module__
        Settings = dict

        def decide(self, view: PoolView) -> Decision:
            ageless = tuple(replace(one, age=-1e9) for one in view.instances)
            wish: Decision = ours.decide(replace(view, instances=ageless))
            return wish

    load = busy_day()
    assert fingerprint(run_policy(spec, ours, load, BOOT, seed=1)) == told
    assert fingerprint(run_policy(spec, Ageless(), load, BOOT, seed=1)) == told


def test_very_many_messages_are_simulated_in_groups() -> None:
    times = tuple(BEGAN + 300 * place for place in range(10))
    trace = Trace(kind="rates", times=times, values=(1e6,) * 10)
    load = load_of(trace, times_of("0.001"), Random(1))
    assert len(load.arrivals) <= MOST_JOBS and load.group == 25
    assert len(load.arrivals) * load.group == 10_000_000
    assert load.mean_service == pytest.approx(0.001)


def test_times_have_the_mean_that_was_written() -> None:
    random = Random(7)
    for text in ("lognormal:60,20", "exponential:60", "uniform:40,80", "60"):
        times = times_of(text)
        drawn = [times.draw(random) for _ in range(20_000)]
        assert sum(drawn) / len(drawn) == pytest.approx(60, rel=0.03), text
        assert min(drawn) >= 0
    for text in ("", "x", "normal:3", "lognormal:0,1", "uniform:9,3", "nan", "1e9", "fixed:1,2"):
        with pytest.raises(ConfigProblem):
            times_of(text)


def test_percentiles_are_values_that_occurred() -> None:
    assert percentile([], 50) is None
    assert [percentile([1, 2, 3, 4], p) for p in (0, 25, 50, 51, 99, 100)] == [1, 1, 2, 3, 4, 4]


def test_boot_times_are_those_of_the_runs_own_nodes() -> None:
    def event(name: str, node: str, at: float, pool: str = "p") -> dict[str, Any]:
        return {"name": name, "node": node, "time": BEGAN + at, "pool": pool}

    events = [
        event("node_ready", "a-0", 42),
        event("new_launch", "a-0", 0),
        event("new_node", "a-0", 12),
        event("new_launch", "b-0", 5),
        event("new_launch", "c-0", 0, "other"),
        event("node_ready", "c-0", 1, "other"),
    ]
    assert boot_times_of(events, "p") == Times("measured", (42.0,))
    assert boot_times_of(events[1:], "p") is None


def test_a_run_without_a_queue_gives_no_trace() -> None:
    with pytest.raises(ConfigProblem, match="0 of its stored decisions tell of a queue"):
        trace_of_recordings([{"recording": None}, {"recording": "x"}], "run demo, pool p")


def recordings_of(rows: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Stored decisions of a pool whose engine saw these readings of its queue."""
    section = {"engine": QUEUE}
    spec = parse_pool("p", section)
    engine = find_plugin("epu.engines", spec.engine_type)()
    found = []
    for row in rows:
        readings = {
            f"queue.work.{part}": ViewedReading(value=float(value), age=0.5)
            for part, value in row.items()
            if part != "time" and value
        }
        settings = spec.engine_settings
        view = PoolView(pool="p", now=float(row["time"]), readings=readings, settings=settings)
        limits = Limits(view=view, spec=spec, memory=PoolMemory())
        found.append({"recording": record(section, limits, decide(engine, limits))})
    return found


def test_a_recorded_run_tells_how_many_messages_it_had_and_how_long_they_took() -> None:
    """Of the sample ``sleeper``: 60 jobs of 2 s, 15 and 80 of 1 s, each in a burst of a second,
    of which the broker's rates, seen at the decisions, tell but half.
    """
    with Path(__file__).with_name("recorded_sleeper.csv").open() as file:
        rows = list(csv.DictReader(file))
    trace = trace_of_recordings(recordings_of(rows), "run demo, pool p")
    load = load_of(trace, None, Random(1))
    assert load.group == 1 and len(load.arrivals) == pytest.approx(155, rel=0.1)
    assert load.mean_service == pytest.approx((60 * 2 + 95) / 155, rel=0.25)
    late = sum(1 for at in load.arrivals if at - load.began > 110)
    assert late == pytest.approx(80, rel=0.1), "the last burst, when the queue was long empty"
    spec = parse_pool("p", {"engine": QUEUE})
    figures = report(run_policy(spec, QueueLength(), load, BOOT, seed=1))
    assert figures.wait_p50 is not None and figures.queue_max > 50


def test_where_the_broker_tells_no_rates_the_queues_length_is_the_trace() -> None:
    rows = [{"time": f"{BEGAN + at}", "ready": f"{at}", "departures": ""} for at in (0, 5, 9)]
    trace = trace_of_recordings(recordings_of(rows), "run demo, pool p")
    assert (trace.kind, trace.values) == ("queue", (0.0, 5.0, 9.0))
