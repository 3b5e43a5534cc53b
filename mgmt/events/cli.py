"""``epu events``."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mgmt.exit_codes import ExitCode
from mgmt.invocation.cli import ANSWER_WITHIN, Invocation, pass_invocation, system_options
from mgmt.output import Table, clock_text, text_of

if TYPE_CHECKING:
    from mgmt.run_events import Filters, LogPlace

_LOG = click.Path(path_type=Path)
#: Between two questions of ``--follow``, s.
_FOLLOW_EVERY = 1.0
#: So many events are looked at for the word that was meant.
_LOOKED_AT = 5000


@click.command()
@click.argument("more_logs", metavar="[LOG]…", nargs=-1, type=_LOG)
@click.option("--file", "logs", multiple=True, metavar="LOG…", type=_LOG,
              help="Read these log files or directories instead; nobody is asked.")  # fmt: skip
@click.option("--since", metavar="WHEN",
              help="10m, 2h30m, 1d ago, or a local time: 17:20, 2026-01-31T12:00.")  # fmt: skip
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
    more_logs: tuple[Path, ...],
    logs: tuple[Path, ...],
    since: str | None,
    pool: str | None,
    node: str | None,
    name: str | None,
    limit: int,
    follow: bool,
) -> int:
    """What happened, oldest first: the histories of all components, merged.

    What a component that does not answer wrote is read from its log file, where that is on
    this machine. Of a dead or ended system the files alone tell. With --follow and --json:
    one JSON object a line.

    \b
    Examples:
      epu events --since 10m --pool epu-sleeper
      epu events --name node_ready --follow
      epu events --file worker.log coordinator/logs
    """
    from mgmt.run_events import Filters, of_files

    filters = Filters(
        since=moment_of(since, time.time()) if since else None,
        pool=pool,
        node=node,
        name=name,
        limit=limit,
    )
    if more_logs and not logs:
        raise click.UsageError(f"to read {more_logs[0]}: --file {more_logs[0]}")
    if logs:
        if follow:
            raise click.UsageError("--follow asks a running system; --file reads what there is")
        _show(invocation, of_files((*logs, *more_logs), filters))
        return ExitCode.WELL
    if follow:
        _follow(invocation, filters)
        return ExitCode.WELL
    return _ask(invocation, filters)


def _ask(invocation: Invocation, filters: Filters) -> int:
    """Show what the system tells, or its files; 5 when it was the broker that is dead."""
    from agent.rpc_client import BrokerUnreachable
    from mgmt.exit_codes import NoSuchRun
    from mgmt.run_events import all_from_files, ask_events, with_files
    from mgmt.run_locator import NoCoordinator

    place = _logs_here(invocation)
    code = ExitCode.WELL
    try:
        with invocation.connection() as client:
            found = ask_events(client.call, filters, None, ANSWER_WITHIN)
            document = with_files(found, filters, place)
    except (BrokerUnreachable, NoSuchRun, NoCoordinator) as problem:
        if not (place.of_command() or any(map(place.of, ("provisioner", "controller")))):
            raise
        document = all_from_files(str(problem), filters, place)
        ended = isinstance(problem, NoSuchRun)
        code = ExitCode.WELL if ended else ExitCode.UNREACHABLE
        invocation.output.warning(f"{problem}; this is what its log files hold")
    else:
        invocation.warn_of_missing(document)
    _show(invocation, document)
    if not document["events"] and code == ExitCode.WELL:
        _say_what_was_meant(invocation, filters)
    return code


def _say_what_was_meant(invocation: Invocation, filters: Filters) -> None:
    """Nothing was found: of a pool, node or name that the history does not know, say so."""
    from agent.rpc_client import CallFailed
    from coordinator.errors import EpuError, did_you_mean
    from mgmt.run_events import Filters, ask_events

    wanted = {"pool": filters.pool, "node": filters.node, "name": filters.name}
    if not any(wanted.values()):
        return
    try:
        with invocation.connection() as client:
            seen = ask_events(client.call, Filters(limit=_LOOKED_AT), None, ANSWER_WITHIN)["events"]
    except (EpuError, CallFailed):
        return
    for key, word in wanted.items():
        known = {str(event[key]) for event in seen if event.get(key)}
        if word and word not in known:
            hint = did_you_mean(word, known)
            near = f": {hint}" if hint.startswith("did you mean") else ""
            invocation.output.warning(f"no event has the {key} '{word}'{near}")


def _logs_here(invocation: Invocation) -> LogPlace:
    """Where the logs of the run that is meant are on this machine, dead or alive."""
    from coordinator.errors import EpuError
    from mgmt.run_events import LogPlace
    from mgmt.run_locator import only_living_run, open_run, state_dir_of

    if invocation.elsewhere:
        return LogPlace()
    try:
        run = open_run(invocation.run) if invocation.run else only_living_run()
        return LogPlace(state_dir=state_dir_of(run), run_directory=run.directory)
    except EpuError:
        return LogPlace()  # whoever asks the system says what is wrong


def _show(invocation: Invocation, document: dict[str, Any]) -> None:
    columns = ("TIME", "SOURCE", "EVENT", "POOL", "NODE", "REASON")
    rows = [_row(event) for event in document["events"]]
    for line in document["broken"]:
        invocation.output.warning(f"{line} (skipped)")
    if document["from_files"]:
        names = ", ".join(document["from_files"])
        invocation.output.note(f"from log files: {names}")
    if document["omitted"]:
        invocation.output.note(f"{document['omitted']} older ones are not shown (see --limit)")
    table = Table(columns, rows, empty="no events", spare=("POOL", "SOURCE"))
    invocation.output.result("events", document, [table])


def _follow(invocation: Invocation, filters: Filters) -> None:
    from agent.rpc_client import CallFailed
    from mgmt.run_events import ask_events

    cursor: dict[str, int] | None = None
    missing: dict[str, str] = {}
    with invocation.connection() as client:
        while True:
            try:
                document = ask_events(client.call, filters, cursor, ANSWER_WITHIN)
            except CallFailed as problem:
                if cursor is None:
                    raise
                # What happens meanwhile is told afterwards: the cursor knows the place.
                document = {"events": [], "missing": {"management": str(problem)}}
            else:
                if cursor is None and not document["events"]:
                    _say_what_was_meant(invocation, filters)
                cursor = document["cursor"]
            if document["missing"].keys() != missing.keys():
                invocation.warn_of_missing(document)
            missing = document["missing"]
            for event in document["events"]:
                text = (
                    json.dumps(event, sort_keys=True)
                    if invocation.as_json
                    else "  ".join(cell for cell in _row(event) if cell != "-")
                )
                click.echo(text)
            time.sleep(_FOLLOW_EVERY)


def _row(event: dict[str, Any]) -> tuple[str, ...]:
    return (
        clock_text(event["time"]),
        event["source"],
        event["name"],
        text_of(event["pool"]),
        text_of(event["node"]),
        text_of(" ".join(str(event["reason"]).split())),
    )


def moment_of(text: str, now: float, option: str = "--since") -> float:
    """The epoch second of ``10m`` (ago), of ``17:20`` (the last time it was that), or of an
    ISO time; wrong usage otherwise.
    """
    from datetime import datetime, timedelta

    if re.fullmatch(r"(\d+(\.\d+)?[smhd])+", text):
        units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
        parts = re.findall(r"([\d.]+)([smhd])", text)
        return now - sum(float(number) * units[unit] for number, unit in parts)
    try:
        if re.fullmatch(r"\d{1,2}:\d\d(:\d\d)?", text):
            today = datetime.fromtimestamp(now)
            hour, minute, *second = (int(part) for part in text.split(":"))
            at = today.replace(hour=hour, minute=minute, second=(*second, 0)[0], microsecond=0)
            return (at if at <= today else at - timedelta(days=1)).timestamp()
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise click.BadParameter(
            f"'{text}' is neither like 90s, 10m, 2h30m, 1d nor a time like 17:20 or"
            " 2026-01-31T12:00",
            param_hint=option,
        ) from None


commands = (events,)
