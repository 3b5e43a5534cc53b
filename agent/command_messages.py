"""What a controller orders of the provisioner: commands, their batch, its answer. PURE."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.enrolment_messages import WIRE_VERSION
from agent.node_role import NodeRole


@dataclass(frozen=True, kw_only=True)
class LaunchInstances:
    """Launch ``count`` machines of one kind; node *i* is ``<launch_id>-<i>``.

    ``count`` is at most the cloud's ``batch_limit``. ``settings`` are the driver's own keys
    (image, type, …). ``blueprint`` is a digest of all that the machines are made from: it is
    kept with their records, so that a controller recognises those that are made otherwise.
    """

    command_id: str
    launch_id: str
    count: int
    cloud: str
    template: str
    reason: str
    role: NodeRole = NodeRole()
    variables: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    unique_id: str | None = None
    boot_timeout: float = 300.0
    launch_timeout: float = 300.0
    blueprint: str = ""


@dataclass(frozen=True, kw_only=True)
class DrainInstance:
    """Let the node finish its work, then terminate it; force after ``drain_timeout``."""

    command_id: str
    node_id: str
    reason: str
    drain_timeout: float = 300.0


@dataclass(frozen=True, kw_only=True)
class CancelDrain:
    """Take a draining node back."""

    command_id: str
    node_id: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class TerminateInstance:
    """End the node's machine now."""

    command_id: str
    node_id: str
    reason: str


Command = LaunchInstances | DrainInstance | CancelDrain | TerminateInstance


@dataclass(frozen=True, kw_only=True)
class CommandBatch:
    """``provisioner.apply``: all of it or nothing, in one transaction.

    Refused with ``conflict`` when the pool changed after ``based_on`` or a newer
    ``epoch`` was seen; a batch already applied answers the same again.
    """

    batch_id: str
    pool: str
    based_on: int
    epoch: int
    launches: tuple[LaunchInstances, ...] = ()
    drains: tuple[DrainInstance, ...] = ()
    cancels: tuple[CancelDrain, ...] = ()
    terminations: tuple[TerminateInstance, ...] = ()
    version: int = WIRE_VERSION

    @property
    def commands(self) -> tuple[Command, ...]:
        return (*self.cancels, *self.terminations, *self.drains, *self.launches)


@dataclass(frozen=True, kw_only=True)
class BatchAnswer:
    """``outcome``: applied, repeated, conflict (stale view), superseded (newer epoch)."""

    batch_id: str
    outcome: str
    detail: str = ""
    version: int = WIRE_VERSION
