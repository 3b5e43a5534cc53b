"""What was decided is decided again, bit for bit, from what was stored with it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.messages import HealthStatus, InstanceState
from coordinator.controller.bounds import Limits
from coordinator.controller.decision import decide
from coordinator.controller.pool import PoolMemory
from coordinator.controller.recording import record, recorded
from coordinator.engines.base import Decision, PoolView, ViewedInstance, ViewedReading
from coordinator.engines.n_preserving import NPreserving
from coordinator.plugins import find_plugin
from coordinator.pool_spec import parse_pool
from coordinator.pool_values import ScheduleEntry
from coordinator.simulation.replay_decisions import Difference, Replayer

AT = 1_790_000_000.25
SECTIONS: list[dict[str, Any]] = [
    {"type": "n_preserving", "preserve_n": 3, "unique_instances": {"a": {"x": "1"}}},
    {
        "type": "queue_length",
        "queue": "work",
        "queuelen_high_water": 50,
        "queuelen_low_water": 10,
        "max_instances": 20,
    },
    {"type": "target_tracking", "queue": "work", "target": 7},
    {"type": "target_tracking", "metric_kind": "utilisation", "metric": "load", "target": 0.7},
    {"type": "time_to_drain", "queue": "work", "drain_time": 120, "boot_time": 30},
    {
        "type": "sensor_threshold",
        "metric": "load",
        "function": "average",
        "scale_up_threshold": 0.9,
        "scale_up_by": 1,
        "scale_down_threshold": 0.1,
        "scale_down_by": 1,
    },
]
SECTIONS.append(
    {"type": "combined", "engines": {"a": SECTIONS[1], "b": SECTIONS[2], "c": SECTIONS[4]}}
)

figures = st.floats(0, 1e6) | st.sampled_from([0.1 + 0.2, 1e-300, math.nan, math.inf])
ages = st.floats(0, 10)
instances = st.builds(
    ViewedInstance,
    node_id=st.uuids(version=4).map(str),
    state=st.sampled_from(InstanceState),
    health=st.sampled_from(HealthStatus),
    busy=st.none() | st.booleans(),
    age=ages,
    unique_id=st.sampled_from([None, "a", "b"]),
    protected=st.booleans(),
    figures=st.dictionaries(st.just("load"), figures),
    heard_age=st.none() | ages,
    price=st.none() | st.floats(0, 9),
)
readings = st.dictionaries(
    st.sampled_from([f"queue.work.{part}" for part in ("ready", "unacknowledged", "arrivals")]),
    st.builds(ViewedReading, value=figures, age=ages, sample=st.sampled_from(["1", "2"])),
)
previous = st.none() | st.builds(
    Decision,
    size=st.integers(0, 30),
    reason=st.text(max_size=5),
    memory=st.dictionaries(
        st.sampled_from(["empty_sample", "service_time"]), st.just(["1", "1"]) | st.floats(0.1, 9)
    ),
    seen=st.dictionaries(st.sampled_from(["stepped_on"]), st.sampled_from(["1", "2"])),
)
memories = st.builds(
    PoolMemory,
    wanted=st.none() | st.integers(0, 30),
    wishes=st.lists(st.tuples(st.floats(AT - 900, AT), st.integers(0, 30)), max_size=3).map(tuple),
    no_growth_until=st.sampled_from([0.0, AT - 0.1, AT + 17.3]),
    no_shrinking_until=st.sampled_from([0.0, AT - 0.1, AT + 17.3]),
)
rules = st.fixed_dictionaries(
    {},
    optional={
        "min": st.integers(0, 5),
        "max": st.integers(5, 30),
        "max_step_up": st.integers(0, 3),
        "stabilization_window": st.sampled_from([0, 600]),
        "budget": st.floats(0.1, 9),
        "override": st.just({"size": 4, "until": AT + 33.3, "reason": "fair"}),
        "hold": st.just({"suspend": ["scale_in"]}),
    },
)
schedules = st.none() | st.just(ScheduleEntry(cron="0 8 * * *", duration=3600, min=2, max=9))


@settings(deadline=None, derandomize=True, max_examples=200)
@given(
    engine=st.sampled_from(SECTIONS),
    rules=rules,
    workers=st.lists(instances, max_size=6).map(tuple),
    readings=readings,
    previous=previous,
    memory=memories,
    scheduled=schedules,
)
def test_any_recorded_cycle_replays_equal(
    engine, rules, workers, readings, previous, memory, scheduled
):
    section = {**rules, "machine_price": 0.5, "engine": engine}
    spec = parse_pool("p", section)
    view = PoolView(
        pool="p",
        now=AT,
        instances=workers,
        readings=readings,
        settings=spec.engine_settings,
        previous=previous,
    )
    limits = Limits(view=view, spec=spec, memory=memory, scheduled=scheduled)
    decision = decide(find_plugin("epu.engines", spec.engine_type)(), limits)
    found = Replayer().replay("p", AT, record(section, limits, decision))
    assert found.is_same, found
    assert found.size == decision.size


def _recording(**section: Any) -> str:
    whole = {"engine": {"type": "n_preserving", "preserve_n": 2}, **section}
    spec = parse_pool("p", whole)
    view = PoolView(pool="p", now=AT, settings=spec.engine_settings)
    limits = Limits(view=view, spec=spec, memory=PoolMemory())
    return record(whole, limits, decide(NPreserving(), limits))


def test_a_changed_engine_is_told_by_what_it_decides_otherwise(monkeypatch):
    recording = _recording(max=2)

    def more(self: NPreserving, view: PoolView) -> Decision:
        return Decision(size=3, reason="three are better")

    monkeypatch.setattr(NPreserving, "decide", more)
    found = Replayer().replay("p", AT, recording)
    assert Difference("wish.size", 2, 3) in found.differences
    assert Difference("bounds.max.reason", "", "max is 2") in found.differences
    assert "size" not in {one.what for one in found.differences}


def test_a_decision_whose_engine_is_gone_and_what_is_no_recording_are_said():
    good = _recording()
    engine = recorded(good).section["engine"]
    assert engine == {"type": "n_preserving", "preserve_n": 2}
    gone = Replayer()
    assert "can't be used now" in gone.replay("p", AT, _with_engine("no.where:Engine")).problem
    for text in ("", "x", good[:-9]):
        assert "not a recorded decision" in gone.replay("p", AT, text).problem


def _with_engine(kind: str) -> str:
    import base64
    import zlib

    whole = json.loads(zlib.decompress(base64.b64decode(_recording())))
    whole["section"]["engine"] = {"type": kind}
    return base64.b64encode(zlib.compress(json.dumps(whole).encode())).decode()


@pytest.mark.parametrize("nodes", [100])
def test_a_recording_of_a_hundred_nodes_is_a_few_kilobytes(nodes):
    workers = tuple(
        ViewedInstance(
            node_id=f"sleeper-{number:010x}-0",
            state=InstanceState.RUNNING,
            health=HealthStatus.OK,
            busy=bool(number % 2),
            age=1000.25 + number / 7,
            figures={"cpu_percent": number / 3},
            heard_age=number / 11,
        )
        for number in range(nodes)
    )
    spec = parse_pool("p", {"engine": {"type": "n_preserving", "preserve_n": nodes}})
    view = PoolView(pool="p", now=AT, instances=workers, settings=spec.engine_settings)
    limits = Limits(view=view, spec=spec, memory=PoolMemory())
    assert len(record({}, limits, decide(NPreserving(), limits))) < 100 * nodes
