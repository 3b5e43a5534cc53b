"""How many jobs each node has in hand, as the broker sees it: deliveries that a node's consumers
of a work queue have not acknowledged.

Two listings of the management API (consumers, channels) for all nodes of all pools together,
whatever their number. ``InHand`` judges them and is PURE; ``DeliverySensor`` fetches them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import requests

from agent.messages import BrokerAccess
from coordinator.errors import RetryLater
from coordinator.management_api import session_for

_NODE_USER = "node-"
#: A listing is good for so many polls.
GOOD_FOR_POLLS = 3
_CONSUMER_COLUMNS = "consumer_tag,queue.name,channel_details.name,channel_details.user"
_CHANNEL_COLUMNS = "name,messages_unacknowledged"


@dataclass(frozen=True, kw_only=True)
class Business:
    """Of one node: ``jobs`` in hand, None when that is not known (``problem`` says why);
    ``since``: when it became busy, or idle, on the reader's clock.
    """

    jobs: int | None
    since: float
    problem: str = ""

    @property
    def busy(self) -> bool | None:
        return None if self.jobs is None else self.jobs > 0


class InHand:
    """Remembers which channel is whose: a worker that drains has left the list of consumers
    while its last job is still in its hands.
    """

    def __init__(self) -> None:
        #: Channel → node, queue.
        self._channels: dict[str, tuple[str, str]] = {}
        self._nodes: dict[tuple[str, str], Business] = {}
        self.taken_at: float | None = None

    def take(
        self,
        consumers: Iterable[Mapping[str, Any]],
        channels: Iterable[Mapping[str, Any]],
        queues: Collection[str],
        now: float,
    ) -> None:
        """The two listings, in the order in which they were fetched: consumers first."""
        counts = {str(one.get("name")): one.get("messages_unacknowledged") for one in channels}
        for consumer in consumers:
            queue = _part(consumer, "queue", "name")
            node = _node_of(consumer)
            if node and queue in queues:
                self._channels[_part(consumer, "channel_details", "name")] = (node, queue)
        self._channels = {name: one for name, one in self._channels.items() if name in counts}
        jobs: dict[tuple[str, str], int | None] = {}
        for name, node_and_queue in self._channels.items():
            count, before = counts[name], jobs.get(node_and_queue, 0)
            if before is not None and isinstance(count, int):
                jobs[node_and_queue] = before + count
            else:
                jobs[node_and_queue] = None
        self._nodes = {
            place: _after(self._nodes.get(place), count, now) for place, count in jobs.items()
        }
        self.taken_at = now

    def of(self, node_id: str, queue: str, now: float, good_for: float) -> Business:
        """What is known of one node now. A listing older than ``good_for`` s says nothing."""
        if self.taken_at is None or now - self.taken_at > good_for:
            return Business(jobs=None, since=now, problem="the broker's listing is not known")
        found = self._nodes.get((node_id, queue))
        if found is None:
            return Business(jobs=None, since=now, problem=f"it has no consumer of '{queue}'")
        return found


def _after(before: Business | None, jobs: int | None, now: float) -> Business:
    problem = "" if jobs is not None else "the broker has no figures of its consumer yet"
    found = Business(jobs=jobs, since=now, problem=problem)
    if before is not None and before.busy is found.busy:
        return Business(jobs=jobs, since=before.since, problem=problem)
    return found


def _node_of(consumer: Mapping[str, Any]) -> str:
    """By its account; where all share one, by a consumer tag that begins ``<node id>.``"""
    user = _part(consumer, "channel_details", "user")
    if user.startswith(_NODE_USER):
        return user.removeprefix(_NODE_USER)
    node, dot, _ = str(consumer.get("consumer_tag", "")).partition(".")
    return node if dot else ""


def _part(consumer: Mapping[str, Any], section: str, name: str) -> str:
    found = consumer.get(section)
    return str(found.get(name, "")) if isinstance(found, Mapping) else ""


class DeliverySensor:
    """Fetches the listings with the coordinator's own account."""

    def __init__(
        self, access: BrokerAccess, clock: Callable[[], float], timeout: float = 5.0
    ) -> None:
        self._access = access
        self._clock = clock
        self._timeout = timeout
        self._http = session_for(access, access.accounts["coordinator"])
        self._in_hand = InHand()

    def measure(self, queues: Collection[str]) -> None:
        """Fetch both listings anew. Raises RetryLater."""
        if not self._access.management_url:
            raise RetryLater("the broker has no management API that could tell who is busy")
        vhost = quote(self._access.vhost, safe="")
        consumers = self._list(f"consumers/{vhost}", _CONSUMER_COLUMNS)
        channels = self._list(f"vhosts/{vhost}/channels", _CHANNEL_COLUMNS)
        self._in_hand.take(consumers, channels, queues, self._clock())

    def business(self, node_id: str, queue: str, now: float, poll_interval: float) -> Business:
        """See InHand.of."""
        good_for = GOOD_FOR_POLLS * max(poll_interval, self._access.statistics_interval)
        return self._in_hand.of(node_id, queue, now, good_for)

    def _list(self, path: str, columns: str) -> list[Mapping[str, Any]]:
        url = f"{self._access.management_url}/api/{path}"
        try:
            answer = self._http.get(url, params={"columns": columns}, timeout=self._timeout)
            found = answer.json() if answer.status_code == 200 else None
        except (requests.RequestException, ValueError) as problem:
            raise RetryLater(
                f"the broker's management API does not answer: {type(problem).__name__}"
            ) from None
        if not isinstance(found, list):
            raise RetryLater(f"the broker's management API answered {answer.status_code}")
        return [one for one in found if isinstance(one, dict)]
