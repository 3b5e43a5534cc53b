"""``epu pool rollout``: replace a pool's old workers, and see how far that is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import click

from mgmt.exit_codes import GaveUpWaiting
from mgmt.invocation.cli import ANSWER_WITHIN, Invocation, pass_invocation, system_options

#: Between two looks of ``--wait``, s.
LOOK_EVERY = 0.5


# A negative number is to be refused as a number, not as an option that does not exist.
@click.command(name="rollout")
@click.argument("pool_name", metavar="POOL")
@click.option("--stop", is_flag=True, help="Let no further old worker go.")
@click.option("--status", "only_status", is_flag=True, help="Only say how far it is.")
@click.option("--max-surge", type=click.IntRange(min=0), metavar="N",
              help="So many at a time (default: the pool's max_surge). 0: one goes "
                   "before its successor comes.")  # fmt: skip
@click.option("--wait", is_flag=True, help="Until it is finished; exit 1 when it is not in time.")
@click.option("--timeout", type=click.FloatRange(min=0), default=3600.0, show_default=True,
              metavar="T", help="Seconds, for --wait.")  # fmt: skip
@system_options
@pass_invocation
def rollout_command(
    invocation: Invocation,
    pool_name: str,
    stop: bool,
    only_status: bool,
    max_surge: int | None,
    wait: bool,
    timeout: float,
) -> None:
    """Replace the workers that were launched with another template, machine or variables.

    A few at a time: new ones beyond the pool's size, and when they are well, as many old
    ones drain. A new worker that fails pauses it for a while. Run it again to go on at
    once; a rollout that is under way stays one.

    \b
    Examples:
      epu pool rollout epu-sleeper --wait
      epu pool rollout epu-sleeper --max-surge 5
      epu pool rollout epu-sleeper --status
    """
    if stop and only_status:
        raise click.UsageError("--stop and --status are two different things")
    if (stop or only_status) and max_surge is not None:
        raise click.UsageError("--max-surge is for starting a rollout")
    if stop and wait:
        raise click.UsageError("--wait is for a rollout that goes on")
    if only_status:
        pool = invocation.ask("pool", pool_name)
    else:
        pool = invocation.ask("rollout", pool_name, "stop" if stop else "start", max_surge)
    if wait:
        pool = _finished(invocation, pool_name, pool, timeout)
    document = {"name": pool["name"], "old": pool.get("old"), "rollout": pool.get("rollout")}
    invocation.output.result("rollout", document, [rollout_line(pool)])


def rollout_line(pool: Mapping[str, Any]) -> str:
    """How far a pool's rollout is, in one line."""
    old, found = pool.get("old"), pool.get("rollout")
    if not found:
        said = "no rollout yet"
        if old is not None:
            many = f"{old} old worker{'s' if old > 1 else ''}"
            said += f"; {many}" if old else "; no worker is old"
        return f"pool {pool['name']}: {said}"
    said = f"rollout {found['state']}"
    if found.get("reason"):
        said += f": {found['reason']}"
    if found.get("seconds_left"):
        said += f"; again in {found['seconds_left']:.0f} s"
    left = "" if old is None else f", {old} old ones left"
    return f"pool {pool['name']}: {said} ({found['replaced']} replaced{left})"


def _finished(
    invocation: Invocation, pool_name: str, pool: dict[str, Any], timeout: float
) -> dict[str, Any]:
    """The pool when its rollout is finished. Raises GaveUpWaiting when it is not, or not in time.

    A broker or controller that is away for a while is waited out.
    """
    from agent.rpc_client import CallFailed
    from mgmt.answers import ask

    deadline = time.monotonic() + timeout
    said = ""
    with invocation.connection() as client:
        while True:
            found = pool.get("rollout") or {"state": "FINISHED"}
            line = rollout_line(pool)
            if found["state"] == "FINISHED":
                return pool
            if found["state"] == "STOPPED":
                raise GaveUpWaiting(line)
            if line != said:
                invocation.output.note(line)
                said = line
            if time.monotonic() >= deadline:
                raise GaveUpWaiting(f"{line} (after {timeout:g} s)")
            time.sleep(min(LOOK_EVERY, max(deadline - time.monotonic(), 0.05)))
            try:
                left = max(deadline - time.monotonic(), 1.0)
                pool = ask(
                    client.call, "management", "pool", pool_name, timeout=min(left, ANSWER_WITHIN)
                )
            except CallFailed:
                if time.monotonic() >= deadline:
                    raise
