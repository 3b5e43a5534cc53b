"""Cut a failing history down to what makes it fail: for whoever has to understand it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from coordinator.simulation.history import History
from coordinator.simulation.living import Outcome, live


def minimised(
    outcome: Outcome, tries: int = 200, live_it: Callable[[History], Outcome] = live
) -> Outcome:
    """The outcome of a smaller history that breaks one of the same invariants.

    Happenings go by halves and then one by one, then a pool, then jobs; what still fails
    stays cut. Lives at most ``tries`` histories.
    """
    left = tries
    found = outcome
    again = True
    while again and left > 0:
        again = False
        for smaller in _smaller(found.history):
            if left <= 0:
                break
            left -= 1
            lived = live_it(smaller)
            if lived.kinds & outcome.kinds:
                found, again = lived, True
                break
    return found


def _smaller(history: History) -> Iterator[History]:
    """Histories with less in them, the boldest cuts first."""
    happenings = history.happenings
    if len(happenings) > 3:
        middle = len(happenings) // 2
        yield replace(history, happenings=happenings[:middle])
        yield replace(history, happenings=happenings[middle:])
    for happening in reversed(happenings):
        yield history.without(happening)
    if len(history.pools) > 1:
        for pool in history.pools:
            left = tuple(one for one in history.pools if one is not pool)
            about = tuple(one for one in happenings if one.values.get("pool") != pool.name)
            yield replace(history, pools=left, happenings=about)
    for pool in history.pools:
        if len(pool.arrivals) > 1:
            fewer = replace(pool, arrivals=pool.arrivals[: len(pool.arrivals) // 2])
            changed = tuple(fewer if one is pool else one for one in history.pools)
            yield replace(history, pools=changed)
    last = max((one.at for one in happenings), default=0.0)
    if history.quiet_after > last + 60.0:
        yield replace(history, quiet_after=max(60.0, (history.quiet_after + last) / 2))
