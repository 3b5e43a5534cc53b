"""``epu node logs`` and ``epu node exec``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from mgmt.exit_codes import ExitCode
from mgmt.invocation.cli import ANSWER_WITHIN, Invocation, pass_invocation, system_options

if TYPE_CHECKING:
    from mgmt.node_exec import Execution

_NODE = click.argument("node_id", metavar="NODE")


@click.command()
@_NODE
@click.option("--program", metavar="NAME", default="",
              help="Only of one program, or agent, cloud-init, supervisord.")  # fmt: skip
@click.option("-n", "--lines", type=click.IntRange(1, 2000), default=50, show_default=True,
              help="The last so many of each log.")  # fmt: skip
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines until Ctrl-C.")
@system_options
@pass_invocation
def logs(invocation: Invocation, node_id: str, program: str, lines: int, follow: bool) -> None:
    """The last lines of a node's logs: its programs', its agent's, cloud-init's.

    \b
    Examples:
      epu node logs web-3f2a9c01d7-0
      epu node logs web-3f2a9c01d7-0 --program agent -n 200
      epu node logs web-3f2a9c01d7-0 --follow
    """
    if follow and invocation.as_json:
        raise click.UsageError("--follow prints lines; it has no JSON form")
    if follow:
        _follow(invocation, node_id, program, lines)
        return
    document = invocation.ask("node_logs", node_id, program, lines)
    invocation.output.result("node-logs", document, [document["text"] or "its logs are empty"])


def _follow(invocation: Invocation, node_id: str, program: str, lines: int) -> None:
    from mgmt.answers import ask
    from mgmt.node_exec import sections_of, unseen

    seen: dict[str, list[str]] = {}
    latest = ""
    with invocation.connection() as client:
        while True:
            # More than is shown: a second in which more comes is told with a gap.
            words = (node_id, program, max(lines, 500) if seen else lines)
            document = ask(client.call, "management", "node_logs", *words, timeout=ANSWER_WITHIN)
            for heading, now in sections_of(document["text"]).items():
                new = unseen(seen.get(heading, []), now)
                if new and heading and heading != latest:
                    click.echo(heading)
                    latest = heading
                for line in new:
                    click.echo(line)
                seen[heading] = now or seen.get(heading, [])
            time.sleep(1.0)


@click.command(name="exec")
@_NODE
@click.argument("words", metavar="COMMAND [ARG]…", nargs=-1, required=True,
                type=click.UNPROCESSED)  # fmt: skip
@click.option("--timeout", type=click.FloatRange(min=0.1, max=3600), default=60.0, metavar="T",
              show_default=True, help="Seconds; then the node ends it.")  # fmt: skip
@system_options
@pass_invocation
def exec_command(
    invocation: Invocation, node_id: str, words: tuple[str, ...], timeout: float
) -> int:
    """Run a command on a node, through its agent, and show what it prints.

    The words are run as they are, by no shell. Who ran what is in the history before it
    begins ('epu events --name node_exec'): put no secrets there. Exit 0 when the command
    ended with 0, else 1, and its own exit code is said. Ctrl-C ends it on the node too.

    \b
    Examples:
      epu node exec web-3f2a9c01d7-0 -- df -h
      epu node exec web-3f2a9c01d7-0 --timeout 300 -- sh -c 'ps aux | head'
    """
    from mgmt.node_exec import MAX_KEPT, Execution

    run: Execution
    with invocation.connection() as client:
        run = Execution(client.call, node_id, words, timeout)
        kept = bytearray()
        try:
            for piece in run.pieces():
                if invocation.as_json:
                    kept += piece
                    del kept[: max(0, len(kept) - MAX_KEPT)]
                else:
                    click.echo(piece, nl=False)
        finally:
            run.close()
    document: dict[str, Any] = {
        "node_id": node_id,
        "exec_id": run.exec_id,
        "exit_code": run.status.exit_code,
        "timed_out": run.status.timed_out,
        "problem": run.status.problem,
        "output": kept.decode("utf-8", "replace"),
        "output_omitted": run.received - len(kept) if invocation.as_json else 0,
    }
    said = run.how_it_ended()
    if said:
        invocation.output.note(said)
    invocation.output.result("node-exec", document, [])
    return ExitCode.WELL if not said else ExitCode.PROBLEM


commands = (logs, exec_command)
