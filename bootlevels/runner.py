"""Carries out what ``boot_sequence`` says comes next, a level at a time.

Services of a level run in threads, one each. The record is written before a step and after
it; whatever ends this process in between, the next boot tool goes on from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import Literal

from bootlevels.boot_sequence import (
    Finished,
    LevelFailed,
    NextStep,
    ServiceAction,
    StartLevel,
    States,
    next_boot_action,
    next_boot_step,
    next_termination_step,
)
from bootlevels.plan import LaunchPlan, ServiceSpec
from bootlevels.record import Record
from bootlevels.service_steps import ServiceSteps, StepFailed
from bootlevels.transports.program import Started

MAX_THREADS = 32
#: How often a watcher may ask for the same service again.
MAX_RESTARTS = 3

Scope = Literal["level", "service"]
Phase = Literal["starting", "transition", "complete", "error"]


class Interrupted(Exception):
    """Ended by a signal: programs are ended, the record is right."""


@dataclass(frozen=True, kw_only=True)
class Moment:
    """Something that a watcher is told. ``service`` is empty for a level."""

    scope: Scope
    phase: Phase
    level: int
    service: str = ""
    action: str = ""
    text: str = ""
    tail: tuple[str, ...] = ()


#: Told of every moment, one at a time, from any thread. The answer ``"restart"`` to a
#: service's error boots that service again.
Watcher = Callable[[Moment], str | None]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A service that did not get where it should be. ``unreachable``: nobody to ask."""

    service: str
    action: str
    text: str
    tail: tuple[str, ...] = ()
    unreachable: bool = False


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a boot or a termination went."""

    failures: tuple[Failure, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.failures


def _silent(_: Moment) -> None:
    return None


@dataclass
class Runner:
    """One attempt to boot or to terminate; ``stop`` ends it early and cleanly."""

    plan: LaunchPlan
    record: Record
    steps: ServiceSteps
    watch: Watcher = _silent
    clock: Callable[[], float] = time.time
    stop: Event = field(default_factory=Event)
    _failures: dict[str, Failure] = field(default_factory=dict)
    _watch_lock: Lock = field(default_factory=Lock)

    def boot(self) -> Outcome:
        """Bring every level up. Raises Interrupted and RecordProblem."""
        self._end_leftovers()
        outcome = self._levels(next_boot_step, self._boot_service, "boot")
        if outcome.ok:
            self.record.mark_booted(self.clock())
        return outcome

    def terminate(self) -> Outcome:
        """Take every level down, highest first. Raises Interrupted and RecordProblem."""
        self._end_leftovers()
        outcome = self._levels(next_termination_step, self._terminate_service, "terminate")
        if outcome.ok:
            self.record.mark_terminated(self.clock())
        return outcome

    # ---------------------------------------------------------------- levels

    def _levels(
        self,
        next_step: Callable[[LaunchPlan, States, frozenset[str]], NextStep],
        work: Callable[[int, ServiceSpec], None],
        action: str,
    ) -> Outcome:
        while True:
            step = next_step(self.plan, self.record.states(), frozenset(self._failures))
            match step:
                case StartLevel(number, services, description):
                    self._level(number, "starting", action, description)
                    self._together(number, services, work)
                    if not self._failures.keys() & {service.name for service in services}:
                        self._level(number, "complete", action)
                case LevelFailed(number, failed):
                    self._level(number, "error", action, f"failed: {', '.join(failed)}")
                    return Outcome(failures=tuple(self._failures.values()))
                case Finished():
                    return Outcome()

    def _together(
        self,
        number: int,
        services: tuple[ServiceSpec, ...],
        work: Callable[[int, ServiceSpec], None],
    ) -> None:
        threads = ThreadPoolExecutor(min(len(services), MAX_THREADS), "service")
        try:
            self._gather([threads.submit(work, number, service) for service in services])
        except BaseException:
            self.stop.set()
            raise
        finally:
            threads.shutdown(wait=True, cancel_futures=True)
        if self.stop.is_set():
            raise Interrupted

    def _gather(self, futures: Iterable[Future[None]]) -> None:
        """Wait for all; a first Ctrl-C stops the programs, further ones change nothing."""
        waiting = set(futures)
        broken: BaseException | None = None
        while waiting:
            try:
                done, waiting = wait(waiting, return_when="FIRST_COMPLETED")
            except KeyboardInterrupt:
                self.stop.set()
                continue
            for future in done:
                problem = future.exception()
                if problem is not None and broken is None:
                    # A full disk, or a defect: no sense in going on with the others.
                    broken = problem
                    self.stop.set()
        if broken is not None:
            raise broken

    # ---------------------------------------------------------------- services

    def _boot_service(self, number: int, service: ServiceSpec) -> None:
        restarts = 0
        while action := next_boot_action(self.record.service(service.name).state):
            if self.stop.is_set():
                return
            try:
                if action is ServiceAction.BOOT:
                    self._boot(number, service)
                else:
                    self._verify(number, service)
            except StepFailed as problem:
                answer = self._failed(number, service, action, problem)
                if answer != "restart" or problem.interrupted or restarts >= MAX_RESTARTS:
                    return
                restarts += 1
                del self._failures[service.name]
                self.record.launched(service.name, self.clock())

    def _boot(self, number: int, service: ServiceSpec) -> None:
        self._service(number, service, "starting", "boot", "booting")
        self.record.launched(service.name, self.clock())
        outputs = self.steps.boot(service, self.stop, self._noting(service))
        self.record.program_ended(service.name)
        self.record.booted(service.name, outputs, self.clock())
        self._service(number, service, "transition", "boot", "booted")

    def _verify(self, number: int, service: ServiceSpec) -> None:
        def tell(text: str) -> None:
            self._service(number, service, "transition", "verify", text)

        found = self.steps.verify(service, self.stop, self._noting(service), tell)
        self.record.program_ended(service.name)
        self.record.verified(service.name, self.clock())
        self._service(number, service, "complete", "verify", f"verified: {found}")

    def _terminate_service(self, number: int, service: ServiceSpec) -> None:
        if self.stop.is_set():
            return
        self._service(number, service, "starting", "terminate", "terminating")
        self.record.terminating(service.name)
        try:
            self.steps.terminate(service, self.stop, self._noting(service))
        except StepFailed as problem:
            self._failed(number, service, ServiceAction.TERMINATE, problem)
            return
        self.record.program_ended(service.name)
        self.record.terminated(service.name, self.clock())
        self._service(number, service, "complete", "terminate", "terminated")

    def _failed(
        self, number: int, service: ServiceSpec, action: ServiceAction, problem: StepFailed
    ) -> str | None:
        self.record.program_ended(service.name)
        self.record.failed(service.name, action.value, str(problem), self.clock())
        self._failures[service.name] = Failure(
            service=service.name,
            action=action.value,
            text=str(problem),
            tail=problem.tail,
            unreachable=problem.unreachable,
        )
        return self._tell(
            Moment(
                scope="service",
                phase="error",
                level=number,
                service=service.name,
                action=action.value,
                text=str(problem),
                tail=problem.tail,
            )
        )

    def _noting(self, service: ServiceSpec) -> Callable[[Started], None]:
        return lambda started: self.record.program_started(service.name, started)

    def _end_leftovers(self) -> None:
        """End programs of a boot tool that was killed: their work is about to be redone."""
        for name, service in self.record.services().items():
            if service.running:
                self.steps.transport.end_leftover(service.running)
                self.record.program_ended(name)

    def _level(self, number: int, phase: Phase, action: str, text: str = "") -> None:
        self._tell(Moment(scope="level", phase=phase, level=number, action=action, text=text))

    def _service(
        self, number: int, service: ServiceSpec, phase: Phase, action: str, text: str
    ) -> None:
        self._tell(
            Moment(
                scope="service",
                phase=phase,
                level=number,
                service=service.name,
                action=action,
                text=text,
            )
        )

    def _tell(self, moment: Moment) -> str | None:
        with self._watch_lock:
            return self.watch(moment)
