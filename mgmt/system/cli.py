"""``epu teardown``, ``epu shell``, ``epu completion``."""

from __future__ import annotations

from typing import Any

import click

from mgmt.invocation.cli import (
    ANSWER_WITHIN,
    Invocation,
    output_options,
    pass_invocation,
    system_options,
)


@click.command()
@click.argument("run_name", metavar="RUN")
@click.option("--dry-run", is_flag=True, help="Only say what there is and would be ended.")
@click.option("--leave-workers", is_flag=True, help="End the levels, let the workers run.")
@click.option("--now", is_flag=True, help="Do not let workers finish what they are doing.")
@click.option("--timeout", type=click.FloatRange(min=0), default=900.0, show_default=True,
              metavar="T", help="Seconds until every worker must be gone.")  # fmt: skip
@output_options
@pass_invocation
def teardown(
    invocation: Invocation,
    run_name: str,
    dry_run: bool,
    leave_workers: bool,
    now: bool,
    timeout: float,
) -> None:
    """End a whole system: first the workers, then the levels, with a receipt.

    May be interrupted and run again at any point. When the workers can't be confirmed
    gone, the base system is left standing and the exit code is 4.

    \b
    Examples:
      epu teardown demo --dry-run
      epu teardown demo --now
    """
    from mgmt.run_teardown import open_teardown
    from mgmt.teardown import Wishes

    output = invocation.output
    wishes = Wishes(now=now, leave_workers=leave_workers, timeout=timeout)
    with open_teardown(run_name, say=output.note) as work:
        if dry_run:
            there = work.preview()
            document: dict[str, Any] = {
                "run": run_name,
                "workers": list(there.workers),
                "services": list(there.services),
            }
            workers = "left running" if leave_workers else "ended"
            lines = [
                f"workers, to be {workers}: {', '.join(there.workers) or 'none'}",
                f"services, to be ended: {', '.join(reversed(there.services)) or 'none'}",
            ]
            output.result("teardown-preview", document, lines)
            return
        earlier = work.earlier_receipt()
        if earlier is not None:
            output.result("receipt", earlier, [f"run {run_name}: nothing left"])
            return
        receipt = work.perform(wishes)
    output.result("receipt", receipt.document(), receipt.lines())


@click.command()
@click.option("-c", "--command", "text", metavar="PYTHON", help="Run this and print its value.")
@system_options
@pass_invocation
def shell(invocation: Invocation, text: str | None) -> None:
    """Python with the services of a run at hand, every call with a deadline.

    \b
    Examples:
      epu shell
      epu shell -c 'n.rpc.management.status()'
      epu shell -c 'n.rpc["agent-<node id>"].describe()'
    """
    from agent.rpc_client import ClientPool
    from mgmt.shell import console_for, evaluate, interact

    system = invocation.system()
    pool = ClientPool(system.amqp_url(), timeout=ANSWER_WITHIN)
    try:
        console = console_for(pool.call, system.run, ANSWER_WITHIN)
        if text is None:
            interact(console)
        else:
            evaluate(console, text)
    finally:
        pool.close()


@click.command()
@click.argument("shell_name", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell_name: str) -> None:
    """Print the line that makes SHELL complete epu's commands.

    \b
    Example:
      epu completion bash >> ~/.bashrc
    """
    lines = {
        "bash": 'eval "$(_EPU_COMPLETE=bash_source epu)"',
        "zsh": 'eval "$(_EPU_COMPLETE=zsh_source epu)"',
        "fish": "_EPU_COMPLETE=fish_source epu | source",
    }
    click.echo(lines[shell_name])


commands = (teardown, shell, completion)
