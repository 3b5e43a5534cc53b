"""How a cloud is, as the provisioner tells it. PURE."""

from __future__ import annotations

from dataclasses import dataclass

#: Machines of one launch at most, where a driver takes several and says no number. A launch
#: is made whole or not at all, so a smaller one finds room where a larger one does not.
DEFAULT_BATCH_LIMIT = 100


@dataclass(frozen=True, kw_only=True)
class CloudStatus:
    """How one cloud is, as the provisioner sees it.

    ``batch_limit``: machines of one launch at most. ``rejected_for``: for so many more
    seconds nothing is asked of it, because it rejects our credentials; 0 when it does not.
    ``silent_for``: seconds since it last answered anything, counted only while a call fails
    or hangs; 0 when it answers. ``problem``: what it said last, empty when all is well.
    """

    batch_limit: int = DEFAULT_BATCH_LIMIT
    rejected_for: float = 0.0
    silent_for: float = 0.0
    problem: str = ""
