"""Machines that go on although their cloud calls them gone: their agents are told to stop.

A cloud does not end what it denies, and of a machine whose cloud id nobody ever learned (its
node enrolled, and the cloud could not be listed until it called the machine gone) it can't
even be asked. The agent can be: its workers finish the job in hand, then everything on the node
ends, itself included. Whether the machine still runs, and costs, only its owner can find out.

Who has lost its account (the registrar takes it 15 s after the end) can't be called: it asks
for a new one, and the registrar tells it the same.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from agent.messages import ADOPTED_CLOUD, agent_service
from agent.rpc_client import CallFailed
from coordinator.provisioner.cloud_calls import Tools
from coordinator.provisioner.lifecycle import Record, note

#: An agent has so long to answer, s.
STOP_TIMEOUT = 3.0
#: A teardown tells everyone whose record ended within so many seconds, at most so many.
ENDED_WITHIN, ENDED_AT_MOST = 3600.0, 1000


def tell_to_stop(tools: Tools, records: Sequence[Record], node_ids: Collection[str]) -> None:
    """Tell the agents of those nodes to stop, and say whom that reached.

    Where no cloud will be asked, that it was done is stored here, before. One that beats
    nevertheless is judged a ZOMBIE again, and so told again.
    """
    told = {record.node_id: record for record in records if record.node_id in node_ids}
    now = tools.clock()
    tools.commit(
        [
            note(
                record,
                terminate_called_at=now,
                attempts=record.attempts + 1,
                next_attempt_at=None,
            )
            for record in told.values()
            if record.cloud_id is None
        ]
    )
    for record in _reached(tools, list(told.values())):
        _say(tools, record)


def stop_denied(tools: Tools, known: set[str]) -> list[dict[str, Any]]:
    """Tell every agent to stop whose cloud calls its machine gone; those that answered.

    For a teardown, in which nobody judges who is a zombie: whose machine is gone indeed has no
    queue, which the broker says at once. May be repeated; ``known``: whom the history has.
    """
    latest = tools.records.ended(tools.clock() - ENDED_WITHIN, ENDED_AT_MOST)
    there = _reached(tools, [one for one in latest if one.cloud != ADOPTED_CLOUD])
    for record in there:
        if record.node_id not in known:
            known.add(record.node_id)
            _say(tools, record)
    return [
        {
            "node_id": record.node_id,
            "cloud": record.cloud,
            "cloud_id": record.cloud_id,
            "drain_timeout": record.drain_timeout,
        }
        for record in there
    ]


def _reached(tools: Tools, records: Sequence[Record]) -> list[Record]:
    """Tell the agents of ``records`` to stop; whose answered."""

    def tell(node_id: str) -> bool:
        try:
            tools.call(agent_service(node_id), "stop", timeout=STOP_TIMEOUT)
        except CallFailed:
            return False
        return True

    answers = tools.in_parallel(tell, [record.node_id for record in records])
    return [record for record, answered in zip(records, answers, strict=True) if answered]


def _say(tools: Tools, record: Record) -> None:
    tools.events.append(
        "zombie_told_to_stop",
        pool=record.pool,
        node=record.node_id,
        reason=f"{_which(record)}, and its agent speaks: it ends its programs and itself; "
        "whether the machine runs, and costs, see in the cloud",
        cloud=record.cloud,
    )


def _which(record: Record) -> str:
    if record.cloud_id is not None:
        return f"cloud {record.cloud} calls its machine {record.cloud_id} gone"
    claimed = record.claimed_cloud_id
    name = f"it calls itself {claimed}" if claimed else "its name there was never learned"
    return f"cloud {record.cloud} does not list its machine ({name})"
