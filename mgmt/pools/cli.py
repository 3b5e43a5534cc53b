"""``epu pools``, ``epu pool …``, ``epu explain``, ``epu wait``."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from mgmt.events.cli import moment_of
from mgmt.exit_codes import GaveUpWaiting
from mgmt.invocation.cli import ANSWER_WITHIN, Commands, Invocation, pass_invocation, system_options
from mgmt.output import Table, age_text, text_of, yes_no
from mgmt.pool_rules.cli import commands as rules
from mgmt.pool_words import by_hand, count_of, price_of, reason_of
from mgmt.rollouts.cli import rollout_command, rollout_line

_POOL = click.argument("pool_name", metavar="POOL")
#: A broker that can't be reached for so long from the beginning on is not waited for, s.
_FIRST_ANSWER = 7.0
_STATES = ("STABLE", "PENDING", "HELD", "FAILED")


@click.command(name="pools")
@system_options
@pass_invocation
def pools_command(invocation: Invocation) -> None:
    """List the pools of a run with their sizes and states.

    \b
    Examples:
      epu pools
      epu pools --run demo --json
    """
    document = invocation.ask("pools")
    priced = any(pool.get("price") is not None for pool in document["pools"])
    columns = ("POOL", "STATE", "ENGINE", "WANTED", "RUNNING", "PENDING", "DRAINING",
               "UNHEALTHY", "BRAKE", *(["$/H"] if priced else []), "REASON")  # fmt: skip
    rows = [
        (
            pool["name"],
            pool["state"],
            str((pool.get("engine") or {}).get("type", "-")),
            *(text_of(count_of(pool, key)) for key in ("wanted", "running", "pending", "draining")),
            text_of(count_of(pool, "unhealthy")),
            text_of(pool.get("brake")),
            *([price_of(pool)] if priced else []),
            reason_of(pool),
        )
        for pool in document["pools"]
    ]
    invocation.warn_of_missing(document)
    table = Table(columns, rows, empty="no pools", spare=("ENGINE", "BRAKE"))
    invocation.output.result("pools", document, [table])


@click.group(cls=Commands, name="pool")
def pool_group() -> None:
    """Show or change one pool."""


@pool_group.command()
@_POOL
@system_options
@pass_invocation
def show(invocation: Invocation, pool_name: str) -> None:
    """Show one pool and its nodes.

    \b
    Example:
      epu pool show epu-sleeper
    """
    _show_pool(invocation, invocation.ask("pool", pool_name))


@click.command(name="hold")
@click.option("--reason", default="held by hand", show_default=True, help="Shown with each pool.")
@system_options
@pass_invocation
def hold_command(invocation: Invocation, reason: str) -> None:
    """Let no pool grow, shrink or replace anybody until 'epu resume'.

    Nobody is ended. A coordinator that is restarted goes on holding.

    \b
    Example:
      epu hold --reason "the network is being rebuilt"
    """
    invocation.ask("freeze", reason)
    lines = ["all pools are held: nothing is launched, replaced or ended ('epu resume' ends that)"]
    invocation.output.result("hold", {"held": True, "reason": reason}, lines)


@click.command(name="resume")
@system_options
@pass_invocation
def resume_command(invocation: Invocation) -> None:
    """Let the pools' engines decide again.

    \b
    Example:
      epu resume
    """
    invocation.ask("unfreeze")
    invocation.output.result("hold", {"held": False}, ["the pools' engines decide again"])


# A negative number is to be refused as a size, not as an option that does not exist.
@pool_group.command(name="set-n", context_settings={"ignore_unknown_options": True})
@_POOL
@click.argument("size", metavar="N", type=click.IntRange(min=0))
@system_options
@pass_invocation
def set_n(invocation: Invocation, pool_name: str, size: int) -> None:
    """Keep N workers from now on (pools of the engine n_preserving).

    \b
    Example:
      epu pool set-n epu-sleeper 3
    """
    pool = invocation.ask("set_n", pool_name, size)
    lines = [f"pool {pool_name} keeps {size} workers from now on"]
    invocation.output.result("pool", pool, lines)


@pool_group.command()
@_POOL
@click.argument("changes", metavar="KEY=VALUE…", nargs=-1, required=True)
@system_options
@pass_invocation
def reconfigure(invocation: Invocation, pool_name: str, changes: tuple[str, ...]) -> None:
    """Change settings of a running pool; checked first, all of it or nothing.

    KEY is dotted; a VALUE is YAML, null gives KEY its default again. What is not named
    stays as it is.

    \b
    Examples:
      epu pool reconfigure epu-sleeper max=10
      epu pool reconfigure epu-sleeper engine.queuelen_high_water=20 engine.step=2
    """
    wanted = dict(_assignment(change) for change in changes)
    pool = invocation.ask("reconfigure", pool_name, wanted)
    lines = [f"pool {pool_name}: {key} is {text_of(value)} now" for key, value in wanted.items()]
    invocation.output.result("pool", pool, lines)


@pool_group.command()
@_POOL
@click.option(
    "-f",
    "--file",
    "path",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML with the keys of a plan's pool: section.",
)
@system_options
@pass_invocation
def add(invocation: Invocation, pool_name: str, path: Path) -> None:
    """Add a pool from a file; adding the same again changes nothing.

    \b
    Example:
      epu pool add batch -f batch.yaml
    """
    import yaml

    from coordinator.errors import ConfigProblem, Problem
    from coordinator.pool_spec import parse_pool

    try:
        section = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        what = " ".join(str(problem).split())
        raise ConfigProblem([Problem(where=str(path), what=what)]) from None
    parse_pool(pool_name, section, where=str(path))
    answer = invocation.ask("add_pool", pool_name, section)
    said = "added" if answer["added"] else "was there already, nothing changed"
    invocation.output.result("pool-added", answer, [f"pool {pool_name}: {said}"])


@click.command()
@_POOL
@click.option("--at", metavar="TIME", help="As it was then: 10m (ago), 17:20 or 2026-01-31T12:00.")
@system_options
@pass_invocation
def explain(invocation: Invocation, pool_name: str, at: str | None) -> None:
    """Say why a pool has the size it has: inputs, wish, bounds, result, and why no other.

    \b
    Examples:
      epu explain epu-sleeper
      epu explain epu-sleeper --at 2h
    """
    from mgmt.explain import explanation_lines

    moment = None if at is None else moment_of(at, time.time(), "--at")
    document = invocation.ask("explain", pool_name, moment)
    invocation.warn_of_missing(document)
    invocation.output.result(
        "explanation", document, explanation_lines(document, past=at is not None)
    )


@click.command()
@_POOL
@click.option("--state", type=click.Choice(_STATES, case_sensitive=False), default="STABLE",
              show_default=True)  # fmt: skip
@click.option("--timeout", type=click.FloatRange(min=0), default=300.0, show_default=True,
              metavar="T", help="Seconds.")  # fmt: skip
@system_options
@pass_invocation
def wait(invocation: Invocation, pool_name: str, state: str, timeout: float) -> None:
    """Wait until a pool is in a state; exit 1 when it is not in time.

    STABLE and PENDING count when they were decided after the wait began, so that a change
    made just before is never missed. A broker that never answers is exit 5 within seconds;
    later outages, and those of the coordinator, are waited out.

    \b
    Example:
      epu wait epu-sleeper --state STABLE --timeout 60
    """
    from agent.rpc_client import BrokerUnreachable, CallFailed
    from mgmt.answers import ask

    began = time.monotonic()
    deadline = began + timeout
    said, answered = "", False
    with invocation.connection() as client:
        while True:
            left = max(deadline - time.monotonic(), 1.0)
            try:
                pool = ask(
                    client.call, "management", "pool", pool_name, timeout=min(left, ANSWER_WITHIN)
                )
            except CallFailed as problem:
                # A restart of the broker or of a component is waited out like all else.
                now = time.monotonic()
                dead = isinstance(problem, BrokerUnreachable) and not answered
                if now >= deadline or (dead and now >= began + _FIRST_ANSWER):
                    raise
                if not dead and str(problem) != said:
                    said = str(problem)
                    invocation.output.note(f"{said}; waiting for it")
            else:
                answered = True
                fresh = is_fresh(pool, time.monotonic() - began)
                if fresh and pool["state"] == state.upper():
                    invocation.output.result("pool", pool, [f"pool {pool_name} is {state}"])
                    return
                line = f"pool {pool_name} is {pool['state']}: {pool.get('reason', '')}"
                words = re.sub(r"\d+ s\b", "", line)  # seconds that run down are no news
                if fresh and words != said:
                    invocation.output.note(line)
                    said = words
                if time.monotonic() >= deadline:
                    raise GaveUpWaiting(f"{line} (after {timeout:g} s, not {state})")
            time.sleep(min(0.5, max(deadline - time.monotonic(), 0.05)))


def is_fresh(pool: Mapping[str, Any], elapsed: float) -> bool:
    """Whether a pool's state says something of the last ``elapsed`` seconds.

    HELD and FAILED always do: they may stand for cycles that did not take place.
    """
    if pool["state"] in ("HELD", "FAILED"):
        return True
    age = pool.get("decided_age")
    return age is not None and age < elapsed


def _assignment(text: str) -> tuple[str, Any]:
    """``key=value`` with the value read as YAML; wrong usage when it is neither."""
    import yaml

    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise click.UsageError(f"'{text}' is not KEY=VALUE")
    try:
        return key.strip(), yaml.safe_load(value) if value else ""
    except yaml.YAMLError:
        raise click.UsageError(f"the value of {key} can't be read: {value}") from None


def _show_pool(invocation: Invocation, pool: dict[str, Any]) -> None:
    engine = dict(pool.get("engine") or {})
    kind = engine.pop("type", "-")
    settings = ", ".join(f"{key} {text_of(value)}" for key, value in sorted(engine.items()))
    counts = ", ".join(
        f"{text_of(count_of(pool, key))} {key}"
        for key in ("wanted", "running", "pending", "draining", "unhealthy")
    )
    facts = [
        ("state", f"{pool['state']}  {pool.get('reason', '')}".rstrip()),
        ("workers", counts),
        ("engine", f"{kind}" + (f" ({settings})" if settings else "")),
        ("bounds", f"min {text_of(pool.get('min'))}, max {text_of(pool.get('max'))}"),
        ("brake", text_of(pool.get("brake"))),
        *(
            [("held", f"{held}; 'epu pool resume {pool['name']}' ends it")]
            if (held := by_hand(pool))
            else []
        ),
        ("template", text_of(pool.get("template"))),
        ("clouds", _clouds(pool)),
        *_machines(pool),
        *_rollout(pool),
        *([("cost", f"{price_of(pool)} $/h")] if pool.get("price") is not None else []),
        ("decided", f"{age_text(pool.get('decided_age'))} ago"),
    ]
    rows = [
        (
            str(node["node_id"]),
            str(node["state"]),
            text_of(node.get("health")),
            yes_no(node.get("busy")),
            age_text(node.get("age")),
            text_of(node.get("reason")),
        )
        for node in pool.get("instances") or ()
    ]
    columns = ("NODE", "STATE", "HEALTH", "BUSY", "AGE", "REASON")
    invocation.output.result(
        "pool",
        pool,
        [
            f"pool {pool['name']}",
            *(f"  {name:<10}{value}" for name, value in facts),
            Table(columns, rows, empty="  no nodes"),
        ],
    )


def _clouds(pool: Mapping[str, Any]) -> str:
    """The pool's clouds in their order, and where launches go when that is not the first."""
    said = ", ".join(pool.get("clouds") or ()) or text_of(pool.get("cloud"))
    if pool.get("cloud_reason"):
        said += f"; launches go to {pool['cloud']}, {pool['cloud_reason']}"
    return said


def _rollout(pool: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The last rollout, and how many workers are made otherwise than new ones would be."""
    if pool.get("rollout"):
        yield "rollout", rollout_line(pool).partition(": rollout ")[2]
    elif pool.get("old"):
        yield "rollout", f"{pool['old']} old ones ('epu pool rollout {pool['name']}')"


def _machines(pool: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What machines the pool asks for: what all clouds share, then each cloud's own."""
    by_cloud = pool.get("machine_by_cloud") or {}
    for where, settings in (("", pool.get("machine") or {}), *sorted(by_cloud.items())):
        if settings:
            said = ", ".join(f"{key} {text_of(value)}" for key, value in sorted(settings.items()))
            yield "machine", f"on {where}: {said}" if where else said


for rule in (*rules, rollout_command):
    pool_group.add_command(rule)
commands = (pools_command, pool_group, hold_command, resume_command, explain, wait)
