"""Ends a process that nothing inside it can free; its supervisor starts it anew.

Either its connection to the broker looks open but is dead (``Watchdog``), or one of its
greenlets does not give way to the others (``stay_awake``).
"""

from __future__ import annotations

import faulthandler
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

log = logging.getLogger(__name__)

#: Seconds after which a publish on a connection that looks open, or a process in which no
#: greenlet gets its turn, counts as hung.
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


def stay_awake(after: float = HUNG_AFTER) -> None:
    """End the process once this loop has had no turn for ``after`` seconds; to be spawned.

    One greenlet that blocks (a driver's call, a library that was not patched, an endless
    loop) stops all of them, the one that would notice too. So the alarm is a thread of C,
    which needs no turn; it writes to stderr where every thread stands. A process that was
    itself stopped for so long starts anew when it goes on.
    """
    _alarm.after = after
    while True:
        if not _alarm.off:
            faulthandler.dump_traceback_later(after, exit=True)
        time.sleep(after / 10)


@dataclass
class _Alarm:
    """The one alarm of this process, which is the C library's; ``off``: by how many."""

    after: float | None = None
    off: int = 0


_alarm = _Alarm()


@contextmanager
def may_take_long() -> Iterator[None]:
    """Inside, nothing counts as hung: for what may neither give way nor be cut off.

    Such as the migration of a large store: ended half-way it would be begun again and again.
    """
    _alarm.off += 1
    faulthandler.cancel_dump_traceback_later()
    try:
        yield
    finally:
        _alarm.off -= 1
        if _alarm.after is not None and not _alarm.off:
            faulthandler.dump_traceback_later(_alarm.after, exit=True)
