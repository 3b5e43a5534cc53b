"""The simulator's records in memory and the product's in SQL live the same histories."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agent.messages import CommandBatch
from coordinator.controller.records import PoolRecords
from coordinator.provisioner.records import Records
from coordinator.simulation.living import live_seed
from coordinator.simulation.memory_records import MemoryRecords
from coordinator.simulation.watch import Watcher
from coordinator.simulation.world import MemoryStores
from coordinator.store.session import open_store


class Unwatched(MemoryStores):
    """Values in memory; only events are heard, as SQL lets us."""

    def __init__(self, watcher: Watcher) -> None:
        super().__init__(watcher)
        self.records: Records = MemoryRecords()


@pytest.mark.parametrize("seed", [1, 5])
def test_memory_and_sql_live_the_same_history(seed: int) -> None:
    class InSql(MemoryStores):
        def __init__(self, watcher: Watcher) -> None:
            super().__init__(watcher)
            self.records: Records = Records(open_store(":memory:"))
            self.pools: PoolRecords = InSqlPools(watcher.cycled)

    class InSqlPools(PoolRecords):
        def __init__(self, watch: Callable[..., None]) -> None:
            super().__init__(open_store(":memory:"))
            self._watch = watch

        def store_cycle(
            self, pool: str, memory: Any, batch: CommandBatch | None, *rest: Any
        ) -> None:
            before = next(one.memory for one in self.load() if one.name == pool)
            super().store_cycle(pool, memory, batch, *rest)
            after = next(one.memory for one in self.load() if one.name == pool)
            self._watch(pool, before, after, batch, rest[1])

    def quick(stores: Any) -> tuple[tuple[str, ...], str]:
        outcome = live_seed(seed, stores=stores, until=120.0)
        return outcome.broken, outcome.digest

    assert quick(InSql) == quick(Unwatched)
