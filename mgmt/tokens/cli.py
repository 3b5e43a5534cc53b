"""``epu token``: letting machines join that people boot themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from mgmt.invocation.cli import Commands, Invocation, pass_invocation, system_options
from mgmt.output import clock_text

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@click.group(cls=Commands, name="token")
def token_group() -> None:
    """Enrolment tokens for machines that people boot."""


@token_group.command()
@click.option("--pool", required=True, metavar="POOL", help="The pool that the machines join.")
@click.option("--expires", default="24h", show_default=True, metavar="AFTER",
              help="For how long new machines may join: 30m, 12h, 7d; at most 90d.")  # fmt: skip
@click.option("--uses", default=1, show_default=True, type=click.IntRange(min=1), metavar="N",
              help="How many machines may join with it.")  # fmt: skip
@click.option("-o", "--output", "path", metavar="FILE",
              type=click.Path(dir_okay=False, path_type=Path),
              help="Write the agent's configuration there (mode 0600), not to stdout.")  # fmt: skip
@system_options
@pass_invocation
def create(invocation: Invocation, pool: str, expires: str, uses: int, path: Path | None) -> None:
    """Make the file with which a machine's agent joins POOL as an adopted worker.

    The file (JSON) is a secret until it expires: it holds the token. On the machine it is
    what 'epu-agent --config' reads. Nobody but you can end such a machine: when it is not
    wanted any more its work is finished and its agent stopped.

    \b
    Examples:
      epu token create --pool web -o agent.json
      epu token create --pool web --uses 20 --expires 7d > agent.json
      epu token create --pool web --json
    """
    made = invocation.ask("pool_token", pool, seconds_of(expires), uses)
    text = json.dumps(made["agent_config"], indent=2) + "\n"
    if path is not None:
        from mgmt.broker_files import write_private

        write_private(path, text)
        told = {key: value for key, value in made.items() if key not in ("token", "agent_config")}
        told["file"] = str(path)
        invocation.output.result("token", told, [f"{path}: {_what_it_is(made)}"])
    else:
        invocation.output.note(_what_it_is(made))
        invocation.output.result("token", made, [text.rstrip()])
    host = str(made["agent_config"]["broker"]["host"])
    if host == "localhost" or host.startswith("127."):
        invocation.output.warning(
            f"the broker listens at {host}: only machines on this host can reach it"
        )


def _what_it_is(made: dict[str, Any]) -> str:
    count = f"{made['uses']} machines" if made["uses"] != 1 else "one machine"
    return (
        f"lets {count} join pool {made['pool']} as {made['launch_id']}-0 …"
        f" until {clock_text(made['expires_at'])}"
    )


def seconds_of(text: str) -> float:
    """Seconds of ``90s``, ``30m``, ``12h``, ``7d``; wrong usage otherwise."""
    number = text[:-1]
    if text[-1:] in _UNITS and number.replace(".", "", 1).isdigit():
        return float(number) * _UNITS[text[-1]]
    raise click.BadParameter(f"'{text}' is not like 90s, 30m, 12h, 7d", param_hint="--expires")


commands = (token_group,)
