"""Work that is done by one at a time, however many ask for it."""

from __future__ import annotations

from collections.abc import Callable


class Turns:
    """Runs ``work`` when asked to. Who asks while it runs is answered by another turn after it.

    For greenlets, which change places only where one waits: there is no lock.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._running = False
        self._asked = False

    def take(self) -> None:
        """See above. Raises what ``work`` raises; what was asked meanwhile is then forgotten."""
        self._asked = True
        if self._running:
            return
        self._running = True
        try:
            while self._asked:
                self._asked = False
                self._work()
        finally:
            self._running = False
