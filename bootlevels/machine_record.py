"""What a run's record says of the machines that were launched for its services. PURE.

A row exists before the cloud is asked, under the launch id that is also the cloud's
idempotency token; so whatever was ever made can be found again and ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class MachineLife(str, Enum):
    """How far a machine is. Only the cloud's listing makes it LISTED or GONE."""

    INTENDED = "INTENDED"
    LISTED = "LISTED"
    TERMINATING = "TERMINATING"
    GONE = "GONE"


@dataclass(frozen=True, kw_only=True)
class MachineRecord:
    """One launch of one machine; times in seconds since the epoch.

    ``cloud`` is a name in the plan; ``cloud_id`` and ``addresses`` are what the cloud said
    when it last listed the machine.
    """

    launch_id: str
    service: str
    cloud: str
    life: MachineLife = MachineLife.INTENDED
    cloud_id: str = ""
    addresses: tuple[str, ...] = ()
    intended_at: float | None = None
    listed_at: float | None = None
    gone_at: float | None = None


class MachineLedger(Protocol):
    """Where launches are written down; whatever is written is durable on return."""

    def machines(self, service: str | None = None) -> Sequence[MachineRecord]:
        """Every machine ever intended, of one service or of all, oldest first."""
        ...

    def machine_intended(self, service: str, launch_id: str, cloud: str, now: float) -> None:
        """The cloud is about to be asked for a machine."""
        ...

    def machine_listed(
        self, launch_id: str, cloud_id: str, addresses: Sequence[str], now: float
    ) -> None:
        """The cloud lists the machine (again, perhaps with other addresses)."""
        ...

    def machine_terminating(self, launch_id: str) -> None:
        """The cloud is about to be asked to end the machine."""
        ...

    def machine_gone(self, launch_id: str, now: float) -> None:
        """The cloud lists it as gone, or for longer than its window not at all."""
        ...
