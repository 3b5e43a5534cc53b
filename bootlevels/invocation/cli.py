"""What every command of the boot tool shares: its options, results, progress, tables.

Nothing heavy is imported before a command runs: ``epu --help`` must stay quick.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bootlevels.exits import EXIT_USAGE, end
from bootlevels.json_document import json_text
from bootlevels.table_text import lines_for, plain_lines

if TYPE_CHECKING:
    from bootlevels.moments import Moment
    from coordinator.errors import Problem

_VERBOSE = "bootlevels.verbose"


def _keep_verbose(context: click.Context, _: click.Parameter, value: bool) -> None:
    context.meta[_VERBOSE] = value


_OUTPUT = (
    click.option("--json", "as_json", is_flag=True, help="The result as JSON (see docs/json.md)."),
    click.option("-q", "--quiet", is_flag=True, help="Say nothing on the way, only problems."),
    click.option(
        "-v",
        "--verbose",
        is_flag=True,
        expose_value=False,
        callback=_keep_verbose,
        help="Say more on the way.",
    ),
)
RUN = click.argument("run", envvar="EPU_RUN", metavar="RUN")
PLAN = click.argument("plan", metavar="PLAN")


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--json``, ``-q``, ``-v``: the command gets ``as_json`` and ``quiet``; see ``detail``."""
    for option in reversed(_OUTPUT):
        command = option(command)
    return command


def is_verbose() -> bool:
    """Whether the command that runs was asked to say more."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(_VERBOSE))


def detail(text: str) -> None:
    """Say it on stderr, with ``-v`` only."""
    if is_verbose():
        click.echo(text, err=True)


def echo_document(schema: str, document: Mapping[str, Any]) -> None:
    """The result of a command with ``--json``, of the schema ``epu.<schema>``."""
    click.echo(json_text(schema, document))


_CHOICES = (
    click.option(
        "-g", "--global", "given", multiple=True, metavar="K=V", help="Set a global of the plan."
    ),
    click.option(
        "-G",
        "--globals-file",
        "files",
        multiple=True,
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Set globals from FILE; -g wins over it.",
    ),
    click.option(
        "--profile",
        default="",
        metavar="NAME[,NAME…]",
        help="Profiles of the plan, each laid over those before it.",
    ),
    click.option(
        "--cloud",
        "clouds",
        multiple=True,
        metavar="NAME=DRIVER",
        help="Use another driver for the plan's cloud NAME (process, container, …).",
    ),
)


def plan_choices(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose for a plan; the command gets them as ``choices``.

    That is a PlanChoices without an environment; exit 2 when an option says nothing.
    """

    @wraps(command)
    def chosen(
        *args: Any,
        given: tuple[str, ...],
        files: tuple[Path, ...],
        profile: str,
        clouds: tuple[str, ...],
        **others: Any,
    ) -> Any:
        from bootlevels.plan_choices import PlanChoices

        choices = PlanChoices(
            profile=profile,
            given=pairs(given, "-g"),
            files=files,
            remapped=pairs(clouds, "--cloud"),
        )
        return command(*args, choices=choices, **others)

    for option in reversed(_CHOICES):
        chosen = option(chosen)
    return chosen


def pairs(given: tuple[str, ...], option: str) -> dict[str, str]:
    """``K=V`` texts as a dict; exit 2 for one that is none."""
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            end(EXIT_USAGE, f"{option} wants K=V, not '{text}'")
        found[name] = value
    return found


def plan_path(plan: str) -> Path:
    """The file called ``plan``, else the sample of that name; exit 2 when there is neither."""
    from bootlevels.run_home import sample_plan, sample_plans
    from coordinator.errors import did_you_mean

    path = Path(plan)
    if path.is_file():
        return path
    sample = sample_plan(plan)
    if sample is None:
        hint = did_you_mean(plan, sample_plans())
        end(EXIT_USAGE, f"there is no plan file '{plan}', and no sample of that name ({hint})")
    return sample


def warn(problem: Problem) -> None:
    """Say what is only doubtful."""
    click.echo(f"epu: warning: {problem}", err=True)


def say_idle(run: str, services: Sequence[str]) -> None:
    """Tell what was started early for nothing, and what removes it."""
    click.echo(
        f"epu: machines were started early for {', '.join(services)}, which a failure below "
        f"keeps from being booted: 'epu clean {run}' removes them",
        err=True,
    )


def say_summaries(described: dict[str, Any]) -> None:
    """Print the attribute ``summary`` of every service of a described run that has one."""
    for service in described["services"]:
        for line in service["attributes"].get("summary", "").splitlines():
            click.echo("".join(c if c.isprintable() else "?" for c in line))


def say_attributes(described: Mapping[str, Any]) -> None:
    """With ``-v``: what each service of a described run told, and where its record is."""
    for service in described["services"]:
        for name, value in sorted(service["attributes"].items()):
            detail(f"{service['name']}.{name} = {value}")
    detail(f"record and logs: {described['directory']}")


def progress(quiet: bool) -> Callable[[Moment], None]:
    """A watcher that writes one line for each moment to stderr.

    With ``-v`` it says also how long a service has been under way.
    """
    began = time.monotonic()
    verbose = is_verbose()
    since: dict[str, float] = {}

    def watch(moment: Moment) -> None:
        if quiet and moment.phase != "error":
            return
        now = time.monotonic()
        at = f"[{now - began:6.1f} s]"
        if moment.scope == "level":
            done = "done" if moment.phase == "complete" else moment.action
            about = f": {moment.text}" if moment.text else ""
            click.echo(f"{at} level {moment.level}: {done}{about}", err=True)
            return
        failed = f"{moment.action} failed: " if moment.phase == "error" else ""
        if moment.phase == "starting":
            since[moment.service] = now
        took = now - since.setdefault(moment.service, now)
        after = f" (after {took:.1f} s)" if verbose and took else ""
        click.echo(f"{at}   {moment.service}: {failed}{moment.text}{after}", err=True)
        for line in moment.tail:
            click.echo(f"{'':13}| {line}", err=True)

    return watch


def table(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print ``rows`` under ``columns``; a terminal's lines are as wide as it is."""
    if title:
        click.echo(title)
    heads = [column.upper() for column in columns]
    if not sys.stdout.isatty():
        for text in plain_lines(heads, rows):
            click.echo(text)
        return
    for line in lines_for(shutil.get_terminal_size().columns, heads, rows):
        text = "".join(
            click.style(one.text, bold=True) if one.is_head else one.text for one in line
        )
        click.echo(text.rstrip())


def when(moment: float | None) -> str:
    """Local time, empty for none."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment)) if moment else ""
