"""Commands for plans: validate, plan (dry run). Nothing here starts anything."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from bootlevels.exits import EXIT_PROBLEM, end, problem_lines, said
from bootlevels.invocation.cli import (
    PLAN,
    detail,
    echo_document,
    output_options,
    plan_choices,
    plan_path,
    warn,
)

if TYPE_CHECKING:
    from bootlevels.plan_choices import PlanChoices


@click.command()
@PLAN
@plan_choices
@click.option("--offline", is_flag=True, help="Do not ask the clouds.")
@output_options
def validate(
    plan: str,
    choices: PlanChoices,
    offline: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Check launch plan PLAN and each of its profiles, and ask its clouds; launches nothing.

    Asked are the clouds of the plan as it is, or with --profile as it is then. What machines
    may be is checked of every profile, --offline too.

    \b
    Examples:
      epu validate plans/site.yaml
      epu validate sleeper --profile elastic --json
    """
    from dataclasses import replace

    from bootlevels.cloud_checks import cloud_problems
    from bootlevels.plan_source import plan_profiles, read_launch_plan
    from coordinator.errors import ConfigProblem, Problem

    path = plan_path(plan)
    problems: list[Problem] = []
    warnings: list[Problem] = []
    with said():
        profiles = (choices.profile,) if choices.profile else ("", *plan_profiles(path))
        for each in profiles:
            detail(f"checking {path}" + (f" with profile {each}" if each else ""))
            try:
                reading = read_launch_plan(path, replace(choices, profile=each))
            except ConfigProblem as found:
                problems += [problem for problem in found.problems if problem not in problems]
                continue
            warnings += [one for one in reading.warnings if one not in warnings]
            # Only what would be booted is asked for: other profiles' clouds may be other people's.
            asked = not offline and each == profiles[0]
            said_by_clouds = cloud_problems(reading.plan, os.environ, ask=asked)
            problems += [one for one in said_by_clouds if one not in problems]
    if as_json:
        listed = [vars(problem) for problem in problems]
        doubtful = [vars(problem) for problem in warnings]
        document = {"ok": not problems, "problems": listed, "warnings": doubtful}
        echo_document("validation", document)
    else:
        for warning in warnings if not quiet else ():
            warn(warning)
        if problems:
            end(EXIT_PROBLEM, problem_lines(ConfigProblem(problems)))
        if not quiet:
            click.echo(f"{path}: no problem found")
    sys.exit(EXIT_PROBLEM if problems else 0)


@click.command()
@PLAN
@click.option("-n", "--name", "run_name", default="", metavar="RUN", help="The run's name.")
@plan_choices
@output_options
def plan(
    plan: str,
    run_name: str,
    choices: PlanChoices,
    as_json: bool,
    quiet: bool,
) -> None:
    """Show what booting PLAN would launch, with every value known by now; changes nothing.

    \b
    Examples:
      epu plan sleeper
      epu plan plans/site.yaml -g size=3 --json
    """
    from bootlevels.attributes import Attributes
    from bootlevels.plan_preview import described_plan
    from bootlevels.plan_source import read_launch_plan
    from bootlevels.run_home import epu_home

    path = plan_path(plan)
    with said():
        reading = read_launch_plan(path, choices)
    for warning in reading.warnings if not quiet else ():
        warn(warning)
    detail(f"read from {reading.plan.source}")
    name = run_name or reading.plan.name
    built_ins = {
        "run_name": name,
        "run_dir": str(epu_home() / "runs" / name),
        "plan_dir": reading.plan.directory,
        "python": sys.executable,
    }
    # An empty environment: what is a secret is shown by its name.
    known = Attributes(plan=reading.plan, run=built_ins, outputs={}, environment={})
    described = {"run": name, **described_plan(reading.plan, known)}
    if as_json:
        echo_document("plan", described)
        return
    import yaml

    click.echo(yaml.safe_dump(described, sort_keys=False, allow_unicode=True, width=100), nl=False)


#: What ``epu`` mounts.
commands: tuple[click.Command, ...] = (validate, plan)
