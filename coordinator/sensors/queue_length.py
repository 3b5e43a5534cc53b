"""How many jobs wait in a queue and how many are in hand.

``ready`` and ``unacknowledged`` both come from the broker's management API, because only it
knows of deliveries that are not acknowledged yet; so do the rates at which messages arrive
and are acknowledged. Its figures are sampled: ``sample``
changes when a figure changed or when more than one statistics interval has passed, so
whoever wants two independent readings can tell. Without the management API only ``ready`` can be
had (a passive declaration), and nothing is said of the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any
from urllib.parse import quote

import requests
from amqp.exceptions import AMQPError, NotFound
from kombu import Connection, Queue
from kombu.exceptions import KombuError

from agent.broker_link import connection_to
from agent.messages import BrokerAccess, SensorReading
from coordinator.errors import RetryLater
from coordinator.management_api import session_for

#: Equal readings are independent of each other when so many statistics intervals apart.
INDEPENDENT_AFTER = 1.5


def reading_names(queue: str) -> tuple[str, ...]:
    """The names of a queue's readings: messages, messages, messages/s, messages/s."""
    return tuple(
        f"queue.{queue}.{part}" for part in ("ready", "unacknowledged", "arrivals", "departures")
    )


@dataclass(frozen=True)
class Figures:
    """What the broker says of a queue; None where it does not say."""

    ready: int
    unacknowledged: int | None = None
    arrivals: float | None = None
    departures: float | None = None

    @property
    def counts(self) -> tuple[int, int | None]:
        return self.ready, self.unacknowledged


@dataclass(frozen=True)
class _Sample:
    """The newest measurement of a queue that is known to be one of its own."""

    number: int
    taken_at: float
    counts: tuple[int, int | None]


class QueueLengthSensor:
    """Reads queues of one virtual host with the coordinator's own account."""

    def __init__(self, access: BrokerAccess, clock: Callable[[], float], timeout: float = 5.0):
        self._access = access
        self._clock = clock
        self._timeout = timeout
        self._http = session_for(access, access.accounts["coordinator"])
        self._independent_after = INDEPENDENT_AFTER * access.statistics_interval
        self._samples: dict[str, _Sample] = {}

    def measure(self, subject: str) -> Sequence[SensorReading]:
        """See ``Sensor.measure``; ``subject`` is the queue's name."""
        if self._access.management_url:
            found = self._by_management(subject)
        else:
            found = self._by_declaration(subject)
        if found is None:
            return ()
        sample = self._sample(subject, found.counts)
        return [
            SensorReading(name=name, value=float(value), age=0.0, sample=sample)
            for name, value in zip(reading_names(subject), astuple(found), strict=True)
            if value is not None
        ]

    def keep_only(self, queues: Container[str]) -> None:
        """Forget the samples of all queues but these."""
        self._samples = {name: one for name, one in self._samples.items() if name in queues}

    def declare(self, queue: str) -> None:
        """Make the durable queue unless it exists. Raises RetryLater."""
        try:
            with self._connection() as connection:
                Queue(queue, durable=True)(connection.default_channel).declare()
        except (OSError, AMQPError, KombuError) as problem:
            raise RetryLater(f"queue '{queue}' can't be declared: {problem}") from None

    def _by_management(self, queue: str) -> Figures | None:
        vhost = quote(self._access.vhost, safe="")
        url = f"{self._access.management_url}/api/queues/{vhost}/{quote(queue, safe='')}"
        try:
            answer = self._http.get(url, timeout=self._timeout)
        except requests.RequestException as problem:
            raise RetryLater(
                f"the broker's management API does not answer: {type(problem).__name__}"
            ) from None
        if answer.status_code == 404:
            return None
        if answer.status_code != 200:
            raise RetryLater(f"the broker's management API answered {answer.status_code}")
        try:
            return _figures(answer.json())
        except ValueError:  # a proxy's page, an answer cut short
            raise RetryLater("the broker's management API answered no queue") from None

    def _by_declaration(self, queue: str) -> Figures | None:
        try:
            with self._connection() as connection:
                bound = Queue(queue)(connection.default_channel)
                return Figures(bound.queue_declare(passive=True).message_count)
        except NotFound:
            return None
        except (OSError, AMQPError, KombuError) as problem:
            raise RetryLater(f"queue '{queue}' can't be read: {problem}") from None

    def _connection(self) -> Connection:
        return connection_to(
            self._access.amqp_url("coordinator"),
            connect_timeout=self._timeout,
            transport_options={"max_retries": 0},
        )

    def _sample(self, queue: str, counts: tuple[int, int | None]) -> str:
        now, last = self._clock(), self._samples.get(queue)
        if last is None:
            self._samples[queue] = _Sample(number=1, taken_at=now, counts=counts)
        elif counts != last.counts or now - last.taken_at >= self._independent_after:
            self._samples[queue] = _Sample(number=last.number + 1, taken_at=now, counts=counts)
        return str(self._samples[queue].number)

    def close(self) -> None:
        self._http.close()


def _figures(content: object) -> Figures | None:
    """The figures of a queue's description; ValueError if it is none.

    A queue that was just declared or recovered has no figures yet: None.
    """
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    ready, unacknowledged = content.get("messages_ready"), content.get("messages_unacknowledged")
    if not isinstance(ready, int | None) or not isinstance(unacknowledged, int | None):
        raise ValueError("figures that are no numbers")
    if ready is None:
        return None
    return Figures(
        ready, unacknowledged, _rate(content, "publish_details"), _rate(content, "ack_details")
    )


def _rate(content: Mapping[str, Any], name: str) -> float | None:
    """A rate of the queue's message statistics; None where the broker has none."""
    statistics = content.get("message_stats")
    details = statistics.get(name) if isinstance(statistics, dict) else None
    rate = details.get("rate") if isinstance(details, dict) else None
    return float(rate) if isinstance(rate, int | float) else None
