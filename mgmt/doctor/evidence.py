"""What was seen of a run, and what a finding and its repair are. PURE."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Action(str, Enum):
    """What ``--fix`` can do by itself."""

    START_BROKER = "start_broker"
    START_COORDINATOR = "start_coordinator"
    UNFREEZE = "unfreeze"
    RESUME_POOL = "resume_pool"
    ENABLE = "enable"
    END_MACHINES = "end_machines"


@dataclass(frozen=True)
class Repair:
    """``subjects``: pools or node ids. ``grave``: ends machines that may be at work."""

    action: Action
    subjects: tuple[str, ...] = ()
    grave: bool = False

    @property
    def words(self) -> str:
        """What is done, for a question."""
        whom = f" {names_of(self.subjects)}" if self.subjects else ""
        return self.action.value.replace("_", " ") + whom


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. ``remedy`` is what a person does; ``repair`` what we offer."""

    kind: str
    what: str
    remedy: str
    repair: Repair | None = None


@dataclass(frozen=True)
class Restarts:
    """How often a process ended of late, and the last line that it wrote."""

    count: int
    last: str = ""


@dataclass(frozen=True, kw_only=True)
class Vitals:
    """Of a machine with ``services`` of the coordinator, and called ``host``.

    ``ahead``: its clock against ours, s; None: the same. ``free`` and ``total``: bytes.
    """

    host: str = ""
    services: tuple[str, ...] = ()
    ahead: float | None = None
    free: int | None = None
    total: int | None = None
    restarts: Mapping[str, Restarts] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class NodeSigns:
    """What one node's agent said. ``ahead``: its clock against ours, s."""

    ahead: float | None = None
    disk_percent: float | None = None


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What was seen of a run. None: could not be looked at.

    ``listed``: node id → cloud of each machine that the clouds list; ``known``: the node
    ids that the provisioner's records held both before and after that listing, ``ever``
    either time. ``late``: documents of nodes that are on their way.
    """

    run: str
    ended: bool = False
    half_torn_down: bool = False
    broker_problem: str = ""
    broker_directory: str = ""
    coordinator_directory: str = ""
    coordinator_runs: bool | None = None
    status: Mapping[str, Any] | None = None
    silence: str = ""
    listed: Mapping[str, str] | None = None
    unlisted: Mapping[str, str] = field(default_factory=dict)
    known: frozenset[str] | None = None
    ever: frozenset[str] = frozenset()
    late: tuple[Mapping[str, Any], ...] = ()
    vitals: tuple[Vitals, ...] = ()
    disk_here: tuple[int, int] | None = None
    nodes: Mapping[str, NodeSigns] = field(default_factory=dict)


def names_of(names: Iterable[str]) -> str:
    """The first eight, and how many more."""
    found = sorted(str(name) for name in names)
    return ", ".join(found[:8]) + (f" and {len(found) - 8} more" if len(found) > 8 else "")
