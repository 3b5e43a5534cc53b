"""Pools, unanswered batches and events as values in memory, as ``memory_records``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from agent.messages import CommandBatch, Event
from coordinator.controller.records import PoolRecords, StoredPool
from coordinator.events import EventLog

#: Told of each cycle that is stored: pool, memory before and after, batch, the time.
WatchCycle = Callable[[str, Mapping[str, Any], Mapping[str, Any], CommandBatch | None, float], None]


class MemoryPoolRecords(PoolRecords):
    """``PoolRecords`` without a store; of explained decisions only the newest is kept."""

    def __init__(self, watch: WatchCycle = lambda *_: None) -> None:
        self._watch = watch
        self._pools: dict[str, StoredPool] = {}
        self._pending_batches: dict[str, CommandBatch] = {}
        self._explained: dict[str, dict[str, Any]] = {}
        self._frozen_for: str | None = None

    def frozen(self) -> str | None:
        return self._frozen_for

    def set_frozen(self, reason: str | None) -> None:
        self._frozen_for = reason

    def load(self) -> list[StoredPool]:
        return [self._pools[name] for name in sorted(self._pools)]

    def add(self, name: str, section: Mapping[str, Any], now: float) -> bool:
        if name in self._pools:
            return False
        self._pools[name] = StoredPool(
            name=name, section=dict(section), revision=1, added_at=now, memory={}
        )
        return True

    def change(self, name: str, section: Mapping[str, Any]) -> None:
        known = self._pools[name]
        self._pools[name] = replace(known, section=dict(section), revision=known.revision + 1)

    def remove(self, name: str) -> None:
        for kept in (self._pools, self._pending_batches, self._explained):
            kept.pop(name, None)

    def store_cycle(
        self,
        pool: str,
        memory: Mapping[str, Any] | None,
        batch: CommandBatch | None,
        explanation: Mapping[str, Any] | None,
        now: float,
        recording: str | None = None,
    ) -> None:
        before = self._pools[pool].memory if pool in self._pools else {}
        if memory is not None and pool in self._pools:
            self._pools[pool] = replace(self._pools[pool], memory=dict(memory))
        self._watch(pool, before, self._pools[pool].memory, batch, now)
        if batch is not None:
            self._pending_batches[pool] = batch
        if explanation is not None:
            self._explained[pool] = dict(explanation)

    def pending(self) -> dict[str, CommandBatch]:
        return dict(self._pending_batches)

    def answered(self, batch_id: str) -> None:
        self._pending_batches = {
            pool: batch
            for pool, batch in self._pending_batches.items()
            if batch.batch_id != batch_id
        }

    def explanation_at(self, pool: str, at: float | None = None) -> dict[str, Any] | None:
        return self._explained.get(pool)


class MemoryEvents(EventLog):
    """``EventLog`` that hands each event to whoever watches, and keeps the newest few."""

    def __init__(
        self, source: str, run: str, clock: Callable[[], float], watch: Callable[[Event], None]
    ) -> None:
        self._source = source
        self._run = run
        self._clock = clock
        self._watch = watch
        self._newest: list[Event] = []
        self._appended = 0

    def append_all(self, described: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Event]:
        events = []
        for name, given in described:
            self._appended += 1
            known = {**given, "actor": given.get("actor") or self._source}
            event = Event(
                time=self._clock(),
                source=self._source,
                name=name,
                sequence=self._appended,
                run=self._run,
                **known,
            )
            events.append(event)
            self._watch(event)
        self._newest = [*self._newest, *events][-200:]
        return events

    def read(self, since: int = 0, limit: int = 1000) -> list[Event]:
        if limit < 0:
            return self._newest[limit:]
        return [event for event in self._newest if event.sequence > since][:limit]
