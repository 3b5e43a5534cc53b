"""What a controller asks of its sensors service: reports, signs of life, work queues."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from agent.messages import SensorReport
from agent.rpc_client import CallFailed
from agent.wire import from_wire
from coordinator.controller.kept_pool import KeptPool

log = logging.getLogger(__name__)


class SensorCalls:
    """``call`` is an RPC with a deadline, ``service`` the sensors service's name.

    Nothing here raises CallFailed: what can't be had now is had in a later cycle.
    """

    def __init__(self, call: Callable[..., Any], service: str) -> None:
        self._call = call
        self._service = service

    def reports(self, pools: Mapping[str, KeptPool]) -> dict[str, SensorReport]:
        """A report of each pool; none while the service does not answer."""
        wanted = {name: pool.queues for name, pool in pools.items()}
        patience = {
            name: 2 * (pool.spec.health.missing_timeout + pool.spec.health.really_missing_timeout)
            for name, pool in pools.items()
        }
        # Left out where no pool has one: a sensors service of an older release knows no such word.
        told = {name: q for name, p in pools.items() if (q := p.spec.role.busy_queue)}
        more = (told,) if told else ()
        try:
            answer = self._call(self._service, "reports", wanted, patience, *more, timeout=5.0)
        except CallFailed as problem:
            log.info("no sensor reports: %s", problem)
            return {}
        return {name: from_wire(SensorReport, data) for name, data in answer.items()}

    def ping(self, node_id: str) -> None:
        """Ask a silent node for a sign of life. Takes seconds: silent ones do not answer."""
        try:
            beat = self._call(f"agent-{node_id}", "beat_now", timeout=2.0)
            self._call(self._service, "report", beat, timeout=2.0)
        except CallFailed as problem:
            log.info("no sign of life from %s: %s", node_id, problem)

    def declare_queues(self, pool: KeptPool) -> None:
        """Make the pool's work queues, once, where that is wanted."""
        queues = pool.queues  # the engine's own among them
        if pool.queue_declared or not pool.spec.declare_queue or not queues:
            return
        try:
            for name in queues:
                self._call(self._service, "declare_queue", name)
            pool.queue_declared = True
        except CallFailed as problem:
            log.info("queues of %s not declared yet: %s", pool.stored.name, problem)
