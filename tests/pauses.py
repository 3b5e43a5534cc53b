"""How long a test that waits leaves the processors to those for whom it waits."""

from __future__ import annotations

_SHORTEST, _LONGEST = 0.02, 0.3  # seconds


def pause_after(took: float) -> float:
    """Seconds until the next look, after one that took ``took`` seconds.

    Many looks are calls to several processes, or read all of /proc. Pauses twice as long leave
    them a third of the time at most.
    """
    return min(max(_SHORTEST, 2 * took), _LONGEST)
