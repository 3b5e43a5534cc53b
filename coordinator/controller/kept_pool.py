"""What the controller holds of one pool, and how it comes out of the store."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from agent.messages import FINAL_STATES, CloudStatus, CommandBatch, InstanceView, PoolSnapshot
from coordinator.controller.cycle import CycleOutcome
from coordinator.controller.engine_process import EngineProcess, engine_for
from coordinator.controller.pool import PoolMemory, memory_from_dict, memory_to_dict
from coordinator.controller.pool_state import decision_signature, worth_storing
from coordinator.controller.recording import recording_of
from coordinator.controller.records import PoolRecords, StoredPool
from coordinator.engines.base import Decision, DecisionEngine, PoolView
from coordinator.errors import EngineFailed
from coordinator.pool_spec import PoolSpec, parse_pool, unchecked
from coordinator.pool_values import ScheduleEntry

log = logging.getLogger(__name__)

#: Records of instances that ended are kept in a pool's picture for so many seconds.
ENDED_KEPT = 3600.0
#: Two clocks that differ by less, s, are one: an answer takes a while to arrive.
SAME_CLOCK = 5.0


@dataclass
class KeptPool:
    """What is held of one pool between cycles; everything but ``stored`` can be refetched."""

    stored: StoredPool
    spec: PoolSpec
    engine: DecisionEngine
    memory: PoolMemory
    epoch: int | None = None
    superseded: bool = False
    version: int = 0
    instances: dict[str, InstanceView] = field(default_factory=dict)
    clouds: Mapping[str, CloudStatus] = field(default_factory=dict)
    outcome: CycleOutcome | None = None
    trouble: str = ""
    queue_declared: bool = False
    signature: object = None
    #: A cycle of it goes on beside the others'; see ``Keeper.cycle``.
    deciding: bool = False
    #: The engine of another process that told which queues it follows.
    met: object = None

    @property
    def queues(self) -> list[str]:
        return list(self.spec.role.work_queues)

    @property
    def decides_apart(self) -> bool:
        """Whether its engine may take its time, so that no other pool may wait for it."""
        return isinstance(self.engine, EngineProcess)

    def meet_engine(self) -> bool:
        """Have an engine that decides apart loaded, and learn which queues it follows.

        True when it was loaded only now: what was asked before is old by then. One that can't
        be loaded says so when it is to decide.
        """
        engine = self.engine
        if not isinstance(engine, EngineProcess) or self.met is engine:
            return False
        try:
            queues = engine.load()
        except EngineFailed:
            return False
        if self.engine is engine:
            self.met, role = engine, self.spec.role
            named = tuple(dict.fromkeys((*role.work_queues, *queues)))
            self.spec = replace(self.spec, role=replace(role, work_queues=named))
            self.queue_declared = False
        return True

    def take(self, snapshot: PoolSnapshot, now: float) -> None:
        """What changed since the last snapshot; who ended long ago leaves the picture."""
        for instance in snapshot.instances:
            self.instances[instance.node_id] = by_our_clock(instance, now - snapshot.now)
        oldest = now - ENDED_KEPT
        for node_id, instance in list(self.instances.items()):
            if instance.state in FINAL_STATES and instance.state_since < oldest:
                del self.instances[node_id]
        self.version = snapshot.version
        self.clouds = snapshot.clouds

    def close(self) -> None:
        """End what its engine has running, when the pool goes or gets another one."""
        if isinstance(self.engine, EngineProcess):
            self.engine.close()


class UnusableEngine:
    """Stands in for an engine that can't be had any more; its pool holds and says why."""

    Settings: type = dict

    def __init__(self, problem: str) -> None:
        self._problem = problem

    def decide(self, view: PoolView) -> Decision:
        """Raises EngineFailed."""
        raise EngineFailed(self._problem)


def load_pool(stored: StoredPool, engine_deadline: float) -> KeptPool:
    """A stored pool with its engine, which may take ``engine_deadline`` seconds to decide.

    A memory that can't be read is begun anew. A section that can't be used any more (its
    engine has other settings now, say) was fine when it was added: the pool is kept, and held.
    Nothing of an engine that is not ours is loaded here, so no pool waits for another's.
    """
    try:
        spec = parse_pool(stored.name, stored.section, foreign=unchecked)
        engine: DecisionEngine = engine_for(spec, engine_deadline)
    except Exception as problem:  # an engine's own settings may raise anything
        log.error("pool %s can't be used as it is stored: %s", stored.name, problem)
        spec, engine = _held_spec(stored), UnusableEngine(f"{problem}")
    try:
        memory = memory_from_dict(stored.memory)
    except (ValueError, TypeError, KeyError):
        log.exception("the memory of pool %s can't be read: starting without", stored.name)
        memory = PoolMemory()
    return KeptPool(stored=stored, spec=spec, engine=engine, memory=memory)


def _held_spec(stored: StoredPool) -> PoolSpec:
    """What can be read of a section without its engine: enough to look at the pool."""
    try:
        spec = parse_pool(stored.name, {**stored.section, "engine": {}})
    except Exception:
        spec = PoolSpec(name=stored.name)
    named = stored.section.get("engine")
    return replace(spec, engine=dict(named)) if isinstance(named, Mapping) else spec


def forget_refused(
    pool: KeptPool, batch: CommandBatch, why: str, records: PoolRecords, now: float
) -> None:
    """Nothing of a refused batch is on its way: what it would have replaced is held up by it no
    more. Stored before the answer is: whoever dies in between sends it again, and is refused.
    """
    log.info("batch %s of pool %s was refused: %s", batch.batch_id, pool.stored.name, why)
    launched = {one.launch_id for one in batch.launches}
    if launched.isdisjoint(pool.memory.replacements):
        return
    left = {name: one for name, one in pool.memory.replacements.items() if name not in launched}
    pool.memory = replace(pool.memory, replacements=left)
    records.store_cycle(pool.stored.name, memory_to_dict(pool.memory), None, None, now)


def store_outcome(
    records: PoolRecords, pool: KeptPool, outcome: CycleOutcome, scheduled: ScheduleEntry | None
) -> None:
    """Store what a cycle changed in one transaction, and nothing when nothing changed.

    ``pool.memory`` is still the one before the cycle.
    """
    # With a batch always: what the engine decided it on must outlive us with it.
    changed = outcome.batch is not None or worth_storing(pool.memory, outcome.memory)
    signature = decision_signature(outcome)
    explained = outcome.batch is not None or signature != pool.signature
    if changed or explained:
        records.store_cycle(
            pool.stored.name,
            memory_to_dict(outcome.memory) if changed else None,
            outcome.batch,
            outcome.explanation() if explained else None,
            outcome.now,
            recording_of(outcome, pool.stored.section, scheduled) if explained else None,
        )
    pool.signature = signature


def by_our_clock(instance: InstanceView, ahead: float) -> InstanceView:
    """``instance`` with its times as our clock has them, which is ``ahead`` of its teller's.

    Clocks of processes are steady, but each as right as the system's was when it started: an
    hour that was put in between two starts is no age of anything.
    """
    if abs(ahead) <= SAME_CLOCK:
        return instance
    started = instance.start_step_at
    return replace(
        instance,
        wanted_at=instance.wanted_at + ahead,
        state_since=instance.state_since + ahead,
        start_step_at=None if started is None else started + ahead,
    )
