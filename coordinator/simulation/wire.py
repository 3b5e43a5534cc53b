"""The simulated bus: calls with deadlines and beats, which are lost, doubled and late."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from agent.rpc_client import BrokerUnreachable, CallFailed, CallTimeout, RemoteError, UnknownService
from coordinator.errors import EpuError
from coordinator.simulation.event_queue import EventQueue
from coordinator.simulation.processes import Killed, Process

#: Who gives no deadline waits so long, s.
TIMEOUT = 10.0
#: A client notices within so many seconds that the broker is away.
NOTICED = 1.0

Serve = Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class Weather:
    """What happens to messages now: shares that are lost, doubled, late; at most how late, s."""

    lost: float = 0.0
    doubled: float = 0.0
    late: float = 0.0
    latest: float = 0.0


class Wire:
    """``services``: name → who answers ``(method, *args)``; None where nobody serves now."""

    def __init__(self, queue: EventQueue, rng: random.Random, latency: float) -> None:
        self.away = False
        self.weather = Weather()
        #: Kills a process; set by the world.
        self.kill: Callable[[Process[Any], float], None] = lambda process, down: None
        self.services: Callable[[str], Serve | None] = lambda name: None
        self._queue = queue
        self._rng = rng
        self._latency = latency

    # ---------------------------------------------------------------- calls

    def caller(self, process: Process[Any]) -> Callable[..., Any]:
        """``call(service, method, *args, timeout=…)`` as this life of ``process`` makes it."""

        def call(service: str, method: str, *args: Any, timeout: float | None = None) -> Any:
            return self._call(
                process, service, method, args, TIMEOUT if timeout is None else timeout
            )

        return call

    def _call(
        self,
        process: Process[Any],
        service: str,
        method: str,
        args: tuple[Any, ...],
        timeout: float,
    ) -> Any:
        life = process.life
        self._die_if(process, "before", life)
        if self.away:
            self._pass(process, life, min(timeout, NOTICED))
            raise BrokerUnreachable("the broker is away")
        if service.startswith("agent-"):
            return self._serve(service, method, args)
        lost, late = self._fate()
        if late:
            self._pass(process, life, min(late, timeout))
            if late >= timeout:
                raise CallTimeout(f"{service}.{method}: no answer in {timeout:g} s")
        if lost == "request":
            self._pass(process, life, timeout)
            raise CallTimeout(f"{service}.{method}: no answer in {timeout:g} s")
        if self.away:
            raise BrokerUnreachable("the broker went away")
        answer = self._serve(service, method, args)
        if self.weather.doubled and self._rng.random() < self.weather.doubled:
            again = self._rng.uniform(0.0, 20.0)
            repeat = partial(self._again, service, method, args)
            self._queue.after(again, f"{service}.{method} again", repeat)
        process.still(life)
        self._die_if(process, "after", life)
        if lost == "answer":
            self._pass(process, life, timeout)
            raise CallTimeout(f"{service}.{method}: the answer was lost")
        self._pass(process, life, self._rng.uniform(0.0, self._latency) if self._latency else 0.0)
        return answer

    def _serve(self, service: str, method: str, args: tuple[Any, ...]) -> Any:
        serve = self.services(service)
        if serve is None:
            raise UnknownService(f"nobody serves {service}")
        try:
            return serve(method, *args)
        except EpuError as problem:
            raise RemoteError(type(problem).__name__, str(problem)) from None
        except Killed as killed:
            if killed.process != service:
                raise
            raise CallTimeout(f"{service} was killed in {method}") from None

    def _again(self, service: str, method: str, args: tuple[Any, ...]) -> None:
        """A request that is delivered a second time; nobody waits for its answer."""
        with suppress(CallFailed):
            self._serve(service, method, args)

    def _fate(self) -> tuple[str, float]:
        weather = self.weather
        late = self._rng.uniform(0.0, self._latency) if self._latency else 0.0
        if weather.late and self._rng.random() < weather.late:
            late += self._rng.uniform(0.0, weather.latest)
        if weather.lost and self._rng.random() < weather.lost:
            return self._rng.choice(("request", "answer")), late
        return "", late

    def _pass(self, process: Process[Any], life: int, seconds: float) -> None:
        if seconds > 0:
            self._queue.wait(seconds)
        process.still(life)

    def _die_if(self, process: Process[Any], point: str, life: int) -> None:
        if process.doomed is not None and process.doomed[0] == point:
            self.kill(process, process.doomed[1])
            raise Killed(process.name, life)

    # ---------------------------------------------------------------- beats

    def send(self, label: str, deliver: Callable[[], None]) -> bool:
        """A message that nobody waits for; False when the broker could not take it."""
        if self.away:
            return False
        weather = self.weather
        if weather.lost and self._rng.random() < weather.lost:
            return True
        copies = 2 if weather.doubled and self._rng.random() < weather.doubled else 1
        for _ in range(copies):
            if weather.late and self._rng.random() < weather.late:
                late = self._rng.uniform(0.0, weather.latest)
                self._queue.after(late, label, lambda: None if self.away else deliver())
            else:
                deliver()
        return True


def words(answers: Mapping[str, Serve]) -> Serve:
    """A service from its methods by name."""

    def serve(method: str, *args: Any) -> Any:
        return answers[method](*args)

    return serve
