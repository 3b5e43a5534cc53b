"""Who goes first, and who comes back first."""

from __future__ import annotations

from agent.messages import InstanceState as S
from agent.messages import InstanceView, NodeSigns
from coordinator.controller.victims import taken_back, victims


def worker(name, *, state=S.RUNNING, wanted_at=0.0, since=0.0, **changes):
    values = {"template": "t", **changes}
    return InstanceView(
        node_id=name,
        launch_id=name,
        index=0,
        pool="p",
        cloud="c",
        state=state,
        wanted_at=wanted_at,
        state_since=since,
        **values,
    )


def order(workers, signs=(), preferred=(), count=None):
    chosen = victims(
        workers,
        len(workers) if count is None else count,
        preferred=preferred,
        signs={one.node_id: one for one in signs},
        template="t",
    )
    return [one.node_id for one in chosen]


def test_each_rule_beats_all_rules_after_it():
    workers = [
        worker("oldest", wanted_at=1),
        worker("old-template", wanted_at=2, template="before"),
        worker("least-busy", wanted_at=3),
        worker("idle", wanted_at=4),
        worker("wished", wanted_at=5),
        worker("booting", wanted_at=6, state=S.BOOTING),
        worker("youngest", wanted_at=7),
    ]
    load = {"oldest": 50.0, "old-template": 50.0, "least-busy": 10.0, "wished": 90.0}
    signs = [
        NodeSigns(
            node_id=one.node_id,
            busy=one.node_id != "idle",
            figures={"cpu_percent": load.get(one.node_id, 50.0)},
        )
        for one in workers
    ]
    assert order(workers, signs, ["wished"]) == [
        "booting",
        "wished",
        "idle",
        "least-busy",
        "old-template",
        "oldest",
        "youngest",
    ]


def test_a_worker_that_says_nothing_goes_before_a_busy_one():
    busy = NodeSigns(node_id="a", busy=True)
    assert order([worker("a"), worker("b")], [busy]) == ["b", "a"]


def test_protected_workers_never_go():
    assert order([worker("a", protected=True), worker("b")]) == ["b"]
    assert order([worker("a", protected=True)]) == []


def test_exactly_as_many_go_as_asked():
    workers = [worker(str(i)) for i in range(5)]
    assert len(order(workers, count=1)) == 1
    assert order(workers, count=-3) == []


def test_equal_workers_go_in_the_same_order_whatever_the_order_of_the_records():
    workers = [worker(name) for name in "cab"]
    assert order(workers) == order(workers[::-1]) == ["a", "b", "c"]


def test_the_one_that_drains_shortest_comes_back_first():
    draining = [worker("long", since=1.0), worker("short", since=9.0)]
    assert [one.node_id for one in taken_back(draining, 1)] == ["short"]


def test_of_busy_workers_the_one_with_the_fewest_jobs_then_the_shortest_busy_goes_first():
    workers = [worker(name) for name in ("two", "long", "short", "unknown", "idle")]
    signs = [
        NodeSigns(node_id="two", busy=True, jobs=2, busy_for=1.0),
        NodeSigns(node_id="long", busy=True, jobs=1, busy_for=900.0),
        NodeSigns(node_id="short", busy=True, jobs=1, busy_for=3.0),
        NodeSigns(node_id="unknown", busy_problem="its busy program hangs", busy_for=0.0),
        NodeSigns(node_id="idle", busy=False, jobs=0, busy_for=1.0),
    ]
    assert order(workers, signs) == ["idle", "short", "long", "unknown", "two"]


def test_a_worker_whose_source_failed_is_never_taken_for_idle_nor_for_one_without_a_source():
    failed = NodeSigns(node_id="a", busy_problem="no answer")
    assert order([worker("a"), worker("b"), worker("c")], [failed]) == ["b", "c", "a"]
