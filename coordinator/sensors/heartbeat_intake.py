"""The queues from which the sensors service hears, and the reading of what comes in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kombu import Exchange, Queue

from agent.messages import EVENTS_EXCHANGE, LOOPBACK_POOL, Heartbeat
from agent.wire import MalformedMessage, from_wire

_AGENT_QUEUE = "rpc-agent-"
#: No honest beat has more figures: all that is remembered is in every report.
MAX_FIGURES = 1000


class _OfOnePool(Queue):  # type: ignore[misc]
    """Gets, beside its pool's beats, those by which sensors services hear themselves."""

    def queue_bind(self, nowait: bool = False, channel: Any = None) -> Any:
        self.bind_to(self.exchange, f"beat.{LOOPBACK_POOL}.#", nowait=nowait, channel=channel)
        return super().queue_bind(nowait=nowait, channel=channel)


def heartbeat_queue(pool: str = "") -> Queue:
    """Every heartbeat of the run, or of one pool; lives and dies with its consumer, bounded."""
    made = _OfOnePool if pool else Queue
    return made(
        "",
        Exchange(EVENTS_EXCHANGE, type="topic", durable=True, no_declare=True),
        routing_key=f"beat.{pool}.#" if pool else "beat.#",
        exclusive=True,
        auto_delete=True,
        queue_arguments={"x-max-length": 50_000},
    )


def presence_queue() -> Queue:
    """What the broker's event exchange says of queues that went away."""
    return Queue(
        "",
        Exchange("amq.rabbitmq.event", type="topic", durable=True, no_declare=True),
        routing_key="queue.deleted",
        exclusive=True,
        auto_delete=True,
        queue_arguments={"x-max-length": 50_000},
    )


def read_heartbeat(body: Any, routing_key: str, sender: str, shared: bool) -> Heartbeat:
    """The heartbeat of a message. Raises MalformedMessage.

    The broker guarantees ``sender`` (the message's user_id) and lets a node publish with
    its own key only; a beat that speaks of another node than its key or its sender is
    refused. With ``shared`` accounts the sender proves nothing.
    """
    beat = from_wire(Heartbeat, body)
    if routing_key != f"beat.{beat.pool}.{beat.node_id}":
        raise MalformedMessage(f"the key {routing_key} does not fit node {beat.node_id}")
    if len(beat.figures) > MAX_FIGURES or len(beat.sensor_problems) > MAX_FIGURES:
        raise MalformedMessage(f"{len(beat.figures)} figures, more than {MAX_FIGURES}")
    if not shared and sender != f"node-{beat.node_id}":
        raise MalformedMessage(f"sent by '{sender}', but speaks of node {beat.node_id}")
    return beat


def lost_node(headers: Mapping[str, Any], vhost: str) -> str | None:
    """The node whose agent queue a broker event says is gone; None for any other queue."""
    name = str(headers.get("name", ""))
    if headers.get("vhost") != vhost or not name.startswith(_AGENT_QUEUE):
        return None
    return name.removeprefix(_AGENT_QUEUE)
