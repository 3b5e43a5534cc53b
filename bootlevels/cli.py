"""Commands of the boot tool, mounted by ``epu`` (``mgmt.cli``).

Nothing heavy is imported before a command runs: ``epu --help`` must stay quick.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bootlevels.exits import (
    EXIT_INTERRUPTED,
    EXIT_PROBLEM,
    EXIT_UNREACHABLE,
    end,
    ended_by_signals,
    said,
)
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
    say_summaries,
    table,
    warn,
    when,
)
from bootlevels.json_document import json_text

if TYPE_CHECKING:
    from bootlevels.plan_choices import PlanChoices


@click.command()
@PLAN
@click.option("-n", "--name", "run_name", default="", envvar="EPU_RUN", metavar="RUN",
              help="The run's name.")  # fmt: skip
@plan_choices
@click.option("--early", is_flag=True, help="Ask for machines of later levels at once.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Write the run's services and attributes as JSON into FILE (0600).")  # fmt: skip
@output_options
def boot(
    plan: str,
    run_name: str,
    choices: PlanChoices,
    early: bool,
    output: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Boot launch plan PLAN: a file, or the name of a shipped sample.

    A run that was not booted to its end goes on where it stopped.

    \b
    Examples:
      epu boot sleeper
      epu boot sleeper -n try1 --profile elastic -g work_queue=jobs
      epu boot plans/site.yaml -n site -o site.json
    """
    from bootlevels.api import Run
    from bootlevels.run_report import described_outcome, described_run, write_private

    path = plan_path(plan)
    with said(), ended_by_signals():
        run = Run.prepare(
            path,
            name=run_name,
            profile=choices.profile,
            given=choices.given,
            files=choices.files,
            clouds=choices.remapped,
            warn=warn,
        )
        was_booted = run.is_booted
        outcome = run.boot(progress(quiet), early=early)
        described = {**described_run(run), **described_outcome(outcome)}
        if output is not None:
            write_private(output, json_text("run", described) + "\n")
    say_attributes(described)
    if as_json:
        echo_document("run", described)
    if outcome.idle:
        say_idle(run.name, outcome.idle)
    if not outcome.ok:
        unreachable = all(failure.unreachable for failure in outcome.failures)
        code = EXIT_UNREACHABLE if unreachable else EXIT_PROBLEM
        again = f"epu boot {plan} -n {run.name}"
        repair = f"'epu repair {run.name}' also replaces what is broken"
        end(code, f"run '{run.name}' is not booted; '{again}' goes on from here, {repair}")
    if not as_json and not quiet:
        say_summaries(described)
        already = "was booted before" if was_booted else "is booted"
        click.echo(f"run '{run.name}' {already}: epu status {run.name}")


@click.command()
@RUN
@output_options
def status(run: str, as_json: bool, quiet: bool) -> None:
    """Ask every service of RUN whether it is well; changes nothing.

    All levels are asked, even if a lower one is ill. Exit code 0 only if all is well; with
    -q that is all it says, for cron.

    \b
    Examples:
      epu status sleeper
      epu status sleeper -q || epu repair sleeper
    """
    from bootlevels.api import Run
    from bootlevels.run_report import described_run

    with said():
        opened = Run.open(run)
        found = opened.status()
        described = described_run(opened) if as_json or not quiet else {}
    if as_json:
        answers = {service.name: service for service in found.services}
        for service in described["services"]:
            answer = answers[service["name"]]
            service.update(ok=answer.ok, detail=answer.detail)
        echo_document("run-status", {**described, "ok": found.ok})
    elif not quiet:
        say_attributes(described)
        took = {each["name"]: each["times"]["seconds"] for each in described["services"]}
        rows = [
            (
                str(s.level),
                s.name,
                s.kind,
                s.state.value,
                "yes" if s.ok else "NO",
                "" if took[s.name] is None else f"{took[s.name]:.1f} s",
                s.detail,
            )
            for s in found.services
        ]
        columns = ("level", "service", "kind", "state", "well", "took", "detail")
        table(f"run {run}", columns, rows)
        for level in described["levels"]:
            if level["seconds"] is not None:
                click.echo(f"level {level['level']} took {level['seconds']:.1f} s")
    if not found.ok:
        ill = [service for service in found.services if not service.ok]
        sys.exit(EXIT_UNREACHABLE if all(s.unreachable for s in ill) else EXIT_PROBLEM)


@click.command("list")
@output_options
def list_runs(as_json: bool, quiet: bool) -> None:
    """List the runs of this EPU_HOME.

    \b
    Example:
      epu list --json
    """
    from bootlevels.api import Run
    from bootlevels.record import RecordProblem
    from bootlevels.run_home import run_names

    listed: list[dict[str, Any]] = []
    unreadable: list[str] = []
    with said():
        for name in run_names():
            try:
                run = Run.open(name)
            except RecordProblem as problem:
                unreadable.append(str(problem))
                continue
            info = run.info
            state = (
                "TERMINATED" if info.terminated_at else "BOOTED" if info.booted_at else "PARTIAL"
            )
            listed.append(
                {
                    "run": name,
                    "plan": info.plan.name,
                    "profile": info.plan.profile,
                    "state": state,
                    "created_at": info.created_at,
                    "directory": str(run.directory),
                }
            )
    if as_json:
        echo_document("runs", {"runs": listed, "unreadable": unreadable})
    elif listed:
        rows = [
            (each["run"], each["plan"], each["profile"], each["state"], when(each["created_at"]))
            for each in listed
        ]
        table("", ("run", "plan", "profile", "state", "created"), rows)
        for each in listed:
            detail(f"{each['run']}: {each['directory']}")
    elif not quiet:
        click.echo("no runs; 'epu boot sleeper' makes one")
    if unreadable:
        end(EXIT_PROBLEM, "; ".join(unreadable))


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--leave-workers", is_flag=True, help="Do not ask whether pools have workers.")
@output_options
def terminate(runs: tuple[str, ...], leave_workers: bool, as_json: bool, quiet: bool) -> None:
    """End the services of each RUN, highest level first.

    Refuses (exit 4) while the run's pools have workers: `epu teardown` ends those first.
    Can be repeated; the record stays.

    \b
    Example:
      epu terminate sleeper
    """
    codes: list[int] = []
    results: dict[str, Any] = {}
    for name in runs:
        try:
            with said(), ended_by_signals():
                results[name] = _terminate_one(name, leave_workers, quiet or as_json)
            codes.append(0 if results[name]["ok"] else EXIT_PROBLEM)
        except SystemExit as ended:  # its sentence is printed; the others get their turn
            code = ended.code if isinstance(ended.code, int) else EXIT_PROBLEM
            results[name] = {"ok": False, "exit_code": code}
            codes.append(code)
            if code == EXIT_INTERRUPTED:
                break
    if as_json:
        echo_document("terminations", {"runs": results})
    sys.exit(max(codes))


def _terminate_one(name: str, leave_workers: bool, quiet: bool) -> dict[str, Any]:
    from bootlevels.api import Run
    from bootlevels.run_report import described_outcome

    run = Run.open(name)
    if run.info.terminated_at is not None:
        if not quiet:
            click.echo(f"run '{name}' is terminated already")
        return {"ok": True, "failures": []}
    outcome = run.terminate(leave_workers=leave_workers, watch=progress(quiet))
    if outcome.ok and not quiet:
        click.echo(f"run '{name}' is terminated; its record stays in {run.directory}")
    elif not outcome.ok:
        again = f"'epu terminate {name}' tries again"
        click.echo(f"epu: run '{name}' is not terminated; {again}", err=True)
    return described_outcome(outcome)


#: What ``epu`` mounts.
commands: tuple[click.Command, ...] = (boot, status, list_runs, terminate)
