"""What operators order of one pool beside its settings: resume, rollout. Stored at once."""

from __future__ import annotations

from dataclasses import replace

from coordinator.controller.kept_pool import KeptPool
from coordinator.controller.pool import PoolMemory, memory_to_dict, released
from coordinator.controller.records import PoolRecords
from coordinator.controller.rollout_memory import Rollout, RolloutState
from coordinator.errors import ConfigProblem, Problem
from coordinator.events import EventLog


def release_brake(pool: KeptPool, records: PoolRecords, events: EventLog, now: float) -> None:
    """Nobody counts as unhealthy before now: the brake begins anew."""
    if _store(pool, released(pool.memory), records, now):
        name = pool.stored.name
        events.append("brake", pool=name, reason="released by an operator", level="NORMAL")


def order_rollout(
    pool: KeptPool,
    action: str,
    max_surge: int | None,
    records: PoolRecords,
    events: EventLog,
    now: float,
) -> None:
    """``action``: start or stop. Raises ConfigProblem for another, or what can't be."""
    if action == "start":
        _start_rollout(pool, max_surge, records, events, now)
    elif action == "stop":
        _stop_rollout(pool, records, events, now)
    else:
        what = f"must be start or stop, not '{action}'"
        raise ConfigProblem([Problem(key="action", what=what)])


def _start_rollout(
    pool: KeptPool, max_surge: int | None, records: PoolRecords, events: EventLog, now: float
) -> None:
    """Replace the pool's old workers; one that is under way goes on, and at once if paused.

    Raises ConfigProblem for a ``max_surge`` that can't be.
    """
    _check_surge(pool, max_surge)
    before = pool.memory.rollout
    if before is not None and before.active:
        surge = before.max_surge if max_surge is None else max_surge
        running = replace(before, state=RolloutState.RUNNING, until=0.0, max_surge=surge)
        _store(pool, replace(pool.memory, rollout=running), records, now)
        return
    rollout = Rollout(started_at=now, max_surge=max_surge)
    if before is not None:  # what the last one had in hand is this one's
        rollout = replace(rollout, extra=before.extra, leaving=before.leaving)
    _store(pool, replace(pool.memory, rollout=rollout), records, now)
    surge = rollout.surge(pool.spec)
    events.append("rollout_started", pool=pool.stored.name, reason=f"{surge} at a time")


def _stop_rollout(pool: KeptPool, records: PoolRecords, events: EventLog, now: float) -> None:
    """No further old worker goes; who is new stays, who drains goes."""
    before = pool.memory.rollout
    if before is None or not before.active:
        return
    stopped = replace(
        before, state=RolloutState.STOPPED, reason="stopped by an operator", ended_at=now
    )
    _store(pool, replace(pool.memory, rollout=stopped), records, now)
    events.append("rollout_stopped", pool=pool.stored.name, reason=stopped.reason)


def _check_surge(pool: KeptPool, max_surge: int | None) -> None:
    if max_surge is None:
        return
    if max_surge < 0:
        raise ConfigProblem([Problem(key="max_surge", what=f"must be 0 or more, not {max_surge}")])
    if max_surge > 0 and pool.spec.max_surge == 0:
        what = "the pool's own max_surge is 0: it may have no machine beyond its size"
        remedy = f"epu pool reconfigure {pool.stored.name} max_surge={max_surge}"
        raise ConfigProblem([Problem(key="max_surge", what=what, remedy=remedy)])


def _store(pool: KeptPool, memory: PoolMemory, records: PoolRecords, now: float) -> bool:
    """Whether that changed anything."""
    if memory == pool.memory:
        return False
    records.store_cycle(pool.stored.name, memory_to_dict(memory), None, None, now)
    pool.memory = memory
    return True
