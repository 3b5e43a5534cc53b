"""Why a machine that was set up by its user-data will never pass a check: it has said so itself.

What ``userdata_templates`` leave on a machine tells its console when it could not bring the
machine up. No check that is waited for mends that, and none knows the reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from bootlevels.checks import Look

#: What a machine's console says, see ``userdata_templates/bring_up.py``.
FAILED, DONE = "epu: this machine could not be brought up: ", "epu: this machine is "
#: Seconds between two looks at a console, which some clouds count.
ASK_EVERY = 10.0
#: A person may be mending it there; longer than that nobody is waited for.
PATIENCE = 30.0
_TAIL = 8
#: cloud-init's own words about the network and itself say nothing of it.
_NOISE = ("ci-info:", "Cloud-init v.")


def failure_in(console: str) -> tuple[str, tuple[str, ...]] | None:
    """What went wrong, and the lines around it; None while nothing has, or it was mended."""
    lines = console.splitlines()
    ends = [at for at, line in enumerate(lines) if FAILED in line or DONE in line]
    if not ends or DONE in lines[ends[-1]]:
        return None
    at = ends[-1]
    why = lines[at].partition(FAILED)[2].strip()
    around = [line.strip() for line in lines[:at] if not line.startswith(_NOISE)]
    return why, tuple(around[-_TAIL:])


class FirstBoot:
    """Adds to looks that found nothing what the machine's console says. ``console`` asks."""

    def __init__(self, console: Callable[[], str | None]) -> None:
        self._console = console
        self._asked = time.monotonic()
        self._failure: tuple[str, tuple[str, ...]] | None = None

    def explained_by(self, look: Callable[[float], Look], limit: float) -> Look:
        """One look of at most ``limit`` seconds, explained."""
        return self.explained(look(limit))

    def explained(self, look: Look) -> Look:
        """``look``, or why waiting for better is useless."""
        if look.ok:
            return look
        now = time.monotonic()
        if now - self._asked >= ASK_EVERY:
            self._asked = now
            self._failure = failure_in(self._console() or "")
        if self._failure is None:
            return look
        why, around = self._failure
        detail = f"its first boot failed: {why[:300]}"
        return replace(look, detail=detail, patience=PATIENCE, tail=around)
