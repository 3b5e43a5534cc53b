"""One service at a time: what is done with it and what is written down before and after.

The record is written before a step and after it, so whatever ends this process in between,
the next boot tool goes on from there. Called from many threads, one for each service.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event, Lock

from bootlevels.boot_sequence import ServiceAction, ServiceState, next_boot_action
from bootlevels.inputs import Staleness, digest_of, staleness
from bootlevels.moments import Failure, Moment, Phase, Watcher, silent
from bootlevels.plan import LaunchPlan, ServiceKind, ServiceSpec
from bootlevels.record import Record
from bootlevels.service_steps import ServiceSteps, StepFailed
from bootlevels.transports.program import Started

#: How often a watcher may ask for the same service again.
MAX_RESTARTS = 3
#: Longest look at a service that was verified before, seconds.
LOOK_LIMIT = 10.0
#: One look that fails may be a blink: so many must fail, so many seconds apart.
LOOKS = 3
LOOK_INTERVAL = 1.0


@dataclass
class ServiceLife:
    """What one attempt does with each service, and what it has found so far.

    ``tries``: how often a broken service is replaced; 0 for a boot, which reports it.
    """

    plan: LaunchPlan
    record: Record
    steps: ServiceSteps
    stop: Event
    tries: int = 0
    watch: Watcher = silent
    clock: Callable[[], float] = time.time
    failures: dict[str, Failure] = field(default_factory=dict)
    well: set[str] = field(default_factory=set)
    repaired: set[str] = field(default_factory=set)
    _watch_lock: Lock = field(default_factory=Lock)

    # ---------------------------------------------------------------- forward

    def bring_up(self, service: ServiceSpec) -> None:
        """Bring ``service`` to VERIFIED and see that it is well, or note its failure."""
        restarts = tries = 0
        while not self.stop.is_set():
            state = self.record.service(service.name).state
            action = next_boot_action(state)
            if action is None:
                if service.name in self.well:
                    return
                action = ServiceAction.CHECK
            try:
                self._do(service, action)
            except StepFailed as problem:
                if not problem.interrupted and tries < self.tries:
                    tries += 1
                    self._give_up(service, action, problem, tries)
                    continue
                answer = self._failed(service, action, problem)
                if answer != "restart" or problem.interrupted or restarts >= MAX_RESTARTS:
                    return
                restarts += 1
                del self.failures[service.name]
                self._launched(service)

    def _do(self, service: ServiceSpec, action: ServiceAction) -> None:
        match action:
            case ServiceAction.BOOT:
                self._boot(service)
            case ServiceAction.VERIFY:
                self._verify(service)
            case ServiceAction.CHECK:
                self._check(service)
            case ServiceAction.REPLACE:
                self._end_for_good(service, lost=True)

    def _boot(self, service: ServiceSpec) -> None:
        def told(text: str) -> None:
            self.tell(service, "transition", "boot", text)

        self.tell(service, "starting", "boot", "booting")
        self._launched(service)
        outputs = self.steps.boot(service, self.stop, self._noting(service), told)
        self.record.booted(service.name, outputs, self.clock(), wait=False)
        self.tell(service, "transition", "boot", "booted")

    def _launched(self, service: ServiceSpec) -> None:
        # A program's mark is written, and waited for, before the program exists; this
        # row goes with it. Whatever else a boot does must find this row on the disk.
        wait = service.kind is not ServiceKind.LOCAL
        digest = digest_of(service, self.steps.attributes(), self._place(service))
        self.record.launched(service.name, self.clock(), digest, wait=wait)

    def _verify(self, service: ServiceSpec) -> None:
        def told(text: str) -> None:
            self.tell(service, "transition", "verify", text)

        found = self.steps.verify(service, self.stop, self._noting(service), told)
        self.record.verified(service.name, self.clock(), wait=False)
        self.well.add(service.name)
        self.tell(service, "complete", "verify", f"verified: {found}")

    def _check(self, service: ServiceSpec) -> None:
        """See whether what was verified once is well, and of the values it has now."""
        record = self.record.service(service.name)
        now = digest_of(service, self.steps.attributes(), self._place(service))
        match staleness(record.inputs, now):
            case Staleness.MACHINE if not self.tries:
                text = "its machine was launched with values that have changed"
                raise StepFailed(f"{text}: a repair replaces it")
            case Staleness.MACHINE:
                self.repaired.add(service.name)
                what = "its machine was launched with values that have changed: replacing it"
                self.tell(service, "transition", "check", what)
                self.record.replacing(service.name)
                return
            case Staleness.CONFIGURATION:
                self.repaired.add(service.name)
                what = "it was booted with values that have changed: booting it again"
                self.tell(service, "transition", "check", what)
                self._launched(service)
                return
        looks = LOOKS if self.tries else 1
        for left in reversed(range(looks)):
            found = self.steps.look(service, LOOK_LIMIT, self.stop)
            if found.ok:
                self.record.verified(service.name, self.clock(), wait=False)
                self.well.add(service.name)
                self.tell(service, "complete", "check", f"still well: {found.detail}")
                return
            if not left or self.stop.wait(LOOK_INTERVAL):
                break
        if self.stop.is_set():
            raise StepFailed("interrupted", interrupted=True)
        text = f"was verified before and is not well now: {found.detail}"
        raise StepFailed(text, tail=found.tail, unreachable=found.unreachable)

    def _give_up(
        self, service: ServiceSpec, action: ServiceAction, problem: StepFailed, tries: int
    ) -> None:
        """What there is of it is worth nothing; the next round ends it and boots anew."""
        self.repaired.add(service.name)
        what = f"{action.value} failed: {problem}; replacing it, try {tries} of {self.tries}"
        self.tell(service, "transition", action.value, what, problem.tail)
        state = self.record.service(service.name).state
        if service.kind is ServiceKind.POOL:
            # Its workers are the coordinator's, which compensates; it is handed over again.
            if state is not ServiceState.REPLACING:
                self._launched(service)
        elif state is not ServiceState.NEW:
            self.record.replacing(service.name)

    # ---------------------------------------------------------------- early

    def request(self, service: ServiceSpec) -> None:
        """Have its machine launched before its level's turn; that turn tells of trouble."""
        if self.stop.is_set() or self.record.service(service.name).state is not ServiceState.NEW:
            return
        self.tell(service, "starting", "request", "its machine is asked for early")
        self.record.requested(service.name, self.clock())
        try:
            self.steps.request(service, self.stop)
        except StepFailed as problem:
            self.tell(service, "transition", "request", f"can't be had early: {problem}")

    # ---------------------------------------------------------------- backward

    def bring_down(self, service: ServiceSpec) -> None:
        """End ``service`` for the end of its run."""
        if self.stop.is_set():
            return
        self.tell(service, "starting", "terminate", "terminating")
        self.record.terminating(service.name)
        try:
            self.steps.terminate(service, self.stop, self._noting(service))
        except StepFailed as problem:
            self._failed(service, ServiceAction.TERMINATE, problem)
            return
        self.record.terminated(service.name, self.clock())
        self.tell(service, "complete", "terminate", "terminated")

    def remove(self, service: ServiceSpec) -> None:
        """End ``service``, which the plan will not have any more, or have otherwise."""
        if self.stop.is_set():
            return
        try:
            self._end_for_good(service, lost=False)
        except StepFailed as problem:
            self._failed(service, ServiceAction.TERMINATE, problem)

    def _end_for_good(self, service: ServiceSpec, *, lost: bool) -> None:
        self.tell(service, "starting", "terminate", "ending what is left of it")
        self.record.replacing(service.name)
        if service.kind is ServiceKind.POOL and not lost:
            self.steps.remove_pool(service, self.stop)
        elif service.kind is not ServiceKind.POOL:
            self.steps.terminate(service, self.stop, self._noting(service), lost=lost)
        self.record.removed(service.name, self.clock())
        self.tell(service, "transition", "terminate", "ended")

    # ---------------------------------------------------------------- parts

    def _place(self, service: ServiceSpec) -> str:
        """What tells the machine of a co-resident from a later one."""
        if service.kind is not ServiceKind.RESIDENT:
            return ""
        machines = self.record.machines(self.plan.landlord(service).name)
        return machines[-1].launch_id if machines else ""

    def _failed(
        self, service: ServiceSpec, action: ServiceAction, problem: StepFailed
    ) -> str | None:
        self.record.failed(service.name, action.value, str(problem), self.clock())
        self.failures[service.name] = Failure(
            service=service.name,
            action=action.value,
            text=str(problem),
            tail=problem.tail,
            unreachable=problem.unreachable,
        )
        return self.tell(service, "error", action.value, str(problem), problem.tail)

    def _noting(self, service: ServiceSpec) -> Callable[[Started], None]:
        return lambda started: self.record.program_started(service.name, started)

    def tell(
        self,
        service: ServiceSpec,
        phase: Phase,
        action: str,
        text: str,
        tail: tuple[str, ...] = (),
    ) -> str | None:
        """Tell the watcher of ``service``; its answer."""
        level = self.plan.level_of(service.name)
        moment = Moment(
            scope="service",
            phase=phase,
            level=level,
            service=service.name,
            action=action,
            text=text,
            tail=tail,
        )
        with self._watch_lock:
            return self.watch(moment)

    def tell_level(self, number: int, phase: Phase, action: str, text: str = "") -> None:
        """Tell the watcher of a level."""
        moment = Moment(scope="level", phase=phase, level=number, action=action, text=text)
        with self._watch_lock:
            self.watch(moment)
