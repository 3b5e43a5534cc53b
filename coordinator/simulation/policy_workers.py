"""Workers that take messages from one queue, oldest first, one at a time.

Exact for each message: a worker takes the oldest waiting one as soon as it is free. Time
goes on in steps between which no worker comes or goes.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from agent.messages import InstanceState, InstanceView
from coordinator.engines.base import ViewedInstance
from coordinator.simulation.trace_load import Load
from coordinator.simulation.trace_times import Times

#: Seconds over which the rates of a queue are told, and busy shares of workers.
RATE_WINDOW = 30.0
SHARE_WINDOW = 10.0


@dataclass
class Worker:
    """One machine. ``free_at``: when it has done what it holds; ``taken``: seconds of work."""

    number: int
    node_id: str
    wanted_at: float
    ready_at: float
    state: InstanceState = InstanceState.BOOTING
    free_at: float = 0.0
    taken: float = 0.0
    since: float = 0.0
    measured_at: float = 0.0
    measured_busy: float = 0.0
    share: float = 0.0
    #: As an engine sees it while it is idle, and while it is busy, and since when.
    looks: dict[bool, ViewedInstance] = field(default_factory=dict)
    looks_since: float = 0.0
    record: InstanceView | None = None

    def is_busy(self, now: float) -> bool:
        return self.free_at > now

    def busy_share(self, now: float) -> float:
        """The share of the last seconds in which it worked, as a heartbeat would tell it."""
        passed = now - self.measured_at
        if passed >= SHARE_WINDOW:
            busy = self.taken - max(0.0, self.free_at - now)
            self.share = min(1.0, max(0.0, (busy - self.measured_busy) / passed))
            self.measured_at, self.measured_busy = now, busy
        return self.share


class Sight(NamedTuple):
    """Messages ready and in hand, and those that came and were done each second lately.

    None while the rates are unknown.
    """

    ready: float
    in_hand: float
    arrivals: float | None = None
    departures: float | None = None


@dataclass
class Fleet:
    """The machines of one simulation, its queue, and what they did so far."""

    load: Load
    boot_time: Times
    random: Random
    workers: dict[int, Worker] = field(default_factory=dict)
    waits: list[float] = field(default_factory=list)
    launched: int = 0
    ended: int = 0
    machine_seconds: float = 0.0
    _free: list[tuple[float, int]] = field(default_factory=list)
    #: Those that boot or drain, by number: few of many.
    _moving: dict[int, Worker] = field(default_factory=dict)
    _seen: deque[tuple[float, int, int]] = field(default_factory=deque)

    # ------------------------------------------------------------ machines

    @property
    def draining(self) -> list[Worker]:
        """Those that end when they have done what they hold, oldest first."""
        moving = sorted(self._moving.items())
        return [one for _, one in moving if one.state is InstanceState.DRAINING]

    def counts(self) -> tuple[int, int, int]:
        """How many run, boot and drain."""
        moving = len(self._moving)
        states = [one.state for one in self._moving.values()] if moving else []
        draining = states.count(InstanceState.DRAINING)
        return len(self.workers) - moving, moving - draining, draining

    def launch(self, now: float, boots: bool = True) -> None:
        """One more machine; ``boots`` False: it has been running."""
        takes = self.boot_time.draw(self.random)
        worker = Worker(
            number=self.launched,
            node_id=f"simulated-{self.launched:06d}-0",
            wanted_at=now,
            ready_at=now + takes * boots,
        )
        self.launched += 1
        self.workers[worker.number] = worker
        if boots:
            self._moving[worker.number] = worker
        else:
            self._run(worker, now)

    def drain(self, worker: Worker, now: float) -> None:
        """It takes no more; it ends when it has done what it holds. One that boots ends now."""
        if worker.state is InstanceState.RUNNING:
            worker.state, worker.since = InstanceState.DRAINING, now
            self._moving[worker.number] = worker
            self._free = [one for one in self._free if one[1] != worker.number]
            heapq.heapify(self._free)
        else:
            self._end(worker, now)

    def take_back(self, worker: Worker, now: float) -> None:
        """A draining one works on."""
        worker.state, worker.since = InstanceState.RUNNING, now
        del self._moving[worker.number]
        heapq.heappush(self._free, (max(now, worker.free_at), worker.number))

    def next_change(self, now: float) -> float:
        """When the next machine comes up or has drained; infinite when none will."""
        soonest = float("inf")
        for worker in self._moving.values():
            if worker.state is InstanceState.BOOTING:
                soonest = min(soonest, worker.ready_at)
            else:
                soonest = min(soonest, worker.free_at)
        return max(now, soonest)

    def settle(self, now: float) -> bool:
        """Machines whose boot or drain is over by ``now``; whether there were any."""
        if not self._moving:
            return False
        changed = False
        for _, worker in sorted(self._moving.items()):
            if worker.state is InstanceState.BOOTING and worker.ready_at <= now:
                del self._moving[worker.number]
                self._run(worker, now)
                changed = True
            elif worker.state is InstanceState.DRAINING and worker.free_at <= now:
                self._end(worker, now)
                changed = True
        return changed

    def _run(self, worker: Worker, now: float) -> None:
        worker.state, worker.since, worker.free_at = InstanceState.RUNNING, now, now
        worker.measured_at = now
        heapq.heappush(self._free, (now, worker.number))

    def _end(self, worker: Worker, now: float) -> None:
        self.machine_seconds += now - worker.wanted_at
        self.ended += 1
        del self.workers[worker.number], self._moving[worker.number]

    # ------------------------------------------------------------ messages

    def work(self, until: float) -> None:
        """Every message that a free worker takes before ``until``."""
        arrivals, services, waits = self.load.arrivals, self.load.services, self.waits
        free, workers, place = self._free, self.workers, len(self.waits)
        count = len(arrivals)
        while place < count and free:
            arrived = arrivals[place]
            free_at, number = free[0]
            begins = arrived if arrived > free_at else free_at
            if begins >= until:
                return
            ends = begins + services[place]
            heapq.heapreplace(free, (ends, number))
            worker = workers[number]
            worker.free_at = ends
            worker.taken += services[place]
            waits.append(begins - arrived)
            place += 1

    def sight(self, now: float) -> Sight:
        """The queue as the sensors service would see it."""
        load, group = self.load, self.load.group
        if load.queue is not None:
            return Sight(*load.queue_at(now))
        came = bisect_right(load.arrivals, now)
        taken = len(self.waits)
        in_hand = sum([worker.free_at > now for worker in self.workers.values()])
        done = taken - in_hand
        seen = self._seen
        seen.append((now, came, done))
        while len(seen) > 2 and seen[1][0] <= now - RATE_WINDOW:
            seen.popleft()
        then, came_then, done_then = seen[0]
        passed = now - then
        found = float((came - taken) * group), float(in_hand * group)
        if passed <= 0:
            return Sight(*found)
        arrivals = (came - came_then) * group / passed
        return Sight(*found, arrivals, max(0, done - done_then) * group / passed)

    def unserved(self, now: float) -> list[float]:
        """How long those that still wait have waited."""
        came = bisect_right(self.load.arrivals, now)
        return [now - self.load.arrivals[place] for place in range(len(self.waits), came)]
