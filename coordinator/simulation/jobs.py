"""A work queue and its jobs: ready, in hand, redelivered, done. At least once, as AMQP is."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from agent.messages import BrokerAccess, BrokerAccount
from coordinator.errors import RetryLater
from coordinator.sensors.queue_length import Figures, QueueLengthSensor
from coordinator.simulation.event_queue import EventQueue

#: The broker's statistics of a queue are up to so old, s.
STATISTICS_INTERVAL = 1.0
#: Over so many seconds rates are measured.
_RATES_OVER = 10.0


@dataclass
class Job:
    """``seconds`` of work. ``given`` counts deliveries, ``done`` completions."""

    number: int
    seconds: float
    given: int = 0
    done: int = 0


@dataclass
class JobQueue:
    """One queue. ``in_hand``: job number → the node that has it, unacknowledged."""

    name: str
    queue: EventQueue
    ready: deque[Job] = field(default_factory=deque)
    in_hand: dict[int, tuple[Job, str]] = field(default_factory=dict)
    accepted: int = 0
    finished: int = 0
    redelivered: int = 0
    declared: bool = False
    _changes: deque[tuple[float, int, int, int, int]] = field(default_factory=deque)

    def put(self, seconds: Sequence[float]) -> None:
        """New jobs."""
        for one in seconds:
            self.accepted += 1
            self.ready.append(Job(number=self.accepted, seconds=one))
        self._changed()

    def take(self, node_id: str) -> Job | None:
        """The next job, for this node."""
        if not self.ready:
            return None
        job = self.ready.popleft()
        job.given += 1
        self.in_hand[job.number] = (job, node_id)
        self._changed()
        return job

    def finish(self, job: Job, node_id: str) -> None:
        """The node did the job; the broker takes its word only if it still has the job."""
        job.done += 1
        if self.in_hand.get(job.number, (job, ""))[1] == node_id:
            del self.in_hand[job.number]
            self.finished += 1
            self._changed()

    def give_back(self, node_id: str | None = None) -> int:
        """The broker lost the connection of a node (None: of all): their jobs are ready again."""
        lost = [job for job, who in self.in_hand.values() if node_id in (None, who)]
        for job in reversed(lost):
            del self.in_hand[job.number]
            self.ready.appendleft(job)
            self.redelivered += 1
        if lost:
            self._changed()
        return len(lost)

    def figures(self, age: float) -> Figures:
        """What the broker's statistics, ``age`` seconds old, say."""
        at = self.queue.now - age
        now = self._as_of(at)
        before = self._as_of(at - _RATES_OVER)
        return Figures(
            ready=now[0],
            unacknowledged=now[1],
            arrivals=(now[2] - before[2]) / _RATES_OVER,
            departures=(now[3] - before[3]) / _RATES_OVER,
        )

    def _as_of(self, at: float) -> tuple[int, int, int, int]:
        found = (0, 0, 0, 0)
        for when, *counts in self._changes:
            if when > at:
                break
            found = (counts[0], counts[1], counts[2], counts[3])
        return found

    def _changed(self) -> None:
        now = self.queue.now
        counts = (len(self.ready), len(self.in_hand), self.accepted, self.finished)
        self._changes.append((now, *counts))
        while len(self._changes) > 1 and self._changes[1][0] < now - 3 * _RATES_OVER:
            self._changes.popleft()


class SimulatedQueueSensor(QueueLengthSensor):
    """The production sensor, with simulated queues behind the management API."""

    def __init__(self, queue: EventQueue, queues: Mapping[str, JobQueue]) -> None:
        super().__init__(ACCESS, lambda: queue.now)
        self.away = False
        #: The broker takes its management API with it.
        self.broker_away: Callable[[], bool] = lambda: False
        #: Queue → when it was read last.
        self.read_at: dict[str, float] = {}
        self._queue = queue
        self._queues = queues

    def declare(self, queue: str) -> None:
        """See QueueLengthSensor."""
        if queue in self._queues:
            self._queues[queue].declared = True

    def _by_management(self, queue: str) -> Figures | None:
        if self.away or self.broker_away():
            raise RetryLater("the broker's management API does not answer: simulated")
        found = self._queues.get(queue)
        if found is None or not found.declared:
            return None
        self.read_at[queue] = self._queue.now
        # The broker counts at whole intervals; who asks in between hears of the last one.
        return found.figures(self._queue.now % STATISTICS_INTERVAL)


#: The broker as the coordinator's services know it.
ACCESS = BrokerAccess(
    host="simulated",
    port=1,
    vhost="simulated",
    accounts={"coordinator": BrokerAccount(user="coordinator", password="-")},
    management_url="http://simulated",
    event_exchange=True,
    statistics_interval=STATISTICS_INTERVAL,
    shared=True,
)
