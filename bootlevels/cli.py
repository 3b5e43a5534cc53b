"""Commands of the boot tool, mounted by ``epu`` (``mgmt.cli``).

Nothing heavy is imported before a command runs: ``epu --help`` must stay quick.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bootlevels.exits import (
    EXIT_INTERRUPTED,
    EXIT_PROBLEM,
    EXIT_UNREACHABLE,
    EXIT_USAGE,
    end,
    ended_by_signals,
    problem_lines,
    said,
)

if TYPE_CHECKING:
    from bootlevels.runner import Moment

_GLOBALS = click.option(
    "-g", "--global", "given", multiple=True, metavar="K=V", help="Set a global of the plan."
)
_PROFILE = click.option("--profile", default="", metavar="NAME", help="A profile of the plan.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
_QUIET = click.option("-q", "--quiet", is_flag=True, help="Print problems only.")


def _plan_path(plan: str) -> Path:
    """The file called ``plan``, else the sample of that name; exit 2 when there is neither."""
    from bootlevels.run_home import sample_plans
    from coordinator.errors import did_you_mean

    path, known = Path(plan), sample_plans()
    if not path.is_file() and plan not in known:
        hint = did_you_mean(plan, known)
        end(EXIT_USAGE, f"there is no plan file '{plan}', and no sample of that name ({hint})")
    return path if path.is_file() else known[plan]


def _globals(given: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            end(EXIT_USAGE, f"-g wants K=V, not '{text}'")
        pairs[name] = value
    return pairs


def _progress(quiet: bool) -> Callable[[Moment], None]:
    """A watcher that writes one line for each moment to stderr."""
    began = time.monotonic()

    def watch(moment: Moment) -> None:
        if quiet and moment.phase != "error":
            return
        at = f"[{time.monotonic() - began:6.1f} s]"
        if moment.scope == "level":
            done = "done" if moment.phase == "complete" else moment.action
            about = f": {moment.text}" if moment.text else ""
            click.echo(f"{at} level {moment.level}: {done}{about}", err=True)
            return
        failed = f"{moment.action} failed: " if moment.phase == "error" else ""
        click.echo(f"{at}   {moment.service}: {failed}{moment.text}", err=True)
        for line in moment.tail:
            click.echo(f"{'':13}| {line}", err=True)

    return watch


def _table(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    # Into a file or pipe, a line is a line: whoever greps must find its words together.
    Console(width=None if sys.stdout.isatty() else 240).print(table)


def _when(moment: float | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment)) if moment else ""


@click.command()
@click.argument("plan")
@click.option("-n", "--name", "run_name", default="", envvar="EPU_RUN", help="The run's name.")
@_GLOBALS
@_PROFILE
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Write the run's services and attributes as JSON into FILE (0600).")  # fmt: skip
@_JSON
@_QUIET
def boot(
    plan: str,
    run_name: str,
    given: tuple[str, ...],
    profile: str,
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

    path, pairs = _plan_path(plan), _globals(given)
    with said(), ended_by_signals():
        run = Run.prepare(path, name=run_name, profile=profile, given=pairs)
        was_booted = run.is_booted
        outcome = run.boot(_progress(quiet))
        described = {**described_run(run), **described_outcome(outcome)}
        if output is not None:
            write_private(output, json.dumps(described, indent=2) + "\n")
    if as_json:
        click.echo(json.dumps(described, indent=2))
    if not outcome.ok:
        unreachable = all(failure.unreachable for failure in outcome.failures)
        code = EXIT_UNREACHABLE if unreachable else EXIT_PROBLEM
        again = f"epu boot {plan} -n {run.name}"
        end(code, f"run '{run.name}' is not booted; '{again}' goes on from here")
    if not as_json and not quiet:
        already = "was booted before" if was_booted else "is booted"
        click.echo(f"run '{run.name}' {already}: epu status {run.name}")


@click.command()
@click.argument("run", envvar="EPU_RUN")
@_JSON
@_QUIET
def status(run: str, as_json: bool, quiet: bool) -> None:
    """Ask every service of RUN whether it is well; changes nothing.

    Exit code 0 only if all is well, so it can be used by cron with -q.

    \b
    Examples:
      epu status sleeper
      epu status sleeper -q || mail -s 'sleeper is ill' me
    """
    from bootlevels.api import Run
    from bootlevels.run_report import described_run

    with said():
        opened = Run.open(run)
        found = opened.status()
        described = described_run(opened)
    if as_json:
        answers = {service.name: service for service in found.services}
        for service in described["services"]:
            answer = answers[service["name"]]
            service.update(ok=answer.ok, detail=answer.detail)
        click.echo(json.dumps({**described, "ok": found.ok}, indent=2))
    else:
        rows = [
            (str(s.level), s.name, s.kind, s.state.value, "yes" if s.ok else "NO", s.detail)
            for s in found.services
            if not (quiet and s.ok)
        ]
        if rows:
            columns = ("level", "service", "kind", "state", "well", "detail")
            _table(f"run {run}", columns, rows)
    if not found.ok:
        ill = [service for service in found.services if not service.ok]
        sys.exit(EXIT_UNREACHABLE if all(s.unreachable for s in ill) else EXIT_PROBLEM)


@click.command("list")
@_JSON
def list_runs(as_json: bool) -> None:
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
        click.echo(json.dumps(listed, indent=2))
    elif listed:
        rows = [
            (each["run"], each["plan"], each["profile"], each["state"], _when(each["created_at"]))
            for each in listed
        ]
        _table("", ("run", "plan", "profile", "state", "created"), rows)
    else:
        click.echo("no runs; 'epu boot sleeper' makes one")
    if unreadable:
        end(EXIT_PROBLEM, "; ".join(unreadable))


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--leave-workers", is_flag=True, help="Do not ask whether pools have workers.")
@_JSON
@_QUIET
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
        click.echo(json.dumps(results, indent=2))
    sys.exit(max(codes))


def _terminate_one(name: str, leave_workers: bool, quiet: bool) -> dict[str, Any]:
    from bootlevels.api import Run
    from bootlevels.run_report import described_outcome

    run = Run.open(name)
    if run.info.terminated_at is not None:
        if not quiet:
            click.echo(f"run '{name}' is terminated already")
        return {"ok": True, "failures": []}
    outcome = run.terminate(leave_workers=leave_workers, watch=_progress(quiet))
    if outcome.ok and not quiet:
        click.echo(f"run '{name}' is terminated; its record stays in {run.directory}")
    elif not outcome.ok:
        again = f"'epu terminate {name}' tries again"
        click.echo(f"epu: run '{name}' is not terminated; {again}", err=True)
    return described_outcome(outcome)


@click.command()
@click.argument("plan")
@_GLOBALS
@_PROFILE
@_JSON
def validate(plan: str, given: tuple[str, ...], profile: str, as_json: bool) -> None:
    """Check launch plan PLAN and each of its profiles; launches nothing.

    \b
    Examples:
      epu validate plans/site.yaml
      epu validate sleeper --profile elastic --json
    """
    from bootlevels.plan_yaml import profiles_of, read_plan
    from coordinator.errors import ConfigProblem, Problem

    path, pairs = _plan_path(plan), _globals(given)
    problems: list[Problem] = []
    with said():
        profiles = (profile,) if profile else ("", *profiles_of(path))
        for each in profiles:
            try:
                read_plan(path, profile=each, given=pairs)
            except ConfigProblem as found:
                problems += [problem for problem in found.problems if problem not in problems]
    if as_json:
        listed = [vars(problem) for problem in problems]
        click.echo(json.dumps({"ok": not problems, "problems": listed}, indent=2))
    elif problems:
        end(EXIT_PROBLEM, problem_lines(ConfigProblem(problems)))
    else:
        click.echo(f"{path}: no problem found")
    sys.exit(EXIT_PROBLEM if problems else 0)


@click.group()
def samples() -> None:
    """The shipped launch plans."""


@samples.command("list")
@_JSON
def samples_list(as_json: bool) -> None:
    """List the shipped launch plans.

    \b
    Example:
      epu samples list
    """
    from bootlevels.plan_yaml import profiles_of, read_plan
    from bootlevels.run_home import sample_plans

    with said():
        listed = [
            {
                "name": name,
                "description": read_plan(path).description,
                "profiles": list(profiles_of(path)),
                "path": str(path),
            }
            for name, path in sample_plans().items()
        ]
    if as_json:
        click.echo(json.dumps(listed, indent=2))
        return
    rows = [
        (str(each["name"]), ", ".join(each["profiles"]), str(each["description"]))
        for each in listed
    ]
    _table("", ("sample", "profiles", "what it shows"), rows)


#: What ``epu`` mounts.
commands: tuple[click.Command, ...] = (boot, status, list_runs, terminate, validate, samples)
