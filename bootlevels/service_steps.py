"""The steps of one service's life against the world: boot, verify, terminate, look.

No record and no threads here; ``runner`` has those. A step that does not succeed raises
StepFailed, with everything a person needs to see.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from threading import Event
from typing import Any

from bootlevels.attributes import Attributes, MalformedReference, Unresolved, masked
from bootlevels.checks import LOOK_LIMIT, Look, look_at, wait_until_ready
from bootlevels.first_boot import FirstBoot
from bootlevels.machine_record import MachineRecord
from bootlevels.places import Places
from bootlevels.plan import CheckKind, PoolCheck, Program, ReadyCheck, ServiceKind, ServiceSpec
from bootlevels.pool_gateway import CoordinatorProblem, PoolGateway
from bootlevels.program_steps import ProgramSteps, ended
from bootlevels.run_place import RunPlace, StepFailed
from bootlevels.transports.program import Started
from bootlevels.transports.shell_words import IS_THERE, script

__all__ = ["RunPlace", "ServiceSteps", "StepFailed"]

#: Seconds between two looks at a pool.
POOL_INTERVAL = 0.5

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class ServiceSteps:
    """``attributes`` resolves with the outputs known when it is called."""

    place: RunPlace
    places: Places
    attributes: Callable[[], Attributes]
    secrets: frozenset[str] = field(default_factory=frozenset, repr=False)

    @cached_property
    def programs(self) -> ProgramSteps:
        """The way to the programs of the services."""
        return ProgramSteps(
            place=self.place,
            places=self.places,
            attributes=self.attributes,
            secrets=self.secrets,
        )

    def request(self, service: ServiceSpec, stop: Event | None = None) -> None:
        """Have the machine of ``service`` asked for before its turn; again is harmless."""
        if service.machine is not None:
            self.places.request(service, stop or Event())

    def boot(
        self,
        service: ServiceSpec,
        stop: Event,
        on_started: Callable[[Started], None],
        tell: Tell = lambda _: None,
    ) -> dict[str, str]:
        """Launch its machine, run its boot program, or hand its pool over. Its outputs.

        Secrets that came from the environment are sealed in them (``attributes.sealed``).
        """
        if service.pool:
            self._hand_over(service)
        if service.machine is not None:
            self.places.ensure(service, stop, lambda text: tell(self._masked(text)))
        if service.boot is None:
            return {}
        return self.programs.boot(service, stop, on_started)

    def verify(
        self,
        service: ServiceSpec,
        stop: Event,
        on_started: Callable[[Started], None],
        tell: Tell,
    ) -> str:
        """Wait until every check passes; the last one's finding, or ``no check``."""
        found = "no check"
        if service.machine is not None:
            last = self.places.look(service)
            found = self._verified(last, stop, "its machine does not run")
        for check in service.ready:
            boot = FirstBoot(partial(self.places.console, service))
            look = partial(self._look, service, check, stop=stop, on_started=on_started)
            last = wait_until_ready(
                partial(boot.explained_by, look),
                interval=check.interval,
                timeout=check.timeout,
                stop=stop,
                tell=lambda text: tell(self._masked(text)),
                tries=check.tries,
            )
            after = f"{check.tries} tries" if check.tries else f"{check.timeout:g} s"
            found = self._verified(last, stop, f"not ready after {after}")
        if service.pool:
            pool = service.pool
            with self._gateway() as gateway:
                last = wait_until_ready(
                    lambda _: gateway.look(service.name, pool.verify),
                    interval=POOL_INTERVAL,
                    timeout=pool.timeout,
                    stop=stop,
                    tell=tell,
                )
            found = self._verified(last, stop, f"not {pool.verify.value} after {pool.timeout:g} s")
        return found

    def look(self, service: ServiceSpec, limit: float, stop: Event) -> Look:
        """One look at everything of ``service``, changing nothing (no log either)."""
        found = Look(ok=True, detail="no check")
        if service.machine is not None:
            found = self.places.look(service)
        for check in service.ready if found.ok else ():
            found = self._look(service, check, limit, stop, lambda _: None, keep_log=False)
            if not found.ok:
                break
        if service.pool:
            try:
                with self._gateway() as gateway:
                    found = gateway.look(service.name, service.pool.verify)
            except StepFailed as problem:
                found = Look(ok=False, detail=str(problem), unreachable=problem.unreachable)
        return Look(
            ok=found.ok,
            detail=self._masked(found.detail),
            unreachable=found.unreachable,
            tail=tuple(self._masked(line) for line in found.tail),
        )

    def terminate(
        self,
        service: ServiceSpec,
        stop: Event,
        on_started: Callable[[Started], None],
        lost: bool = False,
    ) -> None:
        """Run the terminate program, then end the machine; a service may have neither.

        ``lost``: it is broken, so its terminate program may fail. The program of a machine
        that is gone is not run.
        """
        if service.terminate is not None and self._can_run(service):
            try:
                end = self.programs.run(service, "terminate", service.terminate, stop, on_started)
                timeout = service.terminate.timeout
                self.programs.must_be_ok(end, "the terminate program", timeout)
            except StepFailed as problem:
                if problem.interrupted or not lost:
                    raise
        elif service.keeps_stage and service.machine is None:
            self._remove_stage(service, stop)
        if service.machine is not None:
            self.places.end(service, stop)

    def _remove_stage(self, service: ServiceSpec, stop: Event) -> None:
        """What its programs had beside them goes with it; a place that is gone took it along."""
        nothing = Program(words=script("exit 0"), timeout=LOOK_LIMIT)
        with suppress(StepFailed):
            if self._can_run(service):
                self.programs.run(service, "terminate", nothing, stop, lambda _: None)

    def _can_run(self, service: ServiceSpec) -> bool:
        """Whether there is a place for a program: not when its machine is certainly gone."""
        if self.places.is_local(service) or not self.places.is_launched(service):
            return True
        found = self.places.look(service)
        return found.ok or found.unreachable

    def kill(self, machine: MachineRecord, stop: Event) -> None:
        """End one machine, whatever service it is for."""
        self.places.kill(machine, stop)

    def end_leftover(self, name: str, started: Started) -> bool:
        """End what an earlier boot tool started for service ``name`` and left; True if any."""
        try:
            service = self.attributes().plan.service(name)
            return self.places.transport(service).end_leftover(started)
        except (KeyError, StepFailed):
            return self.places.local.end_leftover(started)

    def check_pool(self, name: str, section: Mapping[str, Any]) -> None:
        """Raise StepFailed when the coordinator would refuse the pool; changes nothing."""
        with self._gateway() as gateway:
            try:
                gateway.check_pool(name, section)
            except CoordinatorProblem as problem:
                raise StepFailed(str(problem), unreachable=problem.unreachable) from None

    def remove_pool(self, service: ServiceSpec, stop: Event) -> None:
        """Have all workers of the pool drained, then take it back from the coordinator."""
        assert service.pool is not None
        try:
            with self._gateway() as gateway:
                limit = service.pool.timeout + gateway.shrink_pool(service.name)
                last = wait_until_ready(
                    lambda _: gateway.look_gone(service.name),
                    interval=POOL_INTERVAL,
                    timeout=limit,
                    stop=stop,
                )
                self._verified(last, stop, f"not drained after {limit:g} s")
                gateway.remove_pool(service.name)
        except CoordinatorProblem as problem:
            raise StepFailed(str(problem), unreachable=problem.unreachable) from None

    def live_nodes(self) -> list[str]:
        """Nodes of the run's pools. Raises StepFailed when the provisioner can't be asked."""
        with self._gateway() as gateway:
            try:
                return gateway.live_nodes()
            except CoordinatorProblem as problem:
                raise StepFailed(str(problem), unreachable=problem.unreachable) from None

    # ---------------------------------------------------------------- parts

    def _hand_over(self, service: ServiceSpec) -> None:
        assert service.pool is not None
        try:
            section = self.attributes().expand_tree(service.pool.section, service)
        except (Unresolved, MalformedReference) as problem:
            raise StepFailed(str(problem)) from None
        with self._gateway() as gateway:
            try:
                gateway.add_pool(service.name, section)
            except CoordinatorProblem as problem:
                text = self._masked(str(problem))
                raise StepFailed(text, unreachable=problem.unreachable) from None

    def _gateway(self) -> PoolGateway:
        try:
            return PoolGateway(self.places.accounts())
        except CoordinatorProblem as problem:
            raise StepFailed(str(problem), unreachable=problem.unreachable) from None

    def _look(
        self,
        service: ServiceSpec,
        check: ReadyCheck,
        limit: float,
        stop: Event,
        on_started: Callable[[Started], None],
        keep_log: bool = True,
    ) -> Look:
        try:
            program = check.program
            if program is None:
                target = self.attributes().expand(check.target, service)
                if check.kind is CheckKind.POOL:
                    with self._gateway() as gateway:
                        return gateway.look(target, PoolCheck.STABLE)
                if check.kind is not CheckKind.FILE or self._is_here(service):
                    return look_at(check.kind, target, self.place.directory, limit)
                # Not references any more: ``expand`` must find nothing in the target.
                words = script(IS_THERE, target.replace("${", "$${"))
                program = Program(words=words, timeout=LOOK_LIMIT)
            end = self.programs.run(service, "ready", program, stop, on_started, limit, keep_log)
        except (Unresolved, MalformedReference) as problem:
            return Look(ok=False, detail=str(problem), patience=0)
        except StepFailed as problem:
            patience = None if problem.unreachable else 0
            return Look(
                ok=False, detail=str(problem), patience=patience, unreachable=problem.unreachable
            )
        last = f": {end.tail[-1]}" if end.tail and not end.ok else ""
        return Look(
            ok=end.ok,
            detail=f"{ended(end, 'the check')}{last}",
            tail=end.tail,
            unreachable=end.unreachable,
        )

    def _is_here(self, service: ServiceSpec) -> bool:
        """Whether files of ``service`` are files of this machine."""
        if service.kind in (ServiceKind.ATTRIBUTES, ServiceKind.POOL):
            return True
        return self.places.is_local(service)

    def _verified(self, last: Look, stop: Event, why: str) -> str:
        if last.ok:
            return self._masked(last.detail)
        if stop.is_set():
            raise StepFailed("interrupted", interrupted=True)
        tail = tuple(self._masked(line) for line in last.tail)
        text = (
            self._masked(last.detail)
            if last.patience is not None
            else (f"{why}: {self._masked(last.detail)}")
        )
        raise StepFailed(text, tail=tail, unreachable=last.unreachable)

    def _masked(self, text: str) -> str:
        return masked(text, self.secrets)
