"""Live one history from beginning to end, and say what came of it."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from coordinator.simulation.drawing import draw
from coordinator.simulation.happenings import plan_all
from coordinator.simulation.history import History
from coordinator.simulation.settling import come_to_rest, quiet
from coordinator.simulation.watch import Broken, Watcher
from coordinator.simulation.world import MemoryStores, World

#: Said by the product of a driver's defect, which histories have on purpose.
_ON_PURPOSE = "the driver failed"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one history. ``broken``: sentences, empty when all held.

    ``digest``: of everything that happened; ``seconds``: simulated ones; ``lines``: the
    newest of the trace.
    """

    history: History
    broken: tuple[str, ...]
    digest: str
    seconds: float
    events: int
    machines: int
    lines: tuple[str, ...]

    @property
    def kinds(self) -> frozenset[str]:
        """Which invariants are broken, by name."""
        return frozenset(sentence.split(":", 1)[0] for sentence in self.broken)

    @property
    def replay(self) -> str:
        """The command that lives this history again."""
        return f"python -m coordinator.simulation --seed {self.history.seed} --trace"


def live_seed(seed: int, **options: Any) -> Outcome:
    """The history of a seed; options as of ``live``."""
    return live(draw(seed), **options)


def live(
    history: History,
    *,
    whole_trace: bool = False,
    stores: Callable[[Watcher], Any] = MemoryStores,
    until: float | None = None,
) -> Outcome:
    """Live a history until it is at rest, or an invariant is broken. Never raises for that.

    ``until``: only so many seconds of it, and nothing is judged.
    """
    with _defects() as defects:
        world = World(history, whole_trace=whole_trace, stores=stores)
        broken: list[str] = []
        try:
            plan_all(world)
            if until is not None:
                world.queue.after_each = lambda label: None
                world.run_until(until)
                return _outcome(world, broken)
            _live_through(world, defects)
            quiet(world)
            come_to_rest(world)
        except Broken as found:
            broken = found.sentences
        broken += [f"defect: {defect}" for defect in defects]
    return _outcome(world, broken)


def _outcome(world: World, broken: Sequence[str]) -> Outcome:
    return Outcome(
        history=world.history,
        broken=tuple(broken),
        digest=world.watcher.digest,
        seconds=world.now,
        events=world.queue.happened,
        machines=len(world.machines),
        lines=tuple(world.watcher.lines),
    )


def _live_through(world: World, defects: list[str]) -> None:
    """Up to the quiet: what was planned is over, what still lasts has ended."""
    world.run_until(world.history.quiet_after)
    while not defects and (world.troubles or not _all_up(world)):
        world.run_until(world.now + 5.0)
    if defects:
        raise Broken([])


def _all_up(world: World) -> bool:
    for process in world.coordinator.processes().values():
        process.doomed = None
    return all(process.up for process in world.coordinator.processes().values())


class _Collector(logging.Handler):
    """Errors with a traceback: defects that the product contained, and logged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info and _ON_PURPOSE not in text:
            raised = record.exc_info[1]
            self.found.append(f"{text}: {type(raised).__name__}: {raised}")


@contextmanager
def _defects() -> Iterator[list[str]]:
    """What the product logs as a defect of its own while a history is lived."""
    log = logging.getLogger("coordinator")
    collector = _Collector()
    before = (log.level, log.propagate)
    log.setLevel(logging.ERROR)
    log.propagate = False
    log.addHandler(collector)
    collecting = gc.isenabled()
    gc.disable()  # worlds are circles; one collection in the end is cheaper than many
    try:
        yield collector.found
    finally:
        log.removeHandler(collector)
        log.setLevel(before[0])
        log.propagate = before[1]
        if collecting:
            gc.enable()
