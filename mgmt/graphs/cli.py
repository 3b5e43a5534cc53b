"""``epu graph``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mgmt.exit_codes import ExitCode
from mgmt.invocation.cli import Invocation, pass_invocation, system_options

if TYPE_CHECKING:
    from mgmt.graphs.source import History

_LOG = click.Path(path_type=Path)


@click.command()
@click.argument("run_name", metavar="[RUN]", required=False)
@click.argument("more_logs", metavar="[LOG]…", nargs=-1, type=_LOG)
@click.option("--out", "out", metavar="FILE", required=True,
              type=click.Path(dir_okay=False, path_type=Path),
              help="Where to: its name ends in .svg, .png or .csv.")  # fmt: skip
@click.option("--file", "logs", multiple=True, metavar="LOG…", type=_LOG,
              help="Read these files or directories too; without RUN nobody is asked.")  # fmt: skip
@click.option("--pool", metavar="POOL", help="Only of one pool.")
@click.option("--since", metavar="WHEN",
              help="10m, 2h30m, 1d ago, or a local time: 17:20, 2026-01-31T12:00.")  # fmt: skip
@system_options
@pass_invocation
def graph(
    invocation: Invocation,
    run_name: str | None,
    more_logs: tuple[Path, ...],
    out: Path,
    logs: tuple[Path, ...],
    pool: str | None,
    since: str | None,
) -> int:
    """Draw a run over time: its nodes, its queue, its jobs.

    Nodes and what was wanted are from the events, the queue from the decisions, jobs from
    the logs of workers: those of machines on this host are found, others come by --file
    (see 'epu logs fetch'). Pictures take matplotlib: pip install 'epu[graph]'.

    \b
    Examples:
      epu graph demo --out demo.svg
      epu graph demo --since 2h --pool epu-sleeper --out demo.csv
      epu graph --file demo-logs --out demo.png
    """
    from mgmt.events.cli import moment_of
    from mgmt.graph import Mark, Panel, format_of, series_of, write_graph
    from mgmt.graphs.panels import losses_of, panels_of
    from mgmt.graphs.source import History

    format_of(out)
    history = History()
    files = [*logs, *more_logs]
    code: int = ExitCode.WELL
    if logs and run_name and Path(run_name).exists():
        files.append(Path(run_name))  # the shell made several of --file *.log
        run_name = None
    if run_name or not files:
        code = _from_run(invocation, run_name, history)
    history.read_files(files)
    for line in history.broken:
        invocation.output.warning(f"{line} (skipped)")
    events = history.ordered(moment_of(since, time.time()) if since else None, pool)
    begin = events[0].time if events else 0.0
    decisions = [
        each
        for each in history.decisions
        if pool in (None, each.get("pool")) and (since is None or each["time"] >= begin)
    ]
    drawn = panels_of(events, decisions)
    panels = [Panel(title, series_of(lines)) for title, lines in drawn.items()]
    title = f"run {run_name or (events[0].run if events else '')}".strip()
    write_graph(out, panels, title, [Mark(at, text) for at, text in losses_of(events)])
    document = {
        "file": str(out),
        "events": len(events),
        "decisions": len(decisions),
        "panels": {title: sorted(lines) for title, lines in drawn.items()},
        "missing": history.missing,
        "broken": history.broken,
    }
    what = ", ".join(drawn) or "nothing: there are no events"
    line = f"{out}: {what} ({len(events)} events, {len(decisions)} decisions)"
    invocation.output.result("graph", document, [line])
    return code


def _from_run(invocation: Invocation, run_name: str | None, history: History) -> int:
    """Add what a run knows; 5 when its broker is dead and only files were read."""
    from agent.rpc_client import BrokerUnreachable, RpcClient
    from mgmt.exit_codes import NoSuchRun
    from mgmt.graphs.source import ask_history, worker_logs
    from mgmt.run_events import LogPlace
    from mgmt.run_locator import NoCoordinator, only_living_run, open_run, state_dir_of, system_of

    if invocation.elsewhere and not run_name:
        with invocation.connection() as client:
            ask_history(client.call, history, LogPlace())
        return ExitCode.WELL
    name = run_name or invocation.run
    run = open_run(name) if name else only_living_run()
    place = LogPlace(state_dir=state_dir_of(run), run_directory=run.directory)
    history.read_files([*worker_logs(place.state_dir), *place.of_command()])
    try:
        url = system_of(run).amqp_url()
    except (NoSuchRun, NoCoordinator) as ended:
        invocation.output.note(f"{ended}: from its log files")
        for source in ("provisioner", "controller", "registrar"):
            history.read_files(place.of(source))
        history.read_store(place.state_dir)
        return ExitCode.WELL
    with RpcClient(url, timeout=8.0, connect_within=4.0) as client:
        try:
            ask_history(client.call, history, place)
        except BrokerUnreachable as problem:
            if not history.events:
                raise
            history.missing["broker"] = str(problem)
    invocation.warn_of_missing({"missing": history.missing})
    dead = all(source in history.missing for source in ("provisioner", "controller"))
    return ExitCode.UNREACHABLE if dead else ExitCode.WELL


commands = (graph,)
