"""A pool that follows its queue, by the jobs that were done."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bootlevels.plans.sleeper.producer import job_ids, produce
from coordinator.simulation.replay_decisions import Replayer
from coordinator.simulation.replay_source import recordings_in
from coordinator.simulation.trace_recorded import trace_of_recordings

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


@dataclass
class Sawtooth:
    """Jobs that come in bursts: many short ones, and behind them some that take long."""

    system: Any
    pool: Any
    queue: str
    done_file: Path
    sent: list[str] = field(default_factory=list)

    def send(self, count: int, seconds: float) -> None:
        ids = job_ids(count, f"job-{len(self.sent)}")
        produce(self.system.access, self.queue, ids, seconds)
        self.sent += ids

    def rise(self) -> None:
        """Short jobs until the pool is at its maximum, however long its workers take to boot."""

        def grown() -> bool:
            if len(self.pool.nodes()) == MOST:
                return True
            if (work(self.pool)[0] or 0) < 10:
                self.send(10, 0.1)
            return False

        self.system.wait(grown, "the pool is at its maximum", 90, pause=0.5)

    def fall(self, long: int) -> None:
        """Jobs that are in hand when the queue has been emptied, until somebody drains."""
        self.send(long, 4.0)
        self.system.wait(lambda: self.pool.nodes("DRAINING"), "somebody drains", 90)

    def rise_in_mid_fall(self) -> None:
        """More jobs while somebody drains, until one who drains is taken back."""

        def taken_back() -> bool:
            if self.pool.events("drain_cancelled"):
                return True
            if (work(self.pool)[0] or 0) == 0:
                self.send(8, 0.2)
                self.send(2, 4.0)
            return False

        self.system.wait(taken_back, "one who drains is taken back", 90, pause=0.5)

    def end(self) -> None:
        """All jobs done, all workers gone; each job once, and none ever given back."""
        all_done = lambda: len(done(self.done_file)) == len(self.sent)  # noqa: E731
        self.system.wait(all_done, "every job was done", 90)
        self.pool.wait_whole(0, 90)
        assert done(self.done_file) == Counter(self.sent), "jobs sent = jobs done, each once"
        begun = [one["extra"] for one in told(self.system, self.pool) if one["name"] == "job_begin"]
        assert sorted(one["job"] for one in begun) == sorted(self.sent)
        assert not [one for one in begun if one["redelivered"]], "scale-in gave no job back"
        assert self.pool.events("node_ready_failed") == []


def told(system: Any, pool: Any) -> list[dict[str, Any]]:
    """The events that the pool's workers wrote into their logs, of machines that are gone too."""
    lines: list[str] = []
    for log in system.cloud.root.glob(f"{pool.name}-*/logs/sleeper.log*"):
        lines += log.read_text().splitlines()
    mark = "EPU_EVENT "
    return [json.loads(line.removeprefix(mark)) for line in lines if line.startswith(mark)]


def by_broker(queue: str, done_file: Path) -> dict[str, Any]:
    """The same pool, whose busy workers the broker tells."""
    found = section(queue, done_file)
    del found["busy_file"]
    return {**found, "busy": {"queue": queue}, "drain_timeout": 60}


def recorded_well(store: Path, pool: str) -> None:
    """What was decided is decided so again, and is a load to try other policies on."""
    rows = [row for _, row in recordings_in(store, pool, None) if row["recording"] is not None]
    replayer = Replayer()
    again = [replayer.replay(pool, row["at"], row["recording"]) for row in rows]
    assert len(again) > MOST and not [one for one in again if not one.is_same]
    trace = trace_of_recordings(rows, pool)
    assert trace.kind == "rates" and not trace.needs_service
    assert sum(value or 0.0 for value in trace.values) > 10, "the bursts are in it"


@pytest.mark.timeout(300)
def test_jobs_that_come_in_waves_are_done_once_each_and_scale_in_gives_none_back(
    system: Any, tmp_path: Path
) -> None:
    done_file = tmp_path / "done.txt"
    with system.pool("waves", **by_broker("waves-work", done_file)) as pool:
        queue_there(system, pool)
        saw = Sawtooth(system, pool, "waves-work", done_file)
        saw.rise()
        saw.fall(3)
        saw.rise_in_mid_fall()
        saw.end()
        assert len(pool.events("drain_started")) >= MOST
        recorded_well(system.state_dir / "controller.db", pool.name)


@pytest.mark.soak
def test_many_waves_give_no_job_back(system: Any, tmp_path: Path) -> None:
    done_file = tmp_path / "done.txt"
    with system.pool("ocean", **by_broker("ocean-work", done_file)) as pool:
        queue_there(system, pool)
        saw = Sawtooth(system, pool, "ocean-work", done_file)
        for wave in range(15):
            saw.rise()
            saw.fall(1 + wave % 4)
        saw.end()


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
