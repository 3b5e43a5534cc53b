"""``epu replay``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mgmt.exit_codes import ExitCode
from mgmt.invocation.cli import Invocation, pass_invocation, system_options
from mgmt.output import Table, clock_text, text_of

if TYPE_CHECKING:
    from coordinator.simulation.replay_decisions import Replayed

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
#: (pool, row of ``controller.recordings``).
Row = tuple[str, dict[str, Any]]


@click.command(name="replay")
@click.argument("run_name", metavar="[RUN]", required=False)
@click.option("--pool", metavar="POOL", help="Only decisions of one pool.")
@click.option("--at", metavar="WHEN",
              help="Only the one in force then: 10m, 2h ago, 17:20, or a local time.")  # fmt: skip
@click.option("--store", metavar="FILE", type=_FILE,
              help="Read this controller.db, or a copy of one; nobody is asked.")  # fmt: skip
@system_options
@pass_invocation
def replay_command(
    invocation: Invocation,
    run_name: str | None,
    pool: str | None,
    at: str | None,
    store: Path | None,
) -> int:
    """Decide again what was decided, with the engines that are here now, and compare.

    Every stored decision is kept with all it was made of, so it must come out the same to
    the last word. Exit code 1 when one does not, or can't be replayed any more. Of an ended
    run its store file is read, where it still is.

    \b
    Examples:
      epu replay demo
      epu replay demo --pool epu-sleeper --at 10m
      epu replay --store /tmp/controller.db --json

    A run's store is copied by: sqlite3 controller.db "VACUUM INTO 'copy.db'" (what was written
    last is in another file beside it).
    """
    from coordinator.simulation.replay_decisions import Replayer
    from mgmt.events.cli import moment_of

    invocation.run = run_name or invocation.run
    moment = None if at is None else moment_of(at, time.time(), "--at")
    replayer = Replayer()
    try:
        done, bare = [], 0
        for name, row in stored_rows(invocation, pool, moment, store):
            if row["recording"] is None:
                bare += 1
            else:
                done.append(replayer.replay(name, row["at"], row["recording"]))
    finally:
        replayer.close()
    different = [one for one in done if not one.is_same]
    document = {
        "replayed": len(done),
        "same": len(done) - len(different),
        "undecided": bare,
        "different": [_as_json(one) for one in different],
    }
    lines: list[str | Table] = [f"{len(done)} decisions replayed, {document['same']} the same"]
    if bare:
        lines.append(f"{bare} stored cycles decided nothing (held, frozen, or an engine failed)")
    if different:
        lines.append(Table(("TIME", "POOL", "WHAT", "THEN", "NOW"), _table(different)))
    invocation.output.result("replay", document, lines)
    return ExitCode.PROBLEM if different else ExitCode.WELL


def stored_rows(
    invocation: Invocation, pool: str | None, at: float | None, store: Path | None
) -> Iterator[Row]:
    """The stored decisions that are meant, of the file, the live controller, or an ended run."""
    from agent.rpc_client import CallFailed
    from mgmt.exit_codes import NoSuchRun
    from mgmt.run_locator import NoCoordinator

    if store is not None:
        from coordinator.simulation.replay_source import may_lack_the_newest

        if doubt := may_lack_the_newest(store):
            invocation.output.note(doubt)
        yield from _of_file(store, pool, at)
        return
    try:
        yield from _of_controller(invocation, pool, at)
    except (NoSuchRun, NoCoordinator, CallFailed) as problem:
        file = _file_of(invocation)
        if file is None:
            raise
        invocation.output.note(f"{problem}; reading {file}")
        yield from _of_file(file, pool, at)


def _of_controller(invocation: Invocation, pool: str | None, at: float | None) -> Iterator[Row]:
    from agent.keepers import KeeperCalls
    from mgmt.answers import ask
    from mgmt.keepers import every_pool

    with invocation.connection() as client:
        call = KeeperCalls(client.call).call
        for name in every_pool(call).names if pool is None else [pool]:
            before = None
            while page := ask(call, "controller", "recordings", name, before, at):
                before = page[-1]["id"]
                yield from ((name, row) for row in (page if at is None else page[:1]))
                if at is not None:
                    break


def _of_file(file: Path, pool: str | None, at: float | None) -> Iterator[Row]:
    from coordinator.errors import ConfigProblem
    from coordinator.simulation.replay_source import recordings_in
    from mgmt.exit_codes import WrongFile

    try:
        yield from recordings_in(file, pool, at)
    except ConfigProblem as problem:
        raise WrongFile(str(problem)) from None


def _file_of(invocation: Invocation) -> Path | None:
    """The controller's store of the run that is meant, if it is on this machine."""
    from mgmt.run_locator import only_living_run, open_run, state_dir_of

    if invocation.elsewhere:
        return None  # no run of this machine
    run = open_run(invocation.run) if invocation.run else only_living_run()
    directory = state_dir_of(run)
    file = None if directory is None else directory / "controller.db"
    return file if file is not None and file.exists() else None


def _as_json(one: Replayed) -> dict[str, Any]:
    return {
        "pool": one.pool,
        "at": one.at,
        "problem": one.problem,
        "differences": [
            {"what": each.what, "then": each.then, "now": each.now} for each in one.differences
        ],
    }


def _table(different: list[Replayed]) -> list[tuple[str, ...]]:
    return [
        (clock_text(one.at), one.pool, what, then, now)
        for one in different
        for what, then, now in (
            [("-", "-", one.problem)]
            if one.problem
            else [(each.what, text_of(each.then), text_of(each.now)) for each in one.differences]
        )
    ]


commands = (replay_command,)
