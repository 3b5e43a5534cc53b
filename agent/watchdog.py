"""Ends a process whose connection to the broker looks open but is dead.

Works with threads and, where they are patched in, with greenlets.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

#: Seconds after which a publish on a connection that looks open counts as hung.
HUNG_AFTER = 60.0


class Watchdog:
    """Ends the process when a publish hangs although its connection looks open.

    Nothing inside the process can free a greenlet that waits on such a socket; the
    supervisor starts the process anew. A refused connection raises and never counts.
    """

    def __init__(self, after: float = HUNG_AFTER, end: Callable[[], None] | None = None) -> None:
        self._after = after
        self._end = end or (lambda: os._exit(75))
        self._started: dict[int, float] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Mark the time inside as a publish in flight."""
        key = threading.get_ident()
        self._started[key] = time.monotonic()
        try:
            yield
        finally:
            self._started.pop(key, None)

    def hung(self, now: float) -> bool:
        """Whether a publish has been in flight for too long at monotonic time ``now``."""
        return any(now - started > self._after for started in self._started.values())

    def run(self, interval: float = 5.0) -> None:
        """Look for ever; to be spawned."""
        while True:
            time.sleep(interval)
            if self.hung(time.monotonic()):
                log.error("a publish has been hanging for %.0f s: starting anew", self._after)
                self._end()
