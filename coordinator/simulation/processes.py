"""Processes that are killed and start again: a new object from the stores each time.

A process' frames may be on the stack when it is killed (it waits for an answer, and time
passes). When such a call comes back, ``Killed`` takes those frames away up to where the
process was called: nothing after the call is executed, as after ``kill -9``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from coordinator.simulation.event_queue import EventQueue

T = TypeVar("T")


class Killed(BaseException):
    """Takes the frames of a killed life away. Nothing in the product catches it."""

    def __init__(self, process: str, life: int) -> None:
        super().__init__(process)
        self.process, self.life = process, life


class Process(Generic[T]):
    """One of the coordinator's processes. ``build`` makes its parts from what is stored.

    Its clock is steady, as ours are: what the system's clock says when it starts, plus what
    passes. ``doomed``: it dies at the next call it makes, before or after the other side
    acts, and is away for so many seconds.
    """

    def __init__(self, name: str, queue: EventQueue, build: Callable[[], T]) -> None:
        self.name = name
        self.life = 0
        self.doomed: tuple[str, float] | None = None
        self._queue = queue
        self._build = build
        self._running: set[str] = set()
        self._offset = 0.0
        self._part: T | None = None

    @property
    def up(self) -> bool:
        """Whether it runs."""
        return self._part is not None

    @property
    def part(self) -> T:
        """The object behind its service. Only while it is up."""
        assert self._part is not None
        return self._part

    def clock(self) -> float:
        """What it takes the time to be, epoch seconds."""
        return self._queue.now + self._offset

    def start(self, wall_offset: float) -> None:
        """A new life; ``wall_offset`` is by how much the system's clock is wrong now."""
        self._offset = wall_offset
        self.life += 1
        self._running = set()
        self._part = self._build()

    def kill(self) -> None:
        """kill -9: everything in memory is gone."""
        self._part = None
        self.doomed = None

    def enter(self, what: str, work: Callable[[], None], alone: bool = True) -> None:
        """Run one of its timers or handlers; ``alone``: never the same twice at once."""
        if not self.up or (alone and what in self._running):
            return
        running, life = self._running, self.life
        running.add(what)
        try:
            work()
        except Killed as killed:
            if (killed.process, killed.life) != (self.name, life):
                raise
        finally:
            running.discard(what)

    def still(self, life: int) -> None:
        """Go on only if it still is the same life. Raises Killed."""
        if not self.up or self.life != life:
            raise Killed(self.name, life)
