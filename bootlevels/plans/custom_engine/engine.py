"""A decision engine of one's own: always so many idle workers more than there are busy ones. PURE.

For jobs that must begin at once, however long a new worker takes to boot.
"""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.engines.base import Decision, PoolView

#: Heartbeat intervals after which what a worker said is no news of now.
OLD = 3


@dataclass(frozen=True, kw_only=True)
class SpareSettings:
    """``spare``: idle workers to keep. Raises ValueError for a negative number."""

    spare: int = 1

    def __post_init__(self) -> None:
        if self.spare < 0:
            raise ValueError(f"spare must be 0 or more, not {self.spare}")


class Spare:
    """Wants a worker for each busy one, and ``spare`` more."""

    Settings = SpareSettings

    def decide(self, view: PoolView) -> Decision:
        """Holds while any running worker did not say lately whether it is busy."""
        running = [one for one in view.supply if not one.is_pending]
        there, oldest = len(view.supply), OLD * view.heartbeat_interval
        if silent := [x for x in running if x.busy is None or (x.heard_age or 0.0) > oldest]:
            reason = f"hold: {len(silent)} workers don't say whether they are busy"
            return Decision(size=there, reason=reason, held=True, stable=False)
        busy = sum(one.busy is True for one in running)
        size = busy + view.settings.spare
        idle = tuple(one.node_id for one in running if not one.busy)
        reason = f"{busy} busy and {view.settings.spare} spare"
        return Decision(size=size, reason=reason, victims=idle, stable=size == there)
