"""What the provisioner costs with many records: ``python -m benchmarks.provisioner``.

In one process, on an in_memory cloud and a store in a file. Ratios are to the smallest
fleet (per record they should stay near 1: nothing grows faster than the fleet).
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.messages import (
    CommandBatch,
    LaunchInstances,
    NodeRole,
    ProgramSpec,
    ReadyReport,
    TerminateInstance,
)
from agent.wire import to_wire
from coordinator.clouds.in_memory import InMemoryCloud, InMemorySettings
from coordinator.config import CoordinatorConfig
from coordinator.events import EventLog
from coordinator.provisioner.launcher import Launcher
from coordinator.provisioner.provisioner import Provisioner
from coordinator.store.session import open_store
from userdata_templates.render import render

POOL = "fleet"
BATCH = 100


class Fleet:
    """A provisioner with ``size`` workers, and a clock that is turned."""

    def __init__(self, directory: Path, size: int) -> None:
        self.now = 1_000_000.0
        self.size = size
        self.batches = 0
        self.cloud = InMemoryCloud(InMemorySettings(lag=0.0, price=0.1), lambda: self.now)
        store = open_store(directory / "provisioner.db")
        access = {"host": "127.0.0.1", "port": 5672, "vhost": "epu", "accounts": {}}
        self.part = Provisioner(
            store,
            {"cloud": self.cloud},
            EventLog(store, "provisioner", "run", lambda: self.now),
            CoordinatorConfig(run="run", accounts="", state_dir=str(directory)),
            Launcher("run", b"key", access, render),
            lambda *_, **__: None,
            lambda: self.now,
        )

    def apply(self, *commands: Any) -> None:
        self.batches += 1
        snapshot = self.part.instances(POOL, self.part._records.pools().get(POOL, (0, 0))[0])
        batch = CommandBatch(
            batch_id=f"batch-{self.batches}",
            pool=POOL,
            based_on=snapshot.version,
            epoch=snapshot.epoch,
            launches=tuple(c for c in commands if isinstance(c, LaunchInstances)),
            terminations=tuple(c for c in commands if isinstance(c, TerminateInstance)),
        )
        assert self.part.apply(batch).outcome == "applied"

    def launch(self, prefix: str, count: int) -> None:
        role = NodeRole(programs={"worker": ProgramSpec(command=("work",) * 5)}, work_queues=("q",))
        self.apply(
            *[
                LaunchInstances(
                    command_id=f"c-{prefix}{start}",
                    launch_id=f"{prefix}{start}",
                    count=min(BATCH, count - start),
                    cloud="cloud",
                    template="worker",
                    reason="wanted",
                    role=role,
                )
                for start in range(0, count, BATCH)
            ]
        )

    def settle(self) -> None:
        """Passes until nothing is due now."""
        for _ in range(20):
            self.now += 0.01
            due = self.part.due()
            if not due:
                return
            for cloud in due:
                self.part.reconcile(cloud)

    def ready(self) -> None:
        for machine in self.cloud.machines:
            node_id = f"{machine.request.launch_id}-{machine.index}"
            self.part.node_enrolled(node_id, [])
            self.part.node_ready(ReadyReport(node_id=node_id, ok=True))


def timed(work: Callable[[], Any], times: int = 1) -> float:
    """The median of so many runs, s of CPU."""
    spent = []
    for _ in range(times):
        began = time.process_time()
        work()
        spent.append(time.process_time() - began)
    return statistics.median(spent)


def measure(size: int) -> dict[str, float]:
    """Seconds of CPU of each thing that a provisioner of ``size`` workers does."""
    with tempfile.TemporaryDirectory() as directory:
        fleet = Fleet(Path(directory), size)
        found = {"apply a launch of all": timed(lambda: fleet.launch("a", size))}
        found["launch and list all"] = timed(fleet.settle)
        assert len(fleet.cloud.machines) == size
        found["enrol and ready, all"] = timed(fleet.ready)
        fleet.settle()

        def idle_pass() -> None:
            fleet.now += 6
            assert "cloud" in fleet.part.due()
            fleet.part.reconcile("cloud")

        found["a pass, nothing new"] = timed(idle_pass, 5)
        version = fleet.part.instances(POOL, 0).version
        found["a delta, nothing new"] = timed(lambda: fleet.part.snapshots({POOL: version}), 5)
        found["a first snapshot"] = timed(lambda: to_wire(fleet.part.instances(POOL, 0)))
        found["status"] = timed(fleet.part.status, 3)
        found["live nodes"] = timed(fleet.part.live_nodes, 3)
        found["a drain tick, none"] = timed(fleet.part.drain_step, 3)
        numbers = iter(range(100))

        def one_more() -> None:
            made = len(fleet.cloud.history)
            fleet.launch(f"one{next(numbers)}-", 1)
            while len(fleet.cloud.history) == made:
                fleet.now += 0.01
                fleet.part.reconcile("cloud")

        found["command -> launch call"] = timed(one_more, 5)
        fleet.settle()
        nodes = [f"{m.request.launch_id}-{m.index}" for m in fleet.cloud.machines[: size // 10]]
        ends = [TerminateInstance(command_id=n, node_id=n, reason="fewer") for n in nodes]

        def end_some() -> None:
            fleet.apply(*ends)
            fleet.now += 1
            fleet.settle()

        found["terminate a tenth"] = timed(end_some)
    return found


def main() -> None:
    """Measure fleets of the sizes given and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="*", type=int, default=[100, 1000, 10_000])
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    results = {size: measure(size) for size in given.sizes}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if given.json:
        print(json.dumps({"seconds": results, "peak_mb": peak}))
        return
    first = given.sizes[0]
    print(f"{'ms of CPU with … workers':<26}" + "".join(f"{size:>22}" for size in given.sizes))
    for name, base in results[first].items():
        row = f"{name:<26}"
        for size in given.sizes:
            seconds = results[size][name]
            ratio = (seconds / size) / (base / first)
            row += f"{seconds * 1000:>13.1f} ({ratio:>5.2f})"
        print(row)
    print(f"in brackets: per worker, as a ratio to {first} workers; peak memory {peak:.0f} MB")


if __name__ == "__main__":
    main()
