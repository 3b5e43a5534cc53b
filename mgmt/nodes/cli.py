"""``epu nodes``, ``epu node …`` and ``epu events``."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from mgmt.invocation.cli import ANSWER_WITHIN, Commands, Invocation, pass_invocation, system_options
from mgmt.output import Table, age_text, clock_text, text_of, yes_no


@click.command()
@click.option("--pool", metavar="POOL", help="Only the nodes of one pool.")
@click.option("-a", "--all", "every", is_flag=True, help="Those that are gone too.")
@system_options
@pass_invocation
def nodes(invocation: Invocation, pool: str | None, every: bool) -> None:
    """List nodes with their state, health and the reason for what is pending.

    \b
    Examples:
      epu nodes
      epu nodes --pool sleeper --all
    """
    document = invocation.ask("nodes", pool, every)
    columns = ["NODE", "POOL", "STATE", "SINCE", "HEALTH", "BUSY", "CLOUD"]
    if invocation.verbose:
        columns += ["CLOUD ID", "ADDRESSES", "TEMPLATE"]
    rows = []
    for node in document["nodes"]:
        row = [
            node["node_id"],
            node["pool"],
            node["state"],
            age_text(node["state_age"]),
            text_of(node["health"]),
            yes_no(node["busy"]),
            node["cloud"],
        ]
        if invocation.verbose:
            row += [text_of(node["cloud_id"]), ", ".join(node["addresses"]), node["template"]]
        rows.append([*row, text_of(node["reason"])])
    invocation.warn_of_missing(document)
    invocation.output.result(
        "nodes", document, [Table([*columns, "REASON"], rows, empty="no nodes")]
    )


@click.group(cls=Commands, name="node")
def node_group() -> None:
    """Show one node."""


@node_group.command()
@click.argument("node_id", metavar="NODE")
@system_options
@pass_invocation
def show(invocation: Invocation, node_id: str) -> None:
    """All about one node: state, where it is in its start, why it failed, its history.

    \b
    Examples:
      epu node show web-3f2a9c01d7-0
      epu node show web-3f2a9c01d7-0 --json
    """
    from mgmt.node_lines import history_rows, node_lines

    document = invocation.ask("node", node_id)
    invocation.warn_of_missing(document)
    history = Table(("TIME", "STATE", "BY", "WHY"), history_rows(document), empty="  no history")
    invocation.output.result("node", document, [*node_lines(document), "", history])


@click.command()
@click.option("--since", metavar="WHEN", help="10m, 2h, 1d ago, or a local time (ISO 8601).")
@click.option("--pool", metavar="POOL", help="Only of one pool.")
@click.option("--node", metavar="NODE", help="Only of one node.")
@click.option("--name", metavar="NAME", help="Only of one name, such as node_ready.")
@click.option("--limit", type=click.IntRange(min=1), default=200, show_default=True,
              help="The newest so many.")  # fmt: skip
@click.option("-f", "--follow", is_flag=True, help="Go on with new ones until Ctrl-C.")
@system_options
@pass_invocation
def events(
    invocation: Invocation,
    since: str | None,
    pool: str | None,
    node: str | None,
    name: str | None,
    limit: int,
    follow: bool,
) -> None:
    """What happened, oldest first. With --follow and --json: one JSON object a line.

    \b
    Examples:
      epu events --since 10m --pool sleeper
      epu events --name node_ready --follow
    """
    filters = (moment_of(since, time.time()) if since else None, pool, node, name, limit)
    if not follow:
        document = invocation.ask("events", *filters)
        invocation.warn_of_missing(document)
        columns = ("TIME", "SOURCE", "EVENT", "POOL", "NODE", "REASON")
        rows = [_row(event) for event in document["events"]]
        if document["omitted"]:
            invocation.output.note(f"{document['omitted']} older ones are not shown (see --limit)")
        table = Table(columns, rows, empty="no events")
        invocation.output.result("events", document, [table])
        return
    _follow(invocation, filters)


def _follow(invocation: Invocation, filters: tuple[Any, ...]) -> None:
    from agent.rpc_client import CallFailed
    from mgmt.answers import ask

    cursor: dict[str, int] | None = None
    missing: dict[str, str] = {}
    with invocation.connection() as client:
        while True:
            try:
                document = ask(
                    client.call, "management", "events", *filters, cursor, timeout=ANSWER_WITHIN
                )
            except CallFailed as problem:
                if cursor is None:
                    raise
                # What happens meanwhile is told afterwards: the cursor knows the place.
                document = {"events": [], "missing": {"management": str(problem)}}
            else:
                cursor = document["cursor"]
            if document["missing"] != missing:
                invocation.warn_of_missing(document)
                missing = document["missing"]
            for event in document["events"]:
                text = (
                    json.dumps(event, sort_keys=True)
                    if invocation.as_json
                    else "  ".join(cell for cell in _row(event) if cell != "-")
                )
                click.echo(text)
            time.sleep(1.0)


def _row(event: dict[str, Any]) -> tuple[str, ...]:
    return (
        clock_text(event["time"]),
        event["source"],
        event["name"],
        text_of(event["pool"]),
        text_of(event["node"]),
        text_of(event["reason"]),
    )


def moment_of(text: str, now: float) -> float:
    """The epoch second of ``10m`` (ago) or of an ISO time; wrong usage otherwise."""
    from datetime import datetime

    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    if text[-1:] in units and text[:-1].replace(".", "", 1).isdigit():
        return now - float(text[:-1]) * units[text[-1]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise click.BadParameter(
            f"'{text}' is neither like 90s, 10m, 2h, 1d nor a time like 2026-01-31T12:00",
            param_hint="--since",
        ) from None


commands = (nodes, node_group, events)
