"""``epu nodes`` and ``epu node …``."""

from __future__ import annotations

from typing import Any

import click

from mgmt.invocation.cli import Commands, Invocation, pass_invocation, system_options
from mgmt.node_access_commands.cli import commands as access
from mgmt.node_orders.cli import commands as orders
from mgmt.output import Table, age_text, text_of, yes_no


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
      epu nodes --pool epu-sleeper --all
    """
    document = invocation.ask("nodes", pool, every)
    columns = ["NODE", "POOL", "STATE", "SINCE", "HEALTH", "BUSY", "CLOUD"]
    if invocation.verbose:
        columns += ["CLOUD ID", "ADDRESSES", "TEMPLATE"]
    priced = any(node.get("price") is not None for node in document["nodes"])
    if priced:
        columns.append("$/H")
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
        if priced:
            row.append("-" if node.get("price") is None else f"{node['price']:g}")
        protected = "protected; " if node.get("protected") else ""
        rows.append([*row, protected + text_of(node["reason"])])
    invocation.warn_of_missing(document)
    table = Table([*columns, "REASON"], rows, empty="no nodes", spare=("CLOUD", "POOL", "BUSY"))
    invocation.output.result("nodes", document, [table])


@click.group(cls=Commands, name="node")
def node_group() -> None:
    """One node: what it does, its logs, a command there; drain, protect or end it."""


@node_group.command()
@click.argument("node_id", metavar="NODE")
@system_options
@pass_invocation
def show(invocation: Invocation, node_id: str) -> None:
    """All about one node: state, where it is in its start, why it failed, its history.

    The history has each change of its state and what else people and the pool did to it:
    who, when and why.

    \b
    Examples:
      epu node show web-3f2a9c01d7-0
      epu node show web-3f2a9c01d7-0 --json
    """
    from mgmt.node_lines import history_rows, node_lines

    document = invocation.ask("node", node_id)
    invocation.warn_of_missing(document)
    told: list[dict[str, Any]] = []
    if not invocation.as_json:
        told = invocation.ask("events", None, None, node_id, None, 200)["events"]
    rows = history_rows(document, told)
    history = Table(("TIME", "WHAT", "BY", "WHY"), rows, empty="  no history")
    invocation.output.result("node", document, [*node_lines(document), "", history])


for command in (*access, *orders):
    node_group.add_command(command)
commands = (nodes, node_group)
