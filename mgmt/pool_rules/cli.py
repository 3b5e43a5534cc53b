"""``epu pool hold``, ``resume``, ``override`` and ``remove``."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from mgmt.invocation.cli import Invocation, pass_invocation, system_options

_POOL = click.argument("pool_name", metavar="POOL")
_SUSPENDABLE = ("scale_in", "scale_out", "replace")


@click.command()
@_POOL
@click.option("--suspend", multiple=True, type=click.Choice(_SUSPENDABLE),
              help="What is not to be done; may be repeated (default: all three).")  # fmt: skip
@click.option("--recommend-only", is_flag=True, help="Do nothing at all, only say it.")
@click.option("--reason", default="", help="Shown in 'epu explain' and to the next person.")
@system_options
@pass_invocation
def hold(
    invocation: Invocation,
    pool_name: str,
    suspend: tuple[str, ...],
    recommend_only: bool,
    reason: str,
) -> None:
    """Let one pool not grow, not shrink or not replace anybody until 'epu pool resume'.

    What never served (a boot that failed) is still cleared away, unless --recommend-only.
    'epu hold' holds all pools at once.

    \b
    Examples:
      epu pool hold epu-sleeper --suspend scale_in --reason "month's end"
      epu pool hold epu-sleeper --recommend-only
    """
    if suspend and recommend_only:
        raise click.UsageError("--recommend-only already suspends everything")
    words = [] if recommend_only else list(suspend or _SUSPENDABLE)
    wanted = {"recommend_only": recommend_only, "suspend": words, "reason": reason}
    pool = invocation.ask("reconfigure", pool_name, {"hold": wanted})
    what = "only recommends" if recommend_only else f"suspends {', '.join(words)}"
    invocation.output.result("pool", pool, [f"pool {pool_name} {what} from now on"])


@click.command()
@_POOL
@system_options
@pass_invocation
def resume(invocation: Invocation, pool_name: str) -> None:
    """Let a pool do everything again; ends a hold, and a MELTDOWN of its brake.

    \b
    Example:
      epu pool resume epu-sleeper
    """
    pool = invocation.ask("resume_pool", pool_name)
    lines = [f"pool {pool_name} is free again: nothing is suspended, its brake begins anew"]
    invocation.output.result("pool", pool, lines)


# A negative number is to be refused as a size, not as an option that does not exist.
@click.command(context_settings={"ignore_unknown_options": True})
@_POOL
@click.argument("size", metavar="[N]", required=False, type=click.IntRange(min=0, max=100_000))
@click.option("--for", "duration", metavar="T", default="1h", show_default=True,
              help="For how long: 90s, 30m, 2h, 1d.")  # fmt: skip
@click.option("--reason", default="", help="Shown in 'epu explain' and to the next person.")
@click.option("--clear", is_flag=True, help="Let the engine decide again now.")
@system_options
@pass_invocation
def override(
    invocation: Invocation,
    pool_name: str,
    size: int | None,
    duration: str,
    reason: str,
    clear: bool,
) -> None:
    """Give a pool a size of your own for a while; then its engine decides again.

    The pool's min and max still hold.

    \b
    Examples:
      epu pool override epu-sleeper 8 --for 2h --reason "launch day"
      epu pool override epu-sleeper --clear
    """
    if clear == (size is not None):
        raise click.UsageError("give a size N, or --clear")
    wanted: dict[str, Any] | None = None
    said = f"pool {pool_name}: its engine decides again"
    if size is not None:
        until = time.time() + _seconds(duration)
        wanted = {"size": size, "until": until, "reason": reason}
        said = f"pool {pool_name} has {size} workers for {duration}"
    pool = invocation.ask("reconfigure", pool_name, {"override": wanted})
    invocation.output.result("pool", pool, [said])


@click.command()
@_POOL
@click.option("--timeout", type=click.FloatRange(min=0), default=900.0, show_default=True,
              metavar="T", help="Seconds until its workers must be gone.")  # fmt: skip
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@system_options
@pass_invocation
def remove(invocation: Invocation, pool_name: str, timeout: float, yes: bool) -> None:
    """Let a pool's workers finish and go, then keep it no more.

    May be interrupted and run again. When workers are left after T seconds the pool is
    kept, empty-to-be, and the exit code is 4. A pool of a launch plan comes back with 'epu
    repair': take it out of the plan and 'epu reload' it instead.

    \b
    Example:
      epu pool remove batch --yes
    """
    from mgmt.pool_removal import remove_pool

    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("all its workers go: say --yes")
        click.confirm(f"Let all workers of pool {pool_name} go?", abort=True, err=True)
    with invocation.connection() as client:
        removed = remove_pool(client.call, pool_name, timeout, invocation.output.note)
    said = f"pool {pool_name} is gone, and {len(removed['workers'])} workers with it"
    invocation.output.result("pool-removed", removed, [said])


def _seconds(text: str) -> float:
    from bootlevels.plan_text import parse_duration

    try:
        seconds = parse_duration(text)
    except ValueError as problem:
        raise click.UsageError(f"--for: {problem}") from None
    if not 1 <= seconds <= 366 * 86400:
        raise click.UsageError("--for must be 1 second to a year")
    return seconds


commands = (hold, resume, override, remove)
