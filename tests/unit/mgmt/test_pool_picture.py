"""What a pool did over time, as lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from mgmt import pool_picture
from mgmt.demo.proofs import Sample
from mgmt.pool_picture import draw_pool, pool_panels


def sample(at: float, *, running: int, ready: int | None = 0) -> Sample:
    return Sample(
        at=at, done=0, ready=ready, unacknowledged=0, running=running, pending=0, draining=0,
        wanted=2, state="STABLE", reason="",
    )  # fmt: skip


def test_a_look_that_could_not_tell_is_a_gap_and_never_a_zero() -> None:
    looks = [sample(1, running=1, ready=5), sample(2, running=1, ready=None)]
    _, queue = pool_panels(looks)
    assert queue.series[0].points == [(1, 5.0)]


def test_what_stays_as_it_is_takes_two_points() -> None:
    looks = [sample(at, running=1) for at in range(100)] + [sample(100, running=2)]
    workers = pool_panels(looks)[0]
    [running] = [one for one in workers.series if one.name == "running"]
    assert running.points == [(0, 1.0), (99, 1.0), (100, 2.0)]


def test_jobs_are_counted_from_when_they_were_sent_to_the_end_of_the_picture() -> None:
    looks = [sample(1, running=1), sample(9, running=1)]
    jobs = pool_panels(looks, sent=[(1.0, 0.0), (2.0, 2.0)], done=[5.0, 3.0])[2]
    assert {one.name: one.points for one in jobs.series} == {
        "sent": [(1.0, 0.0), (2.0, 2.0), (9, 2.0)],
        "done": [(1.0, 0.0), (3.0, 1.0), (5.0, 2.0), (9, 2.0)],
    }


def test_where_nothing_can_draw_the_figures_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_picture, "can_draw", lambda: False)
    drawn = draw_pool(tmp_path / "demo.svg", pool_panels([sample(1, running=3)]), "demo")
    assert drawn == tmp_path / "demo.csv"
    assert "workers,running,1.000,3" in drawn.read_text()
