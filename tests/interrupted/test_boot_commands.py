"""What the boot tool's commands do to machines, in simulated time."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from bootlevels import runner
from bootlevels.api import Run
from bootlevels.run_history import clean, history_of, kill_machines
from tests.interrupted.boot_tool import PLAN, SERVICES, Life, Points, SimulatedTime, broken, whole


def test_a_machine_that_died_is_replaced_and_whoever_was_launched_with_its_address(
    tmp_path: Path, time: SimulatedTime, points: Points
) -> None:
    life = Life(tmp_path / "life", time, points, 1.0)
    broken(life)
    assert not life.run.status().ok
    outcome = life.repair()
    assert outcome.repaired == ("db", "web")
    whole(life)
    assert len(life.cloud.history) == len(SERVICES) + 2


def test_a_status_ends_no_machine(tmp_path: Path, time: SimulatedTime, points: Points) -> None:
    life = Life(tmp_path / "life", time, points, 0.0)
    broken(life)
    life.cloud.calls.clear()
    before = points.seen
    assert not life.run.status().ok
    assert set(life.cloud.calls) == {"list_instances"}
    assert points.seen == before + len(life.cloud.calls), "the record was written"


def test_early_machines_are_asked_for_unless_they_need_a_lower_level(
    tmp_path: Path, time: SimulatedTime, points: Points
) -> None:
    life = Life(tmp_path / "life", time, points, 0.0)
    assert life.boot_early().ok
    order = [machine.request.pool for machine in life.cloud.history]
    assert order.index("spare") == 0, "what can be early is early"
    assert order.index("web") == 3, "what refers to a lower level's attribute never is"


def test_what_was_started_early_for_nothing_is_listed_and_cleaned(
    tmp_path: Path, time: SimulatedTime, points: Points
) -> None:
    life = Life(tmp_path / "life", time, points, 0.0)
    text = textwrap.dedent(PLAN).replace(
        "db: {cloud: there, transport: none}", "db: {local: true, boot: {run: 'false'}}"
    )
    life.plan.write_text(text.replace("${db.private_ip}", "${store.private_ip}"))
    outcome = life.boot_early()
    assert not outcome.ok
    assert outcome.idle == ("spare",)
    assert life.alive == ["spare", "store"]
    (ended,) = clean(life.run, stop=life.stop)
    assert ended.what == "early machine of spare"
    assert life.alive == ["store"]
    assert life.terminate().ok
    assert life.alive == []


def test_the_history_lists_every_machine_and_kills_them(
    tmp_path: Path, time: SimulatedTime, points: Points
) -> None:
    life = Life(tmp_path / "life", time, points, 1.0)
    broken(life)
    assert life.repair().ok
    listed = [past for past in history_of(life.run) if past.kind == "machine"]
    assert len(listed) == len(SERVICES) + 2
    assert sorted(p.service for p in listed if p.state == "GONE") == ["db", "web"]
    ended = kill_machines(life.run, life.stop)
    assert len(ended) == len(SERVICES)
    assert life.alive == []
    assert life.repair().ok, "what was killed is replaced"
    whole(life)


def test_an_interrupted_boot_can_be_ended_though_a_machine_was_never_listed(
    tmp_path: Path, time: SimulatedTime, points: Points
) -> None:
    life = Life(tmp_path / "life", time, points, 30.0)
    stop = life.stop
    cloud = life.cloud
    launch = cloud.launch

    def launch_and_interrupt(request: Any) -> None:
        launch(request)
        stop.set()

    cloud.launch = launch_and_interrupt  # type: ignore[method-assign]
    run = life._with_drivers(Run.prepare(life.plan, home=life.home))
    with pytest.raises(runner.Interrupted):
        run.boot(stop=stop)
    cloud.launch = launch  # type: ignore[method-assign]
    assert life.alive
    assert life.terminate().ok
    assert life.alive == []
