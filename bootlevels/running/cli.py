"""Commands that change a run: repair, reload, reboot, clean; and its history."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from bootlevels.exits import EXIT_PROBLEM, EXIT_UNREACHABLE, end, ended_by_signals, said
from bootlevels.invocation.cli import (
    PLAN,
    RUN,
    detail,
    echo_document,
    output_options,
    plan_choices,
    plan_path,
    progress,
    say_attributes,
    say_idle,
    table,
    warn,
    when,
)

if TYPE_CHECKING:
    from bootlevels.api import Run
    from bootlevels.moments import Outcome
    from bootlevels.plan_choices import PlanChoices

_WORKERS = click.option(
    "--leave-workers", is_flag=True, help="Do not ask whether pools have workers."
)


def _finish(run: Run, outcome: Outcome, done: str, again: str, as_json: bool, quiet: bool) -> None:
    """Say how it went and leave with the exit code for it."""
    from bootlevels.run_report import described_outcome, described_run

    described = {**described_run(run), **described_outcome(outcome)}
    say_attributes(described)
    if as_json:
        echo_document("run", described)
    if outcome.idle:
        say_idle(run.name, outcome.idle)
    if not outcome.ok:
        unreachable = all(failure.unreachable for failure in outcome.failures)
        names = ", ".join(failure.service for failure in outcome.failures)
        code = EXIT_UNREACHABLE if unreachable else EXIT_PROBLEM
        end(code, f"run '{run.name}' is not well: {names}; '{again}' goes on from here")
    if not as_json and not quiet:
        click.echo(f"run '{run.name}' {done}")


@click.command()
@RUN
@click.option("--tries", type=click.IntRange(1, 100), default=3, show_default=True,
              help="How often a broken service is replaced.")  # fmt: skip
@output_options
def repair(run: str, tries: int, as_json: bool, quiet: bool) -> None:
    """Boot what of RUN was never booted, and replace what is broken.

    Every service is asked again, lowest level first. What does not answer is ended and
    booted anew; what was booted with values that are others now is booted again.

    \b
    Examples:
      epu repair sleeper
      epu status sleeper -q || epu repair sleeper -q
    """
    from bootlevels.api import Run

    with said(), ended_by_signals():
        opened = Run.open(run)
        outcome = opened.repair(progress(quiet), tries=tries)
    did = f"is well; repaired: {', '.join(outcome.repaired)}" if outcome.repaired else "is well"
    _finish(opened, outcome, did, f"epu repair {run}", as_json, quiet)


@click.command("reload")
@PLAN
@click.option("-n", "--name", "run", required=True, envvar="EPU_RUN", metavar="RUN",
              help="The run that goes over to PLAN.")  # fmt: skip
@plan_choices
@click.option("--dry-run", is_flag=True, help="Only show the changes.")
@output_options
def reload_(
    plan: str,
    run: str,
    choices: PlanChoices,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Make RUN what PLAN says now, changing only what is different.

    Shows what is added, changed and removed. What is removed or replaced is ended as the
    plan says by which it was booted. The workers of a pool that is removed end their jobs
    first; its other changes reach a pool while its workers go on.

    \b
    Examples:
      epu reload plans/site.yaml -n site --dry-run
      epu reload plans/site.yaml -n site -g size=3
    """
    import os
    from dataclasses import replace

    from bootlevels.api import Run
    from bootlevels.run_changes import changes_of, plan_to_reload, reload_run

    path = plan_path(plan)
    choices = replace(choices, environment=dict(os.environ))
    with said(), ended_by_signals():
        opened = Run.open(run)
        reading, wanted = plan_to_reload(opened, path, choices)
        for warning in reading.warnings:
            warn(warning)
        changes = changes_of(opened, wanted.plan)
        listed: list[dict[str, Any]] = [
            {"service": c.service, "change": c.kind.value, "level": c.level, "why": c.why}
            for c in changes
        ]
        if dry_run and as_json:
            echo_document("reload", {"run": run, "changes": listed})
        elif not as_json and not (quiet and not dry_run):
            rows = [(str(c["level"]), c["service"], c["change"], c["why"]) for c in listed]
            if rows:
                table(f"changes of run {run}", ("level", "service", "change", "why"), rows)
            else:
                click.echo(f"run '{run}' is as the plan says")
        if dry_run:
            return
        _, outcome = reload_run(opened, wanted, watch=progress(quiet))
    again = f"epu reload {plan} -n {run}"
    _finish(opened, outcome, "is as the plan says", again, as_json, quiet)


@click.command()
@RUN
@_WORKERS
@output_options
def reboot(run: str, leave_workers: bool, as_json: bool, quiet: bool) -> None:
    """End the services of RUN, then boot the same plan anew.

    \b
    Example:
      epu reboot site
    """
    from bootlevels.api import Run
    from bootlevels.run_changes import reboot_run

    with said(), ended_by_signals():
        opened = Run.open(run)
        outcome = reboot_run(opened, leave_workers=leave_workers, watch=progress(quiet))
        opened = Run.open(run)
    _finish(opened, outcome, "is booted", f"epu reboot {run}", as_json, quiet)


@click.command()
@RUN
@click.option("-k", "--kill", is_flag=True, help="End every machine that is still there.")
@output_options
def history(run: str, kill: bool, as_json: bool, quiet: bool) -> None:
    """List every service and machine ever launched as RUN, with its state.

    With -k every machine of it is ended, those that services stand on too: `epu repair`
    launches new ones.

    \b
    Examples:
      epu history site
      epu history site -k
    """
    from bootlevels.api import Run
    from bootlevels.run_history import history_of, kill_machines

    with said(), ended_by_signals():
        opened = Run.open(run)
        ended = kill_machines(opened) if kill else []
        past = history_of(opened)
    _say_ended(ended, quiet)
    detail(f"records: {', '.join(sorted({each.life for each in past}))} in {opened.home}")
    if as_json:
        echo_document("history", {"run": run, "launches": [vars(each) for each in past]})
    else:
        rows = [
            (
                p.life,
                p.kind,
                p.service,
                p.identity,
                p.state,
                " ".join(filter(None, (p.cloud, p.cloud_id, *p.addresses))),
                when(p.launched_at),
                when(p.ended_at),
                p.error,
            )
            for p in past
        ]
        names = (
            "life",
            "kind",
            "service",
            "launch",
            "state",
            "machine",
            "launched",
            "ended",
            "error",
        )
        table(f"history of run {run}", names, rows)
    sys.exit(EXIT_PROBLEM if any(each.problem for each in ended) else 0)


@click.command()
@RUN
@output_options
def clean(run: str, as_json: bool, quiet: bool) -> None:
    """Remove what RUN left behind and no service of it stands on.

    Machines that were replaced, that were asked for early and not used, or that an earlier
    life of the run left; programs and files of commands that were killed. And, of whatever
    run, the empty places in the temporary directory of sockets whose machines died.

    \b
    Example:
      epu clean site
    """
    from bootlevels.api import Run
    from bootlevels.run_history import clean as clean_run
    from bootlevels.run_history import remove_abandoned_sockets

    with said(), ended_by_signals():
        ended = clean_run(Run.open(run), progress(quiet))
        ended += remove_abandoned_sockets(time.time())
    if as_json:
        echo_document("cleaned", {"run": run, "removed": [vars(each) for each in ended]})
    elif not ended and not quiet:
        click.echo(f"run '{run}' left nothing behind")
    if not as_json:
        _say_ended(ended, quiet)
    sys.exit(EXIT_PROBLEM if any(each.problem for each in ended) else 0)


def _say_ended(ended: Any, quiet: bool = False) -> None:
    for each in ended:
        if each.problem:
            click.echo(f"epu: {each.what} is not ended: {each.problem}", err=True)
        elif not quiet:
            click.echo(f"ended: {each.what}", err=True)


#: What ``epu`` mounts.
commands: tuple[click.Command, ...] = (repair, reload_, reboot, history, clean)
