"""``epu samples``: the shipped launch plans."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from bootlevels.exits import EXIT_PROBLEM, EXIT_USAGE, end, said
from bootlevels.invocation.cli import detail, echo_document, output_options, table


@click.group()
def samples() -> None:
    """The shipped launch plans."""


@samples.command("list")
@output_options
def samples_list(as_json: bool, quiet: bool) -> None:
    """List the shipped launch plans.

    \b
    Example:
      epu samples list
    """
    from bootlevels.plan_choices import PlanChoices
    from bootlevels.plan_source import plan_profiles, read_launch_plan
    from bootlevels.run_home import sample_plans

    with said():
        listed = [
            {
                "name": name,
                "description": read_launch_plan(path, PlanChoices()).plan.description,
                "profiles": list(plan_profiles(path)),
                "path": str(path),
            }
            for name, path in sample_plans().items()
        ]
    if as_json:
        echo_document("samples", {"samples": listed})
        return
    rows = [
        (str(each["name"]), ", ".join(each["profiles"]), str(each["description"]))
        for each in listed
    ]
    table("", ("sample", "profiles", "what it shows"), rows)
    for each in listed:
        detail(f"{each['name']}: {each['path']}")


@samples.command("copy")
@click.argument("name", metavar="SAMPLE")
@click.argument("directory", required=False, type=click.Path(path_type=Path), metavar="[DIRECTORY]")
@output_options
def samples_copy(name: str, directory: Path | None, as_json: bool, quiet: bool) -> None:
    """Copy SAMPLE, to be changed and booted from there.

    Into DIRECTORY, or into a new directory of the sample's name. Nothing is overwritten.

    \b
    Examples:
      epu samples copy webapp
      epu samples copy webapp ~/plans/site
    """
    from bootlevels.run_home import sample_plan, sample_plans
    from bootlevels.samples.copying import CopyRefused, copy_sample
    from coordinator.errors import did_you_mean

    plan = sample_plan(name)
    if plan is None:
        end(EXIT_USAGE, f"there is no sample '{name}' ({did_you_mean(name, sample_plans())})")
    with said():
        try:
            copied = copy_sample(plan, directory or Path(name))
        except CopyRefused as problem:
            end(EXIT_PROBLEM, str(problem))
    if as_json:
        echo_document("sample", {"sample": name, "plan": str(copied)})
        return
    if quiet:
        return
    shown = shlex.quote(str(copied))
    click.echo(
        f"copied to {copied.parent}; its README.md says what can be changed. Next:\n"
        f"  epu validate {shown}\n"
        f"  epu boot {shown} -n my-{name.replace('_', '-')}"
    )


#: What ``epu`` mounts.
commands: tuple[click.Command, ...] = (samples,)
