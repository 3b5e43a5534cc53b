"""Where a node is in its start, step by step: for the coordinator, and for its console.

What is told before enrolment reaches the coordinator with the request to enrol; when it
never comes to that, the console is all there is, so each step is a line of the log that
``coordinator.provisioner.boot_failure`` reads back.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from agent.messages import StartStep

log = logging.getLogger(__name__)

#: Steps that are kept, and characters of a step's name and of its detail.
STEPS_KEPT = 20
NAME_LIMIT = 120
DETAIL_LIMIT = 1000


class StartLog:
    """The steps of one start, oldest first. A step that goes on replaces what it said before."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._steps: list[StartStep] = []

    def tell(self, name: str, detail: str = "") -> None:
        """Step ``name`` is reached, or stands as ``detail`` says. Repeating it says nothing new."""
        step = StartStep(name=name[:NAME_LIMIT], detail=_shortened(detail), at=self._clock())
        last = self._steps[-1] if self._steps else None
        if last is not None and (last.name, last.detail) == (step.name, step.detail):
            return
        if last is not None and last.name == step.name:
            self._steps.pop()
        self._steps = [*self._steps, step][-STEPS_KEPT:]
        log.info("[%s] %s", step.name, " | ".join(step.detail.splitlines()))

    @property
    def steps(self) -> tuple[StartStep, ...]:
        """All of them, oldest first."""
        return tuple(self._steps)

    @property
    def latest(self) -> StartStep | None:
        """Where the start is now."""
        return self._steps[-1] if self._steps else None


def _shortened(text: str) -> str:
    """What a step says, at most DETAIL_LIMIT characters: its begin, and more of its end."""
    if len(text) <= DETAIL_LIMIT:
        return text
    return f"{text[:200]} … {text[203 - DETAIL_LIMIT :]}"
