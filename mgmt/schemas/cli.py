"""``epu schema``."""

from __future__ import annotations

import json

import click

from mgmt.invocation.cli import output_options


@click.command()
@click.argument("words", metavar="[COMMAND]…", nargs=-1)
@click.option("--list", "only_list", is_flag=True, help="The commands that print JSON.")
@output_options
def schema(words: tuple[str, ...], only_list: bool) -> None:
    """Print a JSON Schema: of launch plans, or of what COMMAND prints with --json.

    Schemas are JSON with or without --json.

    \b
    Examples:
      epu schema > plan.schema.json
      epu schema pool show
      epu schema --list
    """
    from mgmt.documents.catalogue import commands, printed_by, schema_of

    if only_list:
        for command in commands():
            names = sorted({each.identity for each in printed_by(command)})
            click.echo(f"{command:<20} {', '.join(names)}")
        return
    if not words:
        from bootlevels.plan_schema import plan_schema

        click.echo(json.dumps(plan_schema(), indent=2))
        return
    command = " ".join(words).removeprefix("epu ")
    found = printed_by(command)
    if not found:
        from coordinator.errors import did_you_mean

        hint = did_you_mean(command, commands()) or "see: epu schema --list"
        raise click.UsageError(f"no command '{command}' that prints JSON ({hint})")
    click.echo(json.dumps(schema_of(found), indent=2))


#: What ``epu`` mounts.
commands: tuple[click.Command, ...] = (schema,)
