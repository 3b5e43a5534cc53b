"""A large simulated fleet: what its coordinator costs, and how soon it reacts.

``python -m benchmarks.simulated_fleet [--nodes 1000] [--memory] [--minutes 20]``. Controller,
provisioner and aggregator are the real ones over real stores (``--memory``: values in memory);
nodes, clouds, bus and jobs are simulated, and so is the time in which the fleet lives: bring-up,
rest with 1,000 beats a second (10,000 nodes: one each 10 s), a tenth of all machines gone at
once, a queue that fills and empties, a teardown. Of each part of the coordinator its own
processor time is told (answering calls included, and the serialising in between; a real bus
costs more), of each phase the simulated seconds until it was over, and the API calls. Exit code
1: a phase did not come to its end, or there was not time enough.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.messages import InstanceState
from coordinator.controller.records import PoolRecords
from coordinator.events import EventLog
from coordinator.provisioner.records import Records
from coordinator.simulation.history import CloudPlan, History, PoolPlan
from coordinator.simulation.watch import Watcher
from coordinator.simulation.world import MemoryStores, World
from coordinator.store.session import open_store

POOL, QUEUE, CLOUD = "fleet", "jobs-fleet", "north"
#: What each part does: methods of its production object.
PARTS = {
    "controller": ("cycle",),
    "provisioner": (
        "reconcile", "drain_step", "apply", "snapshots", "instances", "presence_lost",
        "node_for_enrolment", "node_enrolled", "node_ready", "terminate_all",
    ),
    "sensors": ("take_heartbeat", "take_broker_event", "reports", "witness", "poll_queues"),
}  # fmt: skip
#: A job of the square wave, s; a queue that fills is served in so long.
JOB = 60.0


class Meter:
    """Processor time by part, of a stack of calls each its own: (seconds, calls)."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = {}
        self._stack: list[str] = []
        self._since = 0.0

    def watch(self, part: str, target: Any, method: str) -> None:
        """Count what ``method`` of ``target`` takes."""
        original = getattr(target, method)
        name = f"{part}.{method}"

        def timed(*args: Any, **options: Any) -> Any:
            self._switch(name)
            self.spent.setdefault(name, [0.0, 0.0])[1] += 1
            try:
                return original(*args, **options)
            finally:
                self._switch(None)

        setattr(target, method, timed)

    def aside(self, queue: Any) -> None:
        """What happens while somebody waits is nobody's."""
        original = queue.wait

        def waiting(seconds: float) -> None:
            self._switch("")
            try:
                original(seconds)
            finally:
                self._switch(None)

        queue.wait = waiting

    def _switch(self, entered: str | None) -> None:
        now = time.process_time()
        if self._stack:
            self.spent.setdefault(self._stack[-1], [0.0, 0.0])[0] += now - self._since
        if entered is None:
            self._stack.pop()
        else:
            self._stack.append(entered)
        self._since = now

    def taken(self) -> dict[str, tuple[float, float]]:
        """What was counted since the last time."""
        found = {name: (one[0], one[1]) for name, one in self.spent.items() if name}
        self.spent.clear()
        return found


class SqlStores(MemoryStores):
    """The stores of a real coordinator; nobody watches them."""

    def __init__(self, directory: str, watcher: Watcher) -> None:
        super().__init__(watcher)
        self.records: Records = Records(open_store(Path(directory) / "provisioner.db"))
        self.pools: PoolRecords = PoolRecords(open_store(Path(directory) / "controller.db"))
        self._events = open_store(Path(directory) / "events.db")

    def events(self, source: str, clock: Callable[[], float]) -> EventLog:
        """As MemoryStores.events."""
        return EventLog(self._events, source, "simulated", clock)


class Fleet:
    """A world of so many nodes, with a meter, and phases that end when they are over."""

    def __init__(self, nodes: int, stores: Callable[[Watcher], Any], give_up_at: float) -> None:
        self.nodes = nodes
        self.meter = Meter()
        self.late = False
        self._give_up_at = give_up_at
        self.world = World(_history(nodes), stores=stores)
        self.world.queue.after_each = lambda label: None  # invariants are the tests' business
        self.world.watcher.say = lambda line: None  # type: ignore[method-assign]
        self.meter.aside(self.world.queue)
        for process in self.world.coordinator.processes().values():
            for method in PARTS[process.name]:
                self.meter.watch(process.name, process.part, method)
        self._calls = self.world.clouds[CLOUD].world.calls

    def phase(self, name: str, over: Callable[[], bool], within: float, step: float = 1.0) -> None:
        """Live until it is over, at most so many simulated seconds, and tell what that took."""
        began, cpu, wall = self.world.now, time.process_time(), time.monotonic()
        del self._calls[:]
        self.meter.taken()
        ended = False
        while not ended and self.world.now - began < within:
            self.world.run_until(self.world.now + step)
            ended = over()
            if time.monotonic() > self._give_up_at:
                break
        self.late |= not ended
        took = self.world.now - began
        print(f"\n{name}: {'' if ended else 'NOT '}over after {took:.0f} simulated s")
        here, cpu = time.monotonic() - wall, time.process_time() - cpu
        print(f"  {here:.0f} s here, {cpu:.0f} s of CPU, the simulation's own with it")
        calls = {call: self._calls.count(call) for call in sorted(set(self._calls))}
        print(f"  API calls {calls}; {_megabytes():.0f} MB at most so far")
        for part, (seconds, count) in sorted(self.meter.taken().items()):
            if seconds >= 0.005 * max(1.0, took):
                each = seconds / max(1.0, count) * 1000
                print(f"  {part:<28}{seconds / took * 100:6.1f} % of a core  "
                      f"{count:8.0f} calls of {each:8.2f} ms", flush=True)  # fmt: skip
        sys.stdout.flush()
        if time.monotonic() > self._give_up_at:
            sys.exit("no time is left (--minutes): the phases after this one were not lived")

    @property
    def running(self) -> int:
        """How many records are RUNNING."""
        counts: dict[str, int] = self.world.coordinator.records.count_states()
        return counts.get(InstanceState.RUNNING.value, 0)

    @property
    def alive(self) -> int:
        """How many machines of ours run."""
        return sum(agent.alive for agent in self.world.machines.values())

    def lose(self, count: int) -> None:
        """So many machines are gone in one moment; the broker notices at once."""
        for agent in self.world.running(POOL)[:count]:
            self.world.vanish(agent, 0.1)

    def work(self) -> None:
        """A job for every node arrives."""
        self.world.jobs[QUEUE].put([JOB] * self.nodes)
        for agent in self.world.running(POOL):
            agent.work()

    def reconfigure(self, **changes: Any) -> None:
        """An operator changes the pool."""
        self.world.coordinator.controller.part.reconfigure(POOL, changes)


def _history(nodes: int) -> History:
    section = {
        "programs": {"worker": {"command": ["work"]}},
        "busy_file": "busy",
        "heartbeat_interval": max(1, nodes // 1000),
        "work_queues": [QUEUE],
        "max": nodes,
        "max_surge": max(1, nodes // 10),
        "engine": {"type": "n_preserving", "preserve_n": nodes},
    }
    cloud = CloudPlan(
        name=CLOUD,
        settings={"lag": 3.0, "batch_limit": 100},
        window=3.0,
        boots_in=(20.0, 40.0),
    )
    return History(
        seed=1,
        pools=(PoolPlan(name=POOL, section=section, queue=QUEUE),),
        clouds=(cloud,),
        cycle_interval=1.0,
        queue_poll_interval=1.0,
        listing_interval=5.0,
    )


def _megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _live(fleet: Fleet) -> None:
    nodes = fleet.nodes
    fleet.phase(f"bring-up of {nodes}", lambda: fleet.running == nodes, 1800.0)
    rested = fleet.world.now
    fleet.phase("rest", lambda: fleet.world.now >= rested + 60.0, 61.0)
    lost = nodes // 10
    fleet.lose(lost)
    fleet.phase(f"{lost} are gone: noticed", lambda: fleet.running == nodes - lost, 600.0, 0.2)
    fleet.phase("and replaced", lambda: fleet.running == nodes, 1800.0)
    engine = {"type": "target_tracking", "queue": QUEUE, "target": 1}
    fleet.reconfigure(engine=engine)
    fleet.phase("no work: down to none", lambda: fleet.alive == 0, 900.0)
    fleet.work()
    fleet.phase(f"{nodes} jobs: up", lambda: fleet.running >= nodes * 0.9, 900.0)
    fleet.phase("done: down again", lambda: fleet.alive == 0, 1800.0)
    fleet.reconfigure(engine={"type": "n_preserving", "preserve_n": nodes})
    fleet.phase("up once more", lambda: fleet.running == nodes, 1800.0)
    fleet.world.coordinator.controller.part.freeze("teardown")
    fleet.world.coordinator.provisioner.part.terminate_all(False, 30.0)
    done = fleet.world.coordinator.provisioner.part.progress
    fleet.phase("teardown", lambda: bool(done()["done"]) and fleet.alive == 0, 600.0)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--memory", action="store_true", help="stores in memory, not in SQL files")
    parser.add_argument("--minutes", type=float, default=20.0, help="give up after (default 20)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="epu-bench-") as directory:
        give_up_at = time.monotonic() + options.minutes * 60

        def stores(watcher: Watcher) -> Any:
            return MemoryStores(watcher) if options.memory else SqlStores(directory, watcher)

        fleet = Fleet(options.nodes, stores, give_up_at)
        _live(fleet)
    sys.exit(1 if fleet.late else 0)


if __name__ == "__main__":
    main()
