"""What the controller holds of one pool, and how it comes out of the store."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.messages import CloudStatus, InstanceView
from coordinator.controller.cycle import CycleOutcome
from coordinator.controller.pool import PoolMemory, memory_from_dict
from coordinator.controller.records import StoredPool
from coordinator.engines.base import DecisionEngine
from coordinator.plugins import find_plugin
from coordinator.pool_spec import PoolSpec, parse_pool

log = logging.getLogger(__name__)


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

    @property
    def queues(self) -> list[str]:
        return list(self.spec.role.work_queues)


def load_pool(stored: StoredPool) -> KeptPool:
    """A stored pool with its engine. A memory that can't be read is begun anew."""
    spec = parse_pool(stored.name, stored.section)
    engine = find_plugin("epu.engines", spec.engine_type)()
    try:
        memory = memory_from_dict(stored.memory)
    except (ValueError, TypeError, KeyError):
        log.exception("the memory of pool %s can't be read: starting without", stored.name)
        memory = PoolMemory()
    return KeptPool(stored=stored, spec=spec, engine=engine, memory=memory)
