"""How a machine becomes a node and tells how far it is: the messages. PURE."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.broker_access import BrokerAccess
from agent.node_role import NodeRole

WIRE_VERSION = 1
#: The index of a machine that does not know which one of its launch it is.
UNASSIGNED = -1
#: How the tokens begin with which people let machines join a pool.
POOL_TOKEN = "pool."


@dataclass(frozen=True, kw_only=True)
class StartStep:
    """One step of a node's start: ``program web-1``, ``check tcp 127.0.0.1:80`` …

    ``detail`` says how it stands; ``at`` is the agent's clock, epoch seconds.
    """

    name: str
    detail: str = ""
    at: float = 0.0


@dataclass(frozen=True, kw_only=True)
class EnrolRequest:
    """``registrar.enrol``: a new node shows its token and a nonce of its own making.

    ``index`` -1: the machine was booted by a person and does not know which one it is.
    ``cloud_id``: what the machine was told its cloud calls it; empty when nothing.
    ``steps``: what it did so far, oldest first.
    """

    token: str = field(repr=False)
    launch_id: str
    index: int
    nonce: str = field(repr=False)
    hostname: str = ""
    addresses: tuple[str, ...] = ()
    agent_version: str = ""
    cloud_id: str = ""
    steps: tuple[StartStep, ...] = ()
    version: int = WIRE_VERSION


@dataclass(frozen=True, kw_only=True)
class EnrolAnswer:
    """What the registrar gives to a node whose token is good."""

    node_id: str
    run: str
    pool: str
    broker: BrokerAccess
    role: NodeRole
    version: int = WIRE_VERSION


@dataclass(frozen=True, kw_only=True)
class StartReport:
    """``registrar.starting``: where an enrolled node is in its start. Lost ones are not missed.

    ``nonce`` is the one the machine enrolled with.
    """

    node_id: str
    step: StartStep
    nonce: str = field(default="", repr=False)
    version: int = WIRE_VERSION


@dataclass(frozen=True, kw_only=True)
class ReadyReport:
    """``registrar.ready``: the agent verified itself (``ok``) or could not (``problem``).

    ``nonce`` is the one the machine enrolled with: it proves whose report this is.
    """

    node_id: str
    ok: bool
    nonce: str = field(default="", repr=False)
    outputs: dict[str, str] = field(default_factory=dict)
    step: str = ""
    problem: str = ""
    boot_id: str = ""
    version: int = WIRE_VERSION
