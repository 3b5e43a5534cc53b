"""Reload and reboot: a run that goes over to another plan, or begins anew with its own.

Both can be interrupted anywhere and given again. A reload ends what the new plan has not,
or has otherwise, while the *old* plan is still the stored one; only then the new plan is
stored and booted. So nothing is ever ended by a definition that it was not booted with.
"""

from __future__ import annotations

import os
from pathlib import Path
from threading import Event

from bootlevels.api import Run
from bootlevels.attributes import Attributes, MalformedReference, Unresolved, masked
from bootlevels.boot_sequence import is_stopping
from bootlevels.inputs import digest_of
from bootlevels.machine_facts import machine_facts
from bootlevels.moments import Outcome, Watcher
from bootlevels.plan import LaunchPlan, ServiceKind
from bootlevels.plan_choices import PlanChoices, PlanReading
from bootlevels.plan_diff import Change, ChangeKind, plan_changes, to_end
from bootlevels.plan_source import read_launch_plan
from bootlevels.run_store import RunIsTerminating, Wanted, begin_anew
from bootlevels.service_steps import ServiceSteps, StepFailed
from coordinator.errors import ConfigProblem, Problem


def changes_of(run: Run, plan: LaunchPlan) -> tuple[Change, ...]:
    """What a reload of ``run`` with ``plan`` would do; changes nothing."""
    services = run.records()
    attributes = _values_under(run, plan)

    def digest(name: str) -> str:
        service = plan.service(name)
        resident = service.kind is ServiceKind.RESIDENT
        machines = run.machines(plan.landlord(service).name) if resident else []
        return digest_of(service, attributes, machines[-1].launch_id if machines else "")

    return plan_changes(
        run.plan,
        plan,
        {name: service.state for name, service in services.items()},
        {name: service.inputs for name, service in services.items()},
        lambda service: digest(service.name),
    )


def _values_under(run: Run, plan: LaunchPlan) -> Attributes:
    """What the references of ``plan`` stand for in ``run`` as it is now."""
    return Attributes(
        plan=plan,
        run={**run.built_ins, "plan_dir": plan.directory},
        outputs={name: service.outputs for name, service in run.records().items()},
        machines=machine_facts(run.machines()),
        environment=dict(os.environ),
    )


def _ask_about_pools(
    run: Run, steps: ServiceSteps, plan: LaunchPlan, changes: tuple[Change, ...]
) -> None:
    """Raise ConfigProblem for pools that the coordinator would refuse, before anything ends.

    Who can't be asked now (a coordinator that is to be mended, or another one by this very
    reload) and what is not known yet is no obstacle: the boot of the pool tells.
    """
    touched = {change.service: change.kind for change in changes}
    registrar = run.plan.registrar()
    if registrar is None or touched.get(registrar.name) not in (None, ChangeKind.CHECKED):
        return
    attributes = _values_under(run, plan)
    problems = []
    for service in plan.services():
        if service.pool is None or service.name not in touched:
            continue
        try:
            section = attributes.expand_tree(service.pool.section, service)
            steps.check_pool(service.name, section)
        except (Unresolved, MalformedReference):
            continue
        except StepFailed as problem:
            if problem.unreachable:
                return
            key = f"services.{service.name}.pool"
            problems.append(Problem(key=key, what=masked(str(problem), run.secrets)))
    if problems:
        raise ConfigProblem(problems)


def plan_to_reload(run: Run, path: Path, choices: PlanChoices) -> tuple[PlanReading, Wanted]:
    """The plan in ``path`` with what the run was given before. Raises ConfigProblem."""
    choices = choices.continuing(run.info)
    reading = read_launch_plan(path, choices)
    wanted = Wanted(plan=reading.plan, given=reading.given, remapped=choices.remapped)
    return reading, wanted


def reload_run(
    run: Run,
    wanted: Wanted,
    *,
    watch: Watcher | None = None,
    stop: Event | None = None,
    tries: int = 1,
) -> tuple[tuple[Change, ...], Outcome]:
    """Make ``run`` what ``wanted`` says: the changes, and how it went.

    What its coordinator refuses is a ConfigProblem, and nothing was changed. A pool that the
    plan has no more is drained, and kept until its last worker is gone.
    Raises ConfigProblem, RunIsTerminating, Interrupted, RunIsBusy, RecordProblem.
    """
    with run.writing("epu reload", watch, stop) as runner:
        if is_stopping(runner.life.record.states()):
            raise RunIsTerminating(f"run '{run.name}' is (half) terminated")
        changes = changes_of(run, wanted.plan)
        _ask_about_pools(run, runner.life.steps, wanted.plan, changes)
        outcome = runner.remove(to_end(changes))
        if not outcome.ok:
            return changes, outcome
        runner.life.record.store_plan(wanted.plan, wanted.given, wanted.remapped)
    # A pool or a service that stays may have to be replaced, which only a repair does.
    return changes, run.repair(watch, stop, tries=tries)


def reboot_run(
    run: Run,
    *,
    leave_workers: bool = False,
    watch: Watcher | None = None,
    stop: Event | None = None,
) -> Outcome:
    """End every level of ``run``, then boot the same plan in a new record.

    Raises what ``Run.terminate`` and ``Run.boot`` raise.
    """
    ended = run.terminate(leave_workers=leave_workers, keep_secrets=True, watch=watch, stop=stop)
    if not ended.ok:
        return ended
    begin_anew(run.directory)
    again = Run.open(run.name, run.home)
    return again.boot(watch, stop)
