"""``epu logs fetch``."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mgmt.exit_codes import ExitCode
from mgmt.invocation.cli import Commands, Invocation, output_options, pass_invocation

if TYPE_CHECKING:
    from bootlevels.api import Run


@click.group(cls=Commands, name="logs")
def logs_group() -> None:
    """Collect the logs of a run."""


@logs_group.command()
@click.argument("run_name", metavar="RUN")
@click.option("-o", "--output", "directory", metavar="DIR",
              type=click.Path(file_okay=False, path_type=Path),
              help="Where to (default: RUN-logs, here).")  # fmt: skip
@output_options
@pass_invocation
def fetch(invocation: Invocation, run_name: str, directory: Path | None) -> int:
    """Collect the logs of a run's base and of its workers in one directory.

    Interrupted or incomplete, it goes on when it is repeated; else it fetches all anew. A
    node that does not answer is said (exit 1), with a dead broker the rest is fetched and
    the exit code is 5. 'epu events --file DIR' reads the events out of it.

    \b
    Examples:
      epu logs fetch demo
      epu logs fetch demo -o /tmp/demo-logs
    """
    from agent.rpc_client import RpcClient
    from mgmt.exit_codes import NoSuchRun
    from mgmt.log_fetch import LogFetch, local_sources
    from mgmt.remote_logs import remote_sources
    from mgmt.run_locator import NoCoordinator, open_run, state_dir_of, system_of

    run = open_run(run_name)
    client: RpcClient | None = None
    try:
        client = RpcClient(system_of(run).amqp_url(), connect_within=4.0)
    except (NoCoordinator, NoSuchRun) as problem:
        invocation.output.note(f"{problem}: only what is on this machine")
    try:
        fetch = LogFetch(
            directory=directory or Path(f"{run_name}-logs"),
            call=client.call if client is not None else None,
            say=invocation.output.warning,
        )
        here = local_sources(run.directory, state_dir_of(run))
        report = fetch.perform(chain(here, remote_sources(run)), base_nodes_of(run))
    finally:
        if client is not None:
            client.close()
    for what, why in report.problems.items():
        invocation.output.warning(f"{what}: {why}")
    kept = f", {len(report.kept)} were there" if report.kept else ""
    lines = [f"{len(report.fetched)} logs fetched into {report.directory}{kept}"]
    if report.silent:
        lines.append(f"silent: {', '.join(sorted(report.silent))} (run it again to try again)")
    invocation.output.result("logs", report.document(), lines)
    if report.broker_dead:
        return ExitCode.UNREACHABLE
    return ExitCode.WELL if report.whole else ExitCode.PROBLEM


def base_nodes_of(run: Run) -> list[str]:
    """Node ids of the levels' machines that were told to enrol and are not gone."""
    from bootlevels.machine_record import MachineLife

    told = run.directory / "user-data"
    return [
        f"{machine.launch_id}-0"
        for machine in run.machines()
        if machine.life is not MachineLife.GONE and (told / machine.launch_id).exists()
    ]


commands = (logs_group,)
