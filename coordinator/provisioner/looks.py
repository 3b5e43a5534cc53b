"""When machines that may be gone are looked at, each on its own, between two listings. PURE.

A cloud may list a machine for seconds after its end, and a whole listing of a thousand
machines each second would be too much. So a hint is followed by a few looks at that very
machine. They teach what every listing teaches, and decide nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

#: After a hint a machine is looked at so much later, s. After that the whole listings do.
LOOKS_AFTER = (0.0, 0.5, 1.0, 2.0, 4.0)
#: From one such listing to the next, s: who is lost in the same moment is looked at together.
LOOKS_APART = 0.5
#: More launches than these are cheaper to list with all the others, page by page; ten thousand
#: machines are ten pages, so no sooner than so many seconds later again.
LAUNCHES_OF_A_LOOK, WHOLE_LOOKS_APART = 200, 1.0


@dataclass(frozen=True, kw_only=True)
class Looks:
    """The looks that are still to come. ``times``: node id → moments, soonest first, epoch s.

    ``not_before``: since the last look was begun there has to be a pause.
    """

    times: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    not_before: float = -math.inf

    def hinted(self, node_ids: Iterable[str], now: float) -> Looks:
        """These may be gone: a new row of looks for each."""
        fresh = tuple(now + after for after in LOOKS_AFTER)
        return replace(self, times={**self.times, **dict.fromkeys(node_ids, fresh)})

    def due(self, now: float) -> frozenset[str]:
        """Whom to look at now: nobody too soon after the last look."""
        if now < self.next_at():
            return frozenset()
        return frozenset(node_id for node_id, times in self.times.items() if times[0] <= now)

    def next_at(self) -> float:
        """When somebody is to be looked at next; never is infinity."""
        soonest = min((times[0] for times in self.times.values()), default=math.inf)
        return max(soonest, self.not_before)

    def looked(self, now: float, whole: bool = False) -> Looks:
        """A look at all who were due was begun at ``now``; ``whole``: at everybody else, too."""
        apart = WHOLE_LOOKS_APART if whole else LOOKS_APART
        return replace(self.listed(now), not_before=now + apart)

    def listed(self, now: float) -> Looks:
        """Who was due at ``now`` needs no look: a whole listing shows them, or they are gone."""
        left = {
            node_id: tuple(at for at in times if at > now) for node_id, times in self.times.items()
        }
        return replace(self, times={node_id: times for node_id, times in left.items() if times})
