"""Lines over time out of events and decisions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent.messages import Event
from coordinator.controller.records import PoolRecords
from coordinator.store.session import open_store
from mgmt.graphs.panels import JOBS, NODES, QUEUE, losses_of, panels_of
from mgmt.graphs.source import DECISIONS_PAGE, History, decisions_of


def event(at: float, name: str, node: str = "", source: str = "provisioner", **extra: Any) -> Event:
    return Event(time=at, source=source, name=name, node=node, pool="web", extra=extra)


def test_a_node_counts_where_it_is_and_no_longer_where_it_was():
    lines = panels_of(
        [
            event(1, "new_node", "a"),
            event(1, "new_node", "b"),
            event(3, "node_ready", "a"),
            event(4, "node_ready_failed", "b"),
            event(5, "drain_started", "a"),
            event(6, "drain_cancelled", "a"),
            event(7, "node_terminating", "a"),
            event(8, "node_terminated", "a"),
        ]
    )[NODES]
    assert lines["web starting"] == [(1, 2), (3, 1), (4, 0), (8, 0)]
    assert lines["web running"] == [(3, 1), (5, 0), (6, 1), (7, 0), (8, 0)]
    assert lines["web draining"] == [(5, 1), (6, 0), (8, 0)]


def test_an_event_that_is_told_twice_and_a_reader_that_comes_late_count_right():
    twice = [event(1, "node_ready", "a"), event(2, "node_ready", "a")]
    assert panels_of(twice)[NODES]["web running"][-1] == (2, 1)
    late = [event(5, "node_terminated", "old"), event(6, "node_ready", "a")]
    assert panels_of(late)[NODES] == {"web running": [(6, 1)]}


def test_what_was_wanted_is_of_the_decisions_said_as_events():
    wanted = [event(t, "decision", source="controller", size=n) for t, n in ((1, 2), (9, 3))]
    assert panels_of(wanted)[NODES]["web wanted"] == [(1, 2), (9, 3)]


def test_the_queue_is_of_the_readings_of_decisions_at_the_time_they_were_measured():
    def decision(at: float, value: Any, age: float) -> dict[str, Any]:
        return {"time": at, "inputs": {"readings": {"queue.q.ready": {"value": value, "age": age}}}}

    lines = panels_of([], [decision(20, 7, 1), decision(10, 5, 0.5), decision(21, 7, 2)])[QUEUE]
    assert lines == {"q.ready": [(9.5, 5), (19, 7)]}
    assert panels_of([], [{"time": 1, "inputs": {}}, decision(2, None, 0)]) == {}


def test_jobs_are_counted_in_hand_and_done_and_a_lost_one_is_not_done():
    lines = panels_of(
        [
            event(1, "job_sent", source="producer", count=3),
            event(2, "job_begin", "a", "worker"),
            event(3, "job_begin", "b", "worker"),
            event(4, "job_end", "a", "worker", outcome="done"),
            event(5, "job_end", "b", "worker", outcome="lost"),
        ]
    )[JOBS]
    assert lines["sent"][-1] == (5, 3) and lines["done"][-1] == (5, 1)
    assert [value for _, value in lines["in hand"]] == [0, 1, 2, 1, 0]


def test_what_a_machine_took_with_it_is_in_nobodys_hand():
    lines = panels_of(
        [
            event(1, "job_begin", "a", "worker"),
            event(2, "job_begin", "b", "worker"),
            event(3, "node_terminated", "a"),
            event(4, "job_end", "b", "worker"),
            event(5, "node_terminated", "b"),
        ]
    )[JOBS]
    assert lines["in hand"] == [(1, 0), (1, 1), (2, 2), (3, 1), (4, 0), (5, 0)]


def test_numbered_and_unnumbered_events_come_in_the_order_of_time():
    first = Event(time=2.0, source="provisioner", sequence=1, name="x", pool="web")
    found = History(events=[first, first, event(1.0, "job_begin", source="worker")])
    assert [one.name for one in found.ordered(None, None)] == ["job_begin", "x"]
    assert found.ordered(None, "other") == [] and len(found.ordered(1.5, "web")) == 1


def test_a_node_that_nobody_ended_is_a_loss_and_one_that_was_ended_is_none():
    lost, ended, failed = (
        Event(time=at, source=source, name=name, node="a", pool="web", reason=reason)
        for at, source, name, reason in (
            (5, "provisioner", "node_terminated", "vanished: the cloud lists it no more"),
            (6, "provisioner", "node_terminated", "the cloud lists it no more"),
            (7, "provisioner", "node_ready_failed", "vanished: of other words"),
        )
    )
    assert losses_of([lost, ended, failed]) == [(5, "node lost")]


def test_the_decisions_of_a_long_life_are_asked_for_page_by_page():
    stored = [{"time": float(at)} for at in range(1, 2 * DECISIONS_PAGE + 8)]

    def call(service: str, method: str, pool: str, since: float, limit: int, **_: Any) -> Any:
        assert (service, method, pool) == ("controller", "decisions", "web")
        return [one for one in stored if one["time"] > since][:limit]

    assert decisions_of(call, "web") == stored


def test_the_decisions_of_an_ended_run_are_in_its_controllers_store(tmp_path: Path):
    history = History()
    history.read_store(None)
    history.read_store(tmp_path)
    assert history.decisions == []
    records = PoolRecords(open_store(tmp_path / "controller.db"))
    for at in range(1, 508):
        records.store_cycle("web", {}, None, {"time": float(at), "pool": "web"}, at)
    history.read_store(tmp_path)
    assert [one["time"] for one in history.decisions] == [float(at) for at in range(1, 508)]
