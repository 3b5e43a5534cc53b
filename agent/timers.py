"""Timers of nameko services that skip what they missed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import eventlet
from eventlet.event import Event as GreenEvent
from nameko.extensions import Entrypoint

from agent.process import log_failure


class _SteadyTimer(Entrypoint):  # type: ignore[misc]
    """Calls its method every ``seconds``; a tick that comes late is skipped, not made up.

    ``seconds`` may be a function of the process's config.
    """

    def __init__(
        self, seconds: float | Callable[[dict[str, Any]], float], eager: bool = False, **kwargs: Any
    ) -> None:
        self.seconds = seconds
        self.eager = eager
        self.should_stop = GreenEvent()
        self.done = GreenEvent()
        self.thread: Any = None
        super().__init__(**kwargs)

    def start(self) -> None:
        self.thread = self.container.spawn_managed_thread(self._run)

    def stop(self) -> None:
        self.should_stop.send(True)
        self.thread.wait()

    def kill(self) -> None:
        self.thread.kill()

    def _run(self) -> None:
        period = self.seconds(self.container.config) if callable(self.seconds) else self.seconds
        due = time.monotonic() + (0 if self.eager else period)
        while not self._stopped_within(due - time.monotonic()):
            self.container.spawn_worker(self, (), {}, handle_result=self._finished)
            self.done.wait()
            self.done.reset()
            due = next_tick(due, period, time.monotonic())

    def _stopped_within(self, seconds: float) -> bool:
        with eventlet.Timeout(max(seconds, 0), exception=False):
            self.should_stop.wait()
        return bool(self.should_stop.ready())

    def _finished(self, _context: Any, result: Any, exc_info: Any) -> tuple[Any, Any]:
        if exc_info is not None:
            log_failure(self.method_name, exc_info)
        self.done.send()
        return result, exc_info


def every(seconds: float | Callable[[dict[str, Any]], float], eager: bool = False) -> Any:
    """``@every(1.0)``: call the method each ``seconds``; ``eager``: also at once."""
    # By name: nameko takes a lone function for the method to be decorated.
    return _SteadyTimer.decorator(seconds=seconds, eager=eager)


def next_tick(due: float, period: float, now: float) -> float:
    """The first tick of the series after ``due`` that is not already past at ``now``."""
    following = due + period
    if following >= now:
        return following
    missed = int((now - following) / period) + 1
    return following + missed * period
