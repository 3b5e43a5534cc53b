"""Drains belong to the provisioner: no controller is needed for a teardown that is gentle.

The agent is asked again and again until it says *drained*; an agent that can't be reached
costs nothing but time, because the deadline is stored.

An adopted worker has no cloud that could say that its machine is gone. While it drains, two
witnesses say so instead: the broker has no queue of its agent, and the sensors service, if
it is not blind, heard nothing of it for so long that its agent was not just started again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from agent.messages import ADOPTED_CLOUD, DrainAnswer, agent_service
from agent.rpc_client import CallFailed, UnknownService
from agent.wire import MalformedMessage, from_wire
from coordinator.provisioner.cloud_calls import Tools
from coordinator.provisioner.lifecycle import DRAINING, TERMINATING, Change, Record, move, note
from coordinator.provisioner.witness import SILENT_INTERVALS, silence

log = logging.getLogger(__name__)

#: An agent has so long to answer, s; it is asked again anyway.
DRAIN_CALL_TIMEOUT = 5.0


class Drains:
    """Asks the agents of draining nodes, and of nodes whose drain was cancelled."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._maybe = True

    def wake(self) -> None:
        """There may be something to drain."""
        self._maybe = True

    def step(self) -> set[str]:
        """Ask everybody concerned once; the clouds of those that have drained."""
        if not self._maybe:
            return set()
        self._maybe = False
        records = {record.node_id: record for record in self._tools.records.drains()}
        if not records:
            return set()
        self._maybe = True
        answers = self._tools.in_parallel(
            lambda node_id: self._ask(records[node_id]), list(records)
        )
        changes = [
            change
            for record, answer in zip(records.values(), answers, strict=True)
            if isinstance(answer, DrainAnswer)
            and (change := self._consequence(record, answer)) is not None
        ]
        changes += self._gone(
            [
                record
                for record, answer in zip(records.values(), answers, strict=True)
                if isinstance(answer, UnknownService)
            ]
        )
        self._tools.commit(changes)
        return {records[change.node_id].cloud for change in changes if change.to is TERMINATING}

    def _gone(self, unserved: Sequence[Record]) -> list[Change]:
        """The end of those adopted workers whose agents' queues are gone and who are silent.

        A lost presence is no silence here: an agent that is started again loses its queue and
        its presence for a moment, while the programs of its worker go on.
        """
        now = self._tools.clock()
        suspects = [
            replace(record, presence_lost_at=None)
            for record in unserved
            if record.cloud == ADOPTED_CLOUD
            and record.state is DRAINING
            and now - record.state_since > SILENT_INTERVALS * record.heartbeat_interval
        ]
        if not suspects:
            return []
        silent: dict[str, bool | None] = {}
        for watched, witness in self._tools.witnesses(suspects):
            if witness is not None:
                heard = {
                    node_id: replace(signs, presence_lost_age=None)
                    for node_id, signs in witness.nodes.items()
                }
                silent |= silence(watched, replace(witness, nodes=heard), now)
        why = "gone while it drained: its agent has no queue and is silent"
        return [
            move(record, TERMINATING, now, why, drain_deadline=None)
            for record in unserved
            if silent.get(record.node_id)
        ]

    def _ask(self, record: Record) -> DrainAnswer | UnknownService | None:
        service = agent_service(record.node_id)
        try:
            return from_wire(DrainAnswer, self._call(service, record))
        except UnknownService as gone:
            return gone
        except CallFailed as problem:
            log.debug("%s did not answer about its drain: %s", service, problem)
        except MalformedMessage as problem:
            log.warning("%s answers nonsense: %s", service, problem)
        return None

    def _call(self, service: str, record: Record) -> Any:
        if record.state is DRAINING:
            now = self._tools.clock()
            left = max((record.drain_deadline or now) - now, 0.0)
            return self._tools.call(service, "drain", left, timeout=DRAIN_CALL_TIMEOUT)
        return self._tools.call(service, "cancel_drain", timeout=DRAIN_CALL_TIMEOUT)

    def _consequence(self, record: Record, answer: DrainAnswer) -> Change | None:
        if record.state is not DRAINING:
            return None if answer.draining else note(record, drain_deadline=None)
        if not answer.drained:
            return None
        return move(record, TERMINATING, self._tools.clock(), "drained", drain_deadline=None)
