"""The steps of one service's life against the world: boot, verify, terminate, look.

No record and no threads here; ``runner`` has those. A step that does not succeed raises
StepFailed, with everything a person needs to see.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from bootlevels.attributes import Attributes, MalformedReference, Unresolved, masked
from bootlevels.bootout import BadBootout, read_bootout
from bootlevels.checks import Look, look_at, wait_until_ready
from bootlevels.plan import Program, ReadyCheck, ServiceSpec
from bootlevels.plan_checks import find_program
from bootlevels.pool_gateway import CoordinatorProblem, PoolGateway
from bootlevels.transports.program import ProgramEnd, ProgramRun, Started, Transport

#: Seconds between two looks at a pool.
POOL_INTERVAL = 0.5

Tell = Callable[[str], None]


class StepFailed(Exception):
    """A step did not succeed; ``tail`` are a program's last lines, secrets masked."""

    def __init__(
        self,
        text: str,
        *,
        tail: tuple[str, ...] = (),
        unreachable: bool = False,
        interrupted: bool = False,
    ) -> None:
        self.tail = tail
        self.unreachable = unreachable
        self.interrupted = interrupted
        super().__init__(text)


@dataclass(frozen=True, kw_only=True)
class RunPlace:
    """Where a run lives, and what its programs are told. ``home`` is EPU_HOME."""

    name: str
    directory: Path
    home: Path

    def log(self, service: str) -> Path:
        return self.directory / "logs" / f"{service}.log"

    def bootout(self, service: str) -> Path:
        return self.directory / "bootout" / f"{service}.json"

    def environment(self, service: str) -> dict[str, str]:
        return {
            "EPU_HOME": str(self.home),
            "EPU_RUN": self.name,
            "EPU_RUN_DIR": str(self.directory),
            "EPU_SERVICE": service,
            "EPU_BOOTOUT": str(self.bootout(service)),
        }


@dataclass(frozen=True, kw_only=True)
class ServiceSteps:
    """``attributes`` resolves with the outputs known when it is called."""

    place: RunPlace
    plan_directory: str
    transport: Transport
    attributes: Callable[[], Attributes]
    secrets: frozenset[str] = field(default_factory=frozenset, repr=False)

    def boot(
        self,
        service: ServiceSpec,
        stop: Event,
        on_started: Callable[[Started], None],
    ) -> dict[str, str]:
        """Run the boot program, or hand the pool over. Its outputs."""
        if service.pool:
            self._hand_over(service)
        if service.boot is None:
            return {}
        bootout = self.place.bootout(service.name)
        try:
            bootout.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            bootout.unlink(missing_ok=True)
        except OSError as error:
            raise StepFailed(f"{bootout} can't be prepared: {error.strerror}") from None
        end = self._run(service, "boot", service.boot, stop, on_started)
        self._must_be_ok(end, "the boot program", service.boot.timeout)
        try:
            outputs = read_bootout(bootout)
        except BadBootout as problem:
            raise StepFailed(str(problem), tail=self._shown(end)) from None
        missing = [
            name
            for name in service.outputs
            if name not in outputs and name not in service.attributes
        ]
        if missing:
            text = f"the boot program did not give the output {', '.join(missing)}"
            raise StepFailed(f"{text} (EPU_BOOTOUT)", tail=self._shown(end))
        return outputs

    def verify(
        self,
        service: ServiceSpec,
        stop: Event,
        on_started: Callable[[Started], None],
        tell: Tell,
    ) -> str:
        """Wait until every check passes; the last one's finding, or ``no check``."""
        found = "no check"
        for check in service.ready:
            last = wait_until_ready(
                lambda limit, check=check: self._look(service, check, limit, stop, on_started),  # type: ignore[misc]
                interval=check.interval,
                timeout=check.timeout,
                stop=stop,
                tell=lambda text: tell(self._masked(text)),
            )
            found = self._verified(last, stop, f"not ready after {check.timeout:g} s")
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
        for check in service.ready:
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
        self, service: ServiceSpec, stop: Event, on_started: Callable[[Started], None]
    ) -> None:
        """Run the terminate program; a service without one has nothing to end."""
        if service.terminate is None:
            return
        end = self._run(service, "terminate", service.terminate, stop, on_started)
        self._must_be_ok(end, "the terminate program", service.terminate.timeout)

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
        attributes = self.attributes()
        registrar = attributes.plan.registrar()
        if registrar is None:
            raise StepFailed("no service of the plan provides the registrar")
        try:
            accounts = attributes.expand("${.accounts}", registrar)
            return PoolGateway(self.place.directory / accounts)
        except Unresolved as problem:
            raise StepFailed(str(problem), unreachable=True) from None
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
            if check.program is None:
                target = self.attributes().expand(check.target, service)
                return look_at(check.kind, target, self.place.directory, limit)
            end = self._run(service, "ready", check.program, stop, on_started, limit, keep_log)
        except (Unresolved, MalformedReference, StepFailed) as problem:
            return Look(ok=False, detail=str(problem), patience=0)
        last = f": {end.tail[-1]}" if end.tail and not end.ok else ""
        return Look(ok=end.ok, detail=f"{_ended(end, 'the check')}{last}", tail=end.tail)

    def _run(
        self,
        service: ServiceSpec,
        step: str,
        program: Program,
        stop: Event,
        on_started: Callable[[Started], None],
        limit: float | None = None,
        keep_log: bool = True,
    ) -> ProgramEnd:
        attributes = self.attributes()
        try:
            words = tuple(attributes.expand(word, service) for word in program.words)
            own = {k: attributes.declared(v, service) for k, v in program.environment.items()}
        except (Unresolved, MalformedReference) as problem:
            raise StepFailed(str(problem)) from None
        path = find_program(words[0], self.plan_directory)
        if path is None:
            raise StepFailed(f"there is no program '{self._masked(words[0])}'")
        request = ProgramRun(
            service=service.name,
            step=step,
            words=(path, *words[1:]),
            timeout=program.timeout if limit is None else min(program.timeout, limit),
            directory=self.place.directory,
            environment={**own, **self.place.environment(service.name)},
            log=self.place.log(service.name) if keep_log else None,
        )
        return self.transport.run(request, stop, on_started)

    def _must_be_ok(self, end: ProgramEnd, what: str, timeout: float) -> None:
        if end.interrupted:
            raise StepFailed("interrupted", interrupted=True)
        if end.timed_out:
            text = f"{what} did not end within {timeout:g} s and was ended"
            raise StepFailed(text, tail=self._shown(end))
        if not end.ok:
            raise StepFailed(_ended(end, what), tail=self._shown(end))

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

    def _shown(self, end: ProgramEnd) -> tuple[str, ...]:
        return tuple(self._masked(line) for line in end.tail)

    def _masked(self, text: str) -> str:
        return masked(text, self.secrets)


def _ended(end: ProgramEnd, what: str) -> str:
    if end.problem:
        return f"{what} {end.problem}"
    if end.exit_code is None:
        return f"{what} did not end in time"
    if end.exit_code < 0:
        return f"{what} was ended by signal {-end.exit_code}"
    return f"{what} ended with exit code {end.exit_code}"
