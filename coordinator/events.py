"""The event log of a component: append, read, and the ``EPU_EVENT {json}`` line."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from agent.messages import Event
from coordinator.store.events import append_events, read_events, trim_events
from coordinator.store.session import Store

log = logging.getLogger("epu.events")

#: How many events a component keeps; older ones are in its log files.
KEPT = 20_000


class EventLog:
    """What one component did and saw, in its own store and its own log file."""

    def __init__(self, store: Store, source: str, run: str, clock: Callable[[], float]) -> None:
        self._store = store
        self._source = source
        self._run = run
        self._clock = clock

    def append(
        self,
        name: str,
        *,
        actor: str = "",
        pool: str = "",
        node: str = "",
        reason: str = "",
        **extra: Any,
    ) -> Event:
        """Store one event now, print its line, give it back with its sequence number."""
        described = {"actor": actor, "pool": pool, "node": node, "reason": reason, "extra": extra}
        return self.append_all([(name, described)])[0]

    def append_all(self, described: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Event]:
        """Store events that happened together, each a name and fields of Event, at once.

        One transaction for all: of a fleet that comes up, a thousand would be ten seconds.
        """
        now = self._clock()
        new = [
            Event(
                **{
                    **fields,
                    "time": now,
                    "source": self._source,
                    "name": name,
                    "actor": fields.get("actor") or self._source,
                    "run": self._run,
                }
            )
            for name, fields in described
        ]
        events = append_events(self._store, new)
        if any(event.sequence % 1000 == 0 for event in events):
            trim_events(self._store, self._source, KEPT)
        for event in events:
            log.info("%s", event_line(event))
        return events

    def read(self, since: int = 0, limit: int = 1000) -> list[Event]:
        """Up to ``limit`` events with a sequence above ``since``, oldest first.

        A negative ``limit`` asks for the newest so many.
        """
        return read_events(self._store, self._source, since, limit)


def event_line(event: Event) -> str:
    """The line of a log file from which ``epu events --file`` reads the event back."""
    return "EPU_EVENT " + json.dumps(asdict(event), sort_keys=True)
