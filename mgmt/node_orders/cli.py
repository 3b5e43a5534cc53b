"""``epu node drain``, ``undrain``, ``protect``, ``unprotect`` and ``terminate``."""

from __future__ import annotations

import sys
from typing import Any

import click

from mgmt.invocation.cli import Invocation, pass_invocation, system_options

_NODE = click.argument("node_id", metavar="NODE")
_REASON = click.option("--reason", default="", help="Kept in the node's history.")


@click.command()
@_NODE
@click.option("--timeout", type=click.FloatRange(min=0.1, max=86400), metavar="T",
              help="Seconds until it is ended all the same (default: its pool's).")  # fmt: skip
@_REASON
@system_options
@pass_invocation
def drain(invocation: Invocation, node_id: str, timeout: float | None, reason: str) -> None:
    """Let a node finish its work, then end it. Its pool launches another in its place.

    The pool does not take it back, however much work there is; 'epu node undrain' does. (One
    that its pool lets drain already stays the pool's to take back.)

    \b
    Examples:
      epu node drain web-3f2a9c01d7-0 --reason "a noisy disk"
      epu node drain web-3f2a9c01d7-0 --timeout 3600
    """
    _give(invocation, node_id, "drain", reason, timeout)


@click.command()
@_NODE
@_REASON
@system_options
@pass_invocation
def undrain(invocation: Invocation, node_id: str, reason: str) -> None:
    """Take a draining node back to work, whoever let it drain.

    \b
    Example:
      epu node undrain web-3f2a9c01d7-0
    """
    _give(invocation, node_id, "undrain", reason)


@click.command()
@_NODE
@_REASON
@system_options
@pass_invocation
def protect(invocation: Invocation, node_id: str, reason: str) -> None:
    """Keep a node: its pool neither shrinks by it nor replaces it. A teardown ends it.

    \b
    Example:
      epu node protect web-3f2a9c01d7-0 --reason "under the microscope"
    """
    _give(invocation, node_id, "protect", reason)


@click.command()
@_NODE
@_REASON
@system_options
@pass_invocation
def unprotect(invocation: Invocation, node_id: str, reason: str) -> None:
    """Let a node go again when its pool shrinks or it is unhealthy.

    \b
    Example:
      epu node unprotect web-3f2a9c01d7-0
    """
    _give(invocation, node_id, "unprotect", reason)


@click.command()
@_NODE
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@_REASON
@system_options
@pass_invocation
def terminate(invocation: Invocation, node_id: str, yes: bool, reason: str) -> None:
    """End a node's machine now, with whatever work it has in hand, even a protected one.

    Its pool launches another in its place. 'epu node drain' lets it finish first.

    \b
    Example:
      epu node terminate web-3f2a9c01d7-0 --yes
    """
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("it may have work in hand: say --yes, or 'epu node drain'")
        click.confirm(
            f"End {node_id} now, with whatever work it has in hand?", abort=True, err=True
        )
    _give(invocation, node_id, "terminate", reason)


def _give(
    invocation: Invocation, node_id: str, order: str, reason: str, timeout: float | None = None
) -> None:
    from mgmt.node_exec import person

    done: dict[str, Any] = invocation.ask("order_node", node_id, order, person(), reason, timeout)
    said = f"{node_id} is {done['state']}" + (", protected" if done["protected"] else "")
    invocation.output.result(
        "node-order", done, [said if done["changed"] else f"{said}: nothing was left to do"]
    )


commands = (drain, undrain, protect, unprotect, terminate)
