"""The second witness: is an agent silent? PURE."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from agent.messages import NodeSigns
from coordinator.provisioner.lifecycle import Record

#: An agent that missed so many heartbeats is silent.
SILENT_INTERVALS = 3


@dataclass(frozen=True, kw_only=True)
class Witness:
    """What the sensors service says of suspects (``sensors.witness``); ages in seconds."""

    blind: bool
    observing_age: float
    nodes: Mapping[str, NodeSigns] = field(default_factory=dict)


# ------------------------------------------------------------------ the second witness


def silence(
    records: Iterable[Record], witness: Witness | None, now: float
) -> dict[str, bool | None]:
    """Which agents are silent; None where nobody can tell.

    A lost presence counts until the agent is heard again. Mere silence counts after
    SILENT_INTERVALS heartbeats, measured only over time in which it could have been heard.
    Until then one that was never heard is no witness, neither way.
    """
    return {record.node_id: _silent(record, witness, now) for record in records}


def _silent(record: Record, witness: Witness | None, now: float) -> bool | None:
    if witness is None or witness.blind or witness.observing_age < 0:
        return None
    signs = witness.nodes.get(record.node_id)
    heard_age = signs.heard_age if signs else None
    hints = [] if record.presence_lost_at is None else [now - record.presence_lost_at]
    if signs and signs.presence_lost_age is not None:
        hints.append(signs.presence_lost_age)
    if hints and (heard_age is None or heard_age > min(hints)):
        return True
    ages = [witness.observing_age, now - record.state_since]
    if heard_age is not None:
        ages.append(heard_age)
    if min(ages) > SILENT_INTERVALS * record.heartbeat_interval:
        return True
    return None if heard_age is None else False
