"""A run as other programs see it: open it, look at it, boot it, end it.

Runs live in ``<home>/runs/<run>/``; ``home`` is EPU_HOME, ``~/.epu`` when not set. Opening
for reading takes no lock and works while a boot goes on.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Event

from bootlevels.attributes import Attributes, secrets_of
from bootlevels.boot_sequence import ENDED_STATES, ServiceState, changed_services, is_stopping
from bootlevels.exits import EXIT_WORKERS_REMAIN
from bootlevels.plan import LaunchPlan, ServiceKind, ServiceSpec
from bootlevels.plan_yaml import read_plan
from bootlevels.record import Record, RecordProblem, RunRecord, ServiceRecord
from bootlevels.run_home import RECORD_NAME, RUN_NAME, epu_home, run_names
from bootlevels.run_lock import writer_lock
from bootlevels.run_status import RunStatus, look_at_run
from bootlevels.runner import Outcome, Runner, Watcher
from bootlevels.service_steps import RunPlace, ServiceSteps, StepFailed
from bootlevels.transports.local import LocalTransport
from coordinator.errors import ConfigProblem, EpuError, NotFound, Problem, did_you_mean


class WorkersRemain(EpuError):
    """The run's pools have workers, or nobody could say that they have none."""

    exit_code = EXIT_WORKERS_REMAIN


class RunIsTerminating(EpuError):
    """A termination has begun; the run can't be booted before it is through."""


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
    def prepare(
        cls,
        path: Path,
        *,
        name: str = "",
        profile: str = "",
        given: Mapping[str, str] | None = None,
        home: Path | None = None,
    ) -> Run:
        """The run to boot from the plan in ``path``: new, or an unfinished one to go on with.

        Everything is checked before anything is made. What an unfinished run was given
        (profile, globals) holds on unless it is given anew. Raises ConfigProblem,
        RunIsTerminating, RunIsBusy, RecordProblem.
        """
        given = dict(given or {})
        plan = None
        if not name:
            plan = read_plan(path, profile=profile, given=given, environment=os.environ)
            name = plan.name
        if not RUN_NAME.match(name):
            what = "a run's name is letters, digits, - and _, at most 40"
            raise ConfigProblem([Problem(where="command line", key="--name", what=what)])
        run = cls(name, home)
        old = run.info if (run.directory / RECORD_NAME).is_file() else None
        if old is not None and old.terminated_at is None:
            given = {**old.given, **given}
            profile = profile or old.plan.profile
            plan = None
        if plan is None:
            plan = read_plan(path, profile=profile, given=given, environment=os.environ)
        try:
            run.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with writer_lock(run.directory, "epu boot"):
                run._store(plan, given)
        except OSError as error:
            raise RecordProblem(f"{run.directory} can't be used: {error.strerror}") from None
        return run

    def _store(self, plan: LaunchPlan, given: Mapping[str, str]) -> None:
        if not (self.directory / RECORD_NAME).is_file():
            Record.create(self.directory, self.name, plan, given, time.time()).close()
            return
        record = Record(self.directory, writable=True)
        old, states = record.run(), record.states()
        if old.terminated_at is not None:
            record.close()
            self._move_aside()
            self.directory.mkdir(mode=0o700)
            Record.create(self.directory, self.name, plan, given, time.time()).close()
            return
        if is_stopping(states):
            raise RunIsTerminating(
                f"run '{self.name}' is half terminated: finish with 'epu terminate {self.name}'"
            )
        changed = changed_services(old.plan, plan, states)
        if changed:
            what = "was booted by another plan than this"
            remedy = f"'epu terminate {self.name}' first, or choose another name with -n"
            problems = [Problem(key=f"services.{s}", what=what, remedy=remedy) for s in changed]
            raise ConfigProblem(problems)
        record.store_plan(plan, given)
        record.close()

    def _move_aside(self) -> None:
        """Keep the ended run's directory as ``<run>.<n>``: a name that no run can have."""
        number = 1
        while (old := self.directory.with_name(f"{self.name}.{number}")).exists():
            number += 1
        self.directory.rename(old)

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

    def accounts(self) -> Path | None:
        """The broker's accounts file, by the service that provides the registrar."""
        registrar = self.plan.registrar()
        found = self.attributes(registrar.name).get("accounts") if registrar else None
        return self.directory / found if found else None

    @property
    def secrets(self) -> frozenset[str]:
        """Values to hide, as far as this environment knows them."""
        return secrets_of(self.plan, os.environ)

    def status(self, limit: float = 10.0) -> RunStatus:
        """Ask every service once, all levels; changes nothing. ``limit`` seconds a check."""
        return look_at_run(self.services(), self._steps(), limit)

    # ---------------------------------------------------------------- changing

    def boot(self, watch: Watcher | None = None, stop: Event | None = None) -> Outcome:
        """Boot what is not verified yet. Raises Interrupted, RunIsBusy, RecordProblem."""
        with writer_lock(self.directory, "epu boot"):
            self.__dict__.pop("info", None)
            return self._runner(watch, stop).boot()

    def terminate(
        self,
        *,
        leave_workers: bool = False,
        watch: Watcher | None = None,
        stop: Event | None = None,
    ) -> Outcome:
        """End every level, highest first; again goes on, after the end it is harmless.

        Raises WorkersRemain (nothing was touched) unless ``leave_workers``; Interrupted,
        RunIsBusy, RecordProblem.
        """
        with writer_lock(self.directory, "epu terminate"):
            self.__dict__.pop("info", None)
            if self.info.terminated_at is not None:
                return Outcome()
            if not leave_workers:
                self._no_workers()
            return self._runner(watch, stop).terminate()

    def _no_workers(self) -> None:
        """Raise WorkersRemain unless it is certain that the pools have no nodes."""
        registrar = self.plan.registrar()
        if registrar is None:
            return
        keeper = self.service(registrar.name).record
        if keeper.state in ENDED_STATES or keeper.state is ServiceState.TERMINATING:
            return  # asked, or told not to ask, before its own end began
        pools = [s for s in self.services() if s.spec.kind is ServiceKind.POOL]
        handed_over = any(pool.record.state not in ENDED_STATES for pool in pools)
        try:
            nodes = self._steps().live_nodes()
        except StepFailed as problem:
            if not handed_over and keeper.verified_at is None:
                return  # it never worked, so it never launched anything
            raise WorkersRemain(
                f"whether run '{self.name}' still has workers can't be found out: {problem}. "
                f"'epu teardown {self.name}' ends workers first; "
                "--leave-workers does not ask"
            ) from None
        if nodes:
            shown = ", ".join(nodes[:3]) + (", …" if len(nodes) > 3 else "")
            raise WorkersRemain(
                f"run '{self.name}' has {len(nodes)} workers ({shown}): "
                f"'epu teardown {self.name}' ends them first; "
                "--leave-workers leaves them running"
            )

    # ---------------------------------------------------------------- parts

    def _attributes(self) -> Attributes:
        return self._attributes_of(self._record)

    def _attributes_of(self, record: Record) -> Attributes:
        built_ins = {
            "run_name": self.name,
            "run_dir": str(self.directory),
            "plan_dir": self.plan.directory,
            "python": sys.executable,
        }
        outputs = {name: service.outputs for name, service in record.services().items()}
        return Attributes(
            plan=self.plan, run=built_ins, outputs=outputs, environment=dict(os.environ)
        )

    def _steps(self) -> ServiceSteps:
        return ServiceSteps(
            place=RunPlace(name=self.name, directory=self.directory, home=self.home),
            plan_directory=self.plan.directory,
            transport=LocalTransport(),
            attributes=self._attributes,
            secrets=self.secrets,
        )

    def _runner(self, watch: Watcher | None, stop: Event | None) -> Runner:
        record = Record(self.directory, writable=True)
        runner = Runner(self.plan, record, self._steps(), stop=stop or Event())
        if watch is not None:
            runner.watch = watch
        return runner
