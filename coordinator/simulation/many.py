"""Live the histories of many seeds on several cores, within a bounded time."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from coordinator.simulation.living import Outcome, live_seed


@dataclass
class Tally:
    """What came of many histories. ``failed``: seed → what was broken."""

    lived: int = 0
    seconds: float = 0.0
    events: int = 0
    machines: int = 0
    failed: dict[int, tuple[str, ...]] = field(default_factory=dict)

    def add(self, seed: int, outcome: Outcome) -> None:
        """One more."""
        self.lived += 1
        self.seconds += outcome.seconds
        self.events += outcome.events
        self.machines += outcome.machines
        if outcome.broken:
            self.failed[seed] = outcome.broken

    def sentence(self) -> str:
        """The whole as one line."""
        hours = self.seconds / 3600
        return (
            f"{self.lived} histories, {hours:.0f} simulated hours, {self.events} events, "
            f"{self.machines} machines: {len(self.failed)} broken"
        )


def live_many(
    seeds: range, cores: int, is_late: Callable[[], bool], tell: Callable[[int, Outcome], None]
) -> Tally:
    """The histories of all ``seeds``, until ``is_late``; ``tell`` gets each as it ends."""
    tally = Tally()
    for seed, outcome in _outcomes(seeds, cores):
        tally.add(seed, outcome)
        tell(seed, outcome)
        if is_late():
            break
    return tally


def _outcomes(seeds: range, cores: int) -> Iterator[tuple[int, Outcome]]:
    if cores <= 1:
        for seed in seeds:
            yield _lived(seed)
        return
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        yield from pool.imap_unordered(_lived, seeds, chunksize=4)


def _lived(seed: int) -> tuple[int, Outcome]:
    return seed, live_seed(seed)
