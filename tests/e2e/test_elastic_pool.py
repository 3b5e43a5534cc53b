"""A pool that follows its queue, by the jobs that were done."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bootlevels.plans.sleeper.producer import job_ids, produce

pytestmark = pytest.mark.e2e

WORKER = "bootlevels.plans.sleeper.worker"
MOST = 3


def section(queue: str, done_file: Path) -> dict[str, Any]:
    """A pool for ``queue``: a worker more above 5 jobs, one fewer below 3."""
    words = [sys.executable, "-m", WORKER, "--queue", queue, "--done-file", str(done_file)]
    return {
        "programs": {"sleeper": {"command": words}},
        "busy_file": "busy",
        "heartbeat_interval": 0.5,
        "drain_timeout": 30,
        "max": MOST,
        "engine": {
            "type": "queue_length",
            "queue": queue,
            "queuelen_high_water": 5,
            "queuelen_low_water": 3,
            "max_instances": MOST,
        },
    }


def done(path: Path) -> Counter[str]:
    """How often each job was done: each line is one time."""
    lines = path.read_text().splitlines() if path.exists() else []
    return Counter(line.split()[0] for line in lines)


def test_the_pool_grows_for_its_jobs_and_shrinks_without_doing_any_twice(
    system: Any, tmp_path: Path
) -> None:
    done_file = tmp_path / "done.txt"
    with system.pool("follows", **section("follows-work", done_file)) as pool:
        queue_there(system, pool)
        jobs = job_ids(30, "job")
        produce(system.access, "follows-work", jobs, 0.4)
        system.wait(lambda: len(pool.nodes()) == MOST, "the pool is at its maximum")
        # Jobs still flow while the pool shrinks, so that some are in hand when a drain begins.
        system.wait(lambda: len(done(done_file)) == len(jobs), "every job was done")
        pool.wait_whole(0)

        assert done(done_file) == Counter(jobs), "nobody was killed, so no job came twice"
        assert len(pool.events("drain_started")) == pool.launched() >= MOST
        assert pool.events("node_ready_failed") == []


def test_the_last_worker_stays_until_the_job_in_its_hands_is_done(
    system: Any, tmp_path: Path
) -> None:
    done_file = tmp_path / "done.txt"
    with system.pool("long-job", **section("long-job-work", done_file)) as pool:
        queue_there(system, pool)
        produce(system.access, "long-job-work", ["long"], 4.0)
        system.wait(lambda: work(pool) == (0, 1), "the job is unacknowledged")
        while not done(done_file):
            assert len(pool.machines()) == 1
            assert pool.events("drain_started") == []
        pool.wait_whole(0)

        assert done(done_file) == Counter(["long"])
        assert pool.launched() == 1


def queue_there(system: Any, pool: Any) -> None:
    """The controller declares a pool's queue, and the sensors read it."""
    system.wait(lambda: work(pool) == (0, 0), "its queue is read")


def work(pool: Any) -> tuple[float | None, float | None]:
    """Jobs ready and unacknowledged, as the controller last saw them."""
    found = pool.status()["readings"]
    counts = {name.rpartition(".")[2]: one["value"] for name, one in found.items()}
    return counts.get("ready"), counts.get("unacknowledged")
