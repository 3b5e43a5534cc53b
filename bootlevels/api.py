"""A run as other programs see it: open it, look at it, boot it, end it.

Runs live in ``<home>/runs/<run>/``; ``home`` is EPU_HOME, ``~/.epu`` when not set. Opening
for reading takes no lock and works while a boot goes on.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from threading import Event

from bootlevels.attributes import Attributes, secrets_of
from bootlevels.boot_sequence import ServiceState, is_stopping
from bootlevels.cloud_drivers import CloudDrivers
from bootlevels.machine_facts import machine_facts
from bootlevels.machine_record import MachineRecord
from bootlevels.moments import Outcome, Watcher, silent
from bootlevels.places import places_of
from bootlevels.plan import LaunchPlan, ServiceSpec
from bootlevels.plan_choices import PlanChoices
from bootlevels.plan_source import read_launch_plan
from bootlevels.record import LaunchRecord, Record, RunRecord, ServiceRecord
from bootlevels.run_home import RECORD_NAME, RUN_NAME, epu_home, run_names
from bootlevels.run_lock import writer_lock
from bootlevels.run_secrets import forget_secrets
from bootlevels.run_status import RunStatus, look_at_run
from bootlevels.run_store import (
    RunIsTerminating,
    Wanted,
    must_have_secrets,
    note_workers_left,
    store_run,
    workers_left,
)
from bootlevels.run_workers import must_have_no_workers
from bootlevels.runner import Runner
from bootlevels.service_life import ServiceLife
from bootlevels.service_steps import RunPlace, ServiceSteps
from bootlevels.ssh_words import scp_command, ssh_command
from bootlevels.transports.files import MachineFiles
from coordinator.errors import ConfigProblem, NotFound, Problem, did_you_mean

#: How often a repair replaces a broken service.
TRIES = 3


@dataclass(frozen=True)
class Service:
    """One service of a run: what the plan wants and what the record says."""

    spec: ServiceSpec
    level: int
    record: ServiceRecord


class Run:
    """A booted (or half-booted, or ended) plan."""

    def __init__(self, name: str, home: Path | None = None) -> None:
        self.name = name
        self.home = home or epu_home()
        self.directory = self.home / "runs" / name
        #: Drivers to use in place of those that the plan's clouds name.
        self.drivers: CloudDrivers | None = None

    @classmethod
    def open(cls, name: str, home: Path | None = None) -> Run:
        """The run called ``name``. Raises NotFound, RecordProblem."""
        run = cls(name, home)
        if not RUN_NAME.match(name) or not (run.directory / RECORD_NAME).is_file():
            known = run_names(run.home)
            remedy = did_you_mean(name, known) if known else "there are no runs yet"
            raise NotFound(f"there is no run '{name}' in {run.home} ({remedy})")
        _ = run.info  # a record that can't be read is found here
        return run

    @classmethod
    def in_directory(cls, directory: Path, name: str, home: Path) -> Run:
        """The earlier life of run ``name`` whose record is in ``directory``."""
        run = cls(name, home)
        run.directory = directory
        return run

    @classmethod
    def prepare(
        cls,
        path: Path,
        *,
        name: str = "",
        profile: str = "",
        given: Mapping[str, str] | None = None,
        files: Sequence[Path] = (),
        clouds: Mapping[str, str] | None = None,
        home: Path | None = None,
        warn: Callable[[Problem], object] = lambda _: None,
    ) -> Run:
        """The run to boot from the plan in ``path``: new, or an unfinished one to go on with.

        ``given`` are globals, ``files`` have some, ``clouds`` are drivers by the names of
        clouds. Everything is checked before anything is made; ``warn`` is told what is
        only doubtful. What an unfinished run was given holds on unless it is given anew.
        Raises ConfigProblem, RunIsTerminating, RunIsBusy, RecordProblem.
        """
        choices = PlanChoices(
            profile=profile,
            given=given or {},
            files=tuple(files),
            remapped=clouds or {},
            environment=os.environ,
        )
        reading = None
        if not name:
            reading = read_launch_plan(path, choices)
            name = reading.plan.name
        if not RUN_NAME.match(name):
            what = "a run's name is letters, digits, - and _, at most 40"
            raise ConfigProblem([Problem(where="command line", key="--name", what=what)])
        run = cls(name, home)
        old = run.info if (run.directory / RECORD_NAME).is_file() else None
        if old is not None and old.terminated_at is None:
            choices = choices.continuing(old)
            reading = None
        if reading is None:
            reading = read_launch_plan(path, choices)
        for warning in reading.warnings:
            warn(warning)
        remapped = choices.remapped
        store_run(run.directory, Wanted(plan=reading.plan, given=reading.given, remapped=remapped))
        return run

    # ---------------------------------------------------------------- reading

    @cached_property
    def _record(self) -> Record:
        return Record(self.directory)

    @cached_property
    def info(self) -> RunRecord:
        """Plan, given globals and times, as stored."""
        return self._record.run()

    @property
    def plan(self) -> LaunchPlan:
        return self.info.plan

    def services(self, level: int | None = None) -> list[Service]:
        """All services, or those of one level, with their records as they are now."""
        records = self._record.services()
        return [
            Service(spec, each.number, records.get(spec.name, ServiceRecord(name=spec.name)))
            for each in self.plan.levels
            if level in (None, each.number)
            for spec in each.services
        ]

    def records(self) -> dict[str, ServiceRecord]:
        """The records of all services that ever left NEW, by name, as they are now."""
        return self._record.services()

    def machines(self, service: str | None = None) -> list[MachineRecord]:
        """Every machine that was ever intended for the run, or for one service of it."""
        return self._record.machines(service)

    def launches(self) -> list[LaunchRecord]:
        """Every launch of every service, oldest first."""
        return self._record.launches()

    @property
    def is_booted(self) -> bool:
        """Whether every service was verified; ``status`` tells whether they are well now."""
        return all(each.record.state is ServiceState.VERIFIED for each in self.services())

    def service(self, name: str) -> Service:
        """One service. Raises NotFound."""
        for service in self.services():
            if service.spec.name == name:
                return service
        remedy = did_you_mean(name, [spec.name for spec in self.plan.services()])
        raise NotFound(f"run '{self.name}' has no service '{name}' ({remedy})")

    def attributes(self, name: str) -> dict[str, str]:
        """Every attribute of a service that has a value now. Raises NotFound.

        May hold secrets; ``masked`` of ``bootlevels.attributes`` hides them.
        """
        self.service(name)
        return self._attributes().of(name)

    def values(self) -> Attributes:
        """What every reference stands for now. May hold secrets, as ``attributes``."""
        return self._attributes()

    def accounts(self) -> Path | None:
        """The broker's accounts file, by the service that provides the registrar."""
        registrar = self.plan.registrar()
        found = self.attributes(registrar.name).get("accounts") if registrar else None
        return self.directory / found if found else None

    def ssh_command(self, name: str) -> str:
        """What to type to be on the machine of a service. Raises NotFound, StepFailed."""
        service = self.service(name).spec
        return ssh_command(self._steps().places.ssh_target(service))

    def scp_command(self, name: str, source: str, target: str) -> str:
        """What to type to copy ``source`` to ``target`` there. Raises NotFound, StepFailed."""
        service = self.service(name).spec
        scp_user = service.ssh.scp_user if service.ssh else ""
        return scp_command(self._steps().places.ssh_target(service), source, target, scp_user)

    def files(self, name: str) -> MachineFiles:
        """The files of a service's machine, to fetch and put. Raises NotFound, StepFailed."""
        return self._steps().places.files(self.service(name).spec)

    @property
    def secrets(self) -> frozenset[str]:
        """Values to hide, as far as this environment knows them."""
        return secrets_of(self.plan, os.environ)

    def status(self, limit: float = 10.0) -> RunStatus:
        """Ask every service once, all levels; changes nothing. ``limit`` seconds a check."""
        return look_at_run(self.services(), self._steps(), limit)

    # ---------------------------------------------------------------- changing

    def boot(
        self, watch: Watcher | None = None, stop: Event | None = None, *, early: bool = False
    ) -> Outcome:
        """Boot what is not verified yet; what was is looked at again, and never replaced.

        ``early``: machines of later levels are asked for at once, where their launch needs
        nothing of a lower level. Raises Interrupted, RunIsBusy, RecordProblem.
        """
        with self.writing("epu boot", watch, stop) as runner:
            return runner.boot(early=early)

    def repair(
        self, watch: Watcher | None = None, stop: Event | None = None, *, tries: int = TRIES
    ) -> Outcome:
        """Boot what was never booted, replace what is broken, level by level.

        A broken service is ended (whatever its terminate program says) and booted anew at
        most ``tries`` times. Who was booted with values that are others now is booted
        again. Raises RunIsTerminating, Interrupted, RunIsBusy, RecordProblem.
        """
        with self.writing("epu repair", watch, stop, tries=max(tries, 1)) as runner:
            if is_stopping(runner.life.record.states()):
                raise RunIsTerminating(
                    f"run '{self.name}' is (half) terminated: 'epu terminate {self.name}' "
                    f"finishes, 'epu reboot {self.name}' boots it anew"
                )
            return runner.boot()

    def terminate(
        self,
        *,
        leave_workers: bool = False,
        workers_confirmed: bool = False,
        keep_secrets: bool = False,
        watch: Watcher | None = None,
        stop: Event | None = None,
    ) -> Outcome:
        """End every level, highest first; again goes on, after the end it is harmless.

        ``leave_workers`` lets them run, and is remembered; ``workers_confirmed``: the
        caller made sure that there are none; ``keep_secrets``: it is to be booted anew.
        Raises WorkersRemain (nothing was touched), Interrupted, RunIsBusy, RecordProblem.
        """
        with self.writing("epu terminate", watch, stop) as runner:
            if self.info.terminated_at is not None:
                return Outcome()
            if leave_workers:
                # Before anything else: whoever boots this name again must know of them.
                note_workers_left(self.directory, True)
            elif not workers_confirmed:
                must_have_no_workers(self, self._steps())
            outcome = runner.terminate()
            if outcome.ok and not keep_secrets:
                forget_secrets(self.directory)
            return outcome

    @property
    def workers_left(self) -> bool:
        """Whether the levels were ended with the workers left running."""
        return workers_left(self.directory)

    def workers_are_gone(self) -> None:
        """Whoever made sure of it says so; the name may be booted again."""
        note_workers_left(self.directory, False)

    # ---------------------------------------------------------------- parts

    def _attributes(self) -> Attributes:
        return self._attributes_of(self._record)

    def _attributes_of(self, record: Record) -> Attributes:
        return Attributes(
            plan=self.plan,
            run=self.built_ins,
            outputs=record.outputs(),
            machines=machine_facts(record.machines()),
            environment=self._environment,
        )

    @cached_property
    def _environment(self) -> dict[str, str]:
        return dict(os.environ)

    @cached_property
    def built_ins(self) -> dict[str, str]:
        """What ``${run_name}`` and the like stand for."""
        return {
            "run_name": self.name,
            "run_dir": str(self.directory),
            "plan_dir": self.plan.directory,
            "python": sys.executable,
        }

    def _steps(self, record: Record | None = None) -> ServiceSteps:
        record = record or self._record
        attributes = partial(self._attributes_of, record)
        place = RunPlace(name=self.name, directory=self.directory, home=self.home)
        return ServiceSteps(
            place=place,
            places=places_of(place, attributes, record, self.drivers),
            attributes=attributes,
            secrets=self.secrets,
        )

    @contextmanager
    def writing(
        self,
        doing: str,
        watch: Watcher | None = None,
        stop: Event | None = None,
        *,
        tries: int = 0,
    ) -> Iterator[Runner]:
        """A runner that has the run for itself. Raises RunIsBusy."""
        with writer_lock(self.directory, doing):
            self._forget()
            if doing in ("epu boot", "epu repair"):  # an end goes as far as it can without
                must_have_secrets(self.directory, self.plan)
            record = Record(self.directory, writable=True)
            life = ServiceLife(
                plan=self.plan,
                record=record,
                steps=self._steps(record),
                stop=stop or Event(),
                tries=tries,
                watch=watch or silent,
            )
            try:
                yield Runner(life)
            finally:
                record.close()
                self._forget()

    def _forget(self) -> None:
        """What is stored may be another plan now."""
        for name in ("info", "built_ins"):
            self.__dict__.pop(name, None)
