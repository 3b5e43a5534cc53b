"""The one clock of a simulated world, and everything that is still to happen in it."""

from __future__ import annotations

import heapq
from collections.abc import Callable

#: When simulated worlds begin, seconds since the epoch.
EPOCH = 1_700_000_000.0


class EventQueue:
    """Actions in the order of their times; those of one time in the order of their asking.

    ``wait`` lets time pass *inside* an action, as a call that takes a while does: what is
    due meanwhile happens meanwhile. So calls interleave as greenlets do.
    """

    def __init__(self) -> None:
        self.now = EPOCH
        self.happened = 0
        self.after_each: Callable[[str], None] = lambda label: None
        self._heap: list[tuple[float, int, str, Callable[[], None]]] = []
        self._asked = 0

    def at(self, when: float, label: str, action: Callable[[], None]) -> None:
        """``action`` shall happen at ``when`` (not before now)."""
        self._asked += 1
        heapq.heappush(self._heap, (max(when, self.now), self._asked, label, action))

    def after(self, seconds: float, label: str, action: Callable[[], None]) -> None:
        """``action`` shall happen in so many seconds."""
        self.at(self.now + seconds, label, action)

    def wait(self, seconds: float) -> None:
        """Let so much time pass, with all that happens in it."""
        self.run_until(self.now + max(0.0, seconds))

    def run_until(self, end: float) -> None:
        """Let everything happen that is due up to ``end``; then it is ``end``, or later."""
        while self._heap and self._heap[0][0] <= end:
            when, _, label, action = heapq.heappop(self._heap)
            self.now = max(self.now, when)
            action()
            self.happened += 1
            self.after_each(label)
        self.now = max(self.now, end)
