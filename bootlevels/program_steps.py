"""Programs of services: what each is given, where it runs, what it tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from secrets import token_hex
from threading import Event

from bootlevels.attributes import (
    Attributes,
    MalformedReference,
    Unresolved,
    masked,
    named_secrets,
    sealed,
)
from bootlevels.bootconf import BadTemplate, bootenv, filled
from bootlevels.bootout import BadBootout, parse_bootout, read_bootout
from bootlevels.place_checks import find_program
from bootlevels.places import Places
from bootlevels.plan import Program, ServiceSpec
from bootlevels.run_place import RunPlace, StepFailed
from bootlevels.staging import BOOTCONF, BOOTENV, carried_file, needs_stage, stage_for
from bootlevels.transports.program import ProgramEnd, ProgramRun, Started

OnStarted = Callable[[Started], None]


@dataclass(frozen=True, kw_only=True)
class ProgramSteps:
    """Runs the programs of one run's services. Every method may raise StepFailed."""

    place: RunPlace
    places: Places
    attributes: Callable[[], Attributes]
    secrets: frozenset[str] = field(default_factory=frozenset, repr=False)

    def boot(self, service: ServiceSpec, stop: Event, on_started: OnStarted) -> dict[str, str]:
        """Run the boot program. Its outputs, secrets in them sealed."""
        assert service.boot is not None
        bootout = self.place.bootout(service.name)
        try:
            bootout.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            bootout.unlink(missing_ok=True)
        except OSError as error:
            raise StepFailed(f"{bootout} can't be prepared: {error.strerror}") from None
        end = self.run(service, "boot", service.boot, stop, on_started)
        self.must_be_ok(end, "the boot program", service.boot.timeout)
        try:
            outputs = (
                read_bootout(bootout)
                if end.bootout is None
                else parse_bootout(end.bootout, "bootout.json")
            )
        except BadBootout as problem:
            raise StepFailed(str(problem), tail=self.shown(end)) from None
        finally:
            bootout.unlink(missing_ok=True)  # what is in it may be secret, and is on record
        missing = [
            name
            for name in service.outputs
            if name not in outputs and name not in service.attributes
        ]
        if missing:
            text = f"the boot program did not give the output {', '.join(missing)}"
            raise StepFailed(f"{text} (EPU_BOOTOUT)", tail=self.shown(end))
        if not outputs:
            return {}
        known = self.attributes()
        named = named_secrets(known.plan, known.environment)
        return {name: sealed(text, named) for name, text in outputs.items()}

    def run(
        self,
        service: ServiceSpec,
        step: str,
        program: Program,
        stop: Event,
        on_started: OnStarted,
        limit: float | None = None,
        keep_log: bool = True,
    ) -> ProgramEnd:
        """Run one program where the service is, to its end or its time-out."""
        transport = self.places.transport(service)
        request = self._request(service, step, program, limit, keep_log)
        return transport.run(request, stop, on_started)

    def _request(
        self,
        service: ServiceSpec,
        step: str,
        program: Program,
        limit: float | None,
        keep_log: bool,
    ) -> ProgramRun:
        known = self.attributes()
        is_local = self.places.is_local(service)
        try:
            words = tuple(known.expand(word, service) for word in program.words)
            environment = {k: known.declared(v, service) for k, v in program.environment.items()}
            carried = carried_file(program, words[0], known.plan.directory)
            stage = None
            if carried is None and is_local:
                words = (self._found(words[0], known.plan.directory), *words[1:])
            if not is_local or needs_stage(service, program, carried):
                files = self._files(service, known)
                # A look goes on beside the one command that may change the run.
                name = f"{service.name}-{step}" + ("" if keep_log else f"-{token_hex(4)}")
                stage, words = stage_for(name, words, carried, files)
                if service.keeps_stage:
                    stage = replace(
                        stage, name=service.name, anew=step == "boot", removed=step == "terminate"
                    )
        except (Unresolved, MalformedReference, BadTemplate) as problem:
            raise StepFailed(self.masked(str(problem))) from None
        if carried is not None and not carried.path.is_file():
            raise StepFailed(f"there is no program '{self.masked(str(carried.path))}'")
        if is_local:
            environment |= self.place.environment(service.name)
        else:
            environment |= self.place.environment_elsewhere(service.name)
        return ProgramRun(
            service=service.name,
            step=step,
            words=words,
            timeout=program.timeout if limit is None else min(program.timeout, limit),
            directory=self.place.directory,
            environment=environment,
            log=self.place.log(service.name) if keep_log else None,
            stage=stage,
            secrets=self.secrets,
        )

    def _found(self, word: str, directory: str) -> str:
        path = find_program(word, directory)
        if path is None:
            raise StepFailed(f"there is no program '{self.masked(word)}'")
        return path

    def _files(self, service: ServiceSpec, known: Attributes) -> dict[str, str]:
        """What lies beside a program: ``bootenv.sh``, and ``bootconf.json`` if there is one."""
        values = {"run_name": self.place.name, **known.of(service.name)}
        files = {BOOTENV: bootenv(values)}
        if service.bootconf:
            path = self.places.file(service.bootconf, service)
            try:
                template = path.read_bytes().decode("utf-8-sig")
            except (OSError, UnicodeDecodeError):
                raise StepFailed(f"bootconf '{path}' can't be read") from None
            try:
                files[BOOTCONF] = filled(template, values)
            except BadTemplate as problem:
                raise BadTemplate(f"bootconf '{path}': {problem}") from None
        return files

    # ---------------------------------------------------------------- how it went

    def must_be_ok(self, end: ProgramEnd, what: str, timeout: float) -> None:
        """Raise StepFailed for every end but exit code 0."""
        if end.interrupted:
            raise StepFailed("interrupted", interrupted=True)
        if end.timed_out:
            text = f"{what} did not end within {timeout:g} s and was ended"
            raise StepFailed(text, tail=self.shown(end))
        if not end.ok:
            text = self.masked(ended(end, what))
            raise StepFailed(text, tail=self.shown(end), unreachable=end.unreachable)

    def shown(self, end: ProgramEnd) -> tuple[str, ...]:
        return tuple(self.masked(line) for line in end.tail)

    def masked(self, text: str) -> str:
        return masked(text, self.secrets)


def ended(end: ProgramEnd, what: str) -> str:
    """How a program ended, as a sentence about ``what``."""
    if end.problem:
        return f"{what} {end.problem}"
    if end.exit_code is None:
        return f"{what} did not end in time"
    if end.exit_code < 0:
        return f"{what} was ended by signal {-end.exit_code}"
    return f"{what} ended with exit code {end.exit_code}"
