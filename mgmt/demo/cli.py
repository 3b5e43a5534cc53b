"""``epu demo``."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bootlevels.table_text import plain_lines
from mgmt.exit_codes import ExitCode

if TYPE_CHECKING:
    from agent.messages import Event

#: Events that tell the story; the rest is in ``epu events``.
_TOLD = (
    "pool_added",
    "decision",
    "new_launch",
    "node_ready",
    "drain_started",
    "node_terminated",
    "terminate_all",
)


@click.command()
@click.option("--home", type=click.Path(file_okay=False, path_type=Path, resolve_path=True),
              default=Path(".run"), show_default=True, help="Where the run lives.")  # fmt: skip
@click.option("--jobs", type=click.IntRange(min=20), default=60, show_default=True)
@click.option("--sleep", type=click.FloatRange(min=0.2, max=10), default=1.0, show_default=True,
              help="Seconds that each job takes.")  # fmt: skip
def demo(home: Path, jobs: int, sleep: float) -> None:
    """Boot the sample plan, kill a node, watch the pool heal, grow and shrink, take it down.

    Uses only this machine: free ports, and one directory for everything.

    \b
    Example:
      epu demo --home /tmp/try-epu
    """
    from mgmt.demo.story import Story

    began = time.monotonic()

    def say(line: str) -> None:
        click.echo(f"{time.monotonic() - began:6.1f} s  {line}")

    story = Story(home=home, jobs=jobs, sleep=sleep, say=say)
    try:
        story.perform()
    except TimeoutError as problem:
        raise click.ClickException(str(problem)) from None
    _print_timeline(story.events, story.began)
    click.echo("\nProven")
    for proof in story.proofs:
        sign = click.style("yes", fg="green") if proof.held else click.style("NO", fg="red")
        click.echo(f"  {sign:>3}  {proof.claim} ({proof.figures})")
    click.echo(f"\nNodes, queue and jobs over time: {story.picture}")
    click.echo(f"The demo took {time.monotonic() - began:.0f} s.")
    if not all(proof.held for proof in story.proofs):
        sys.exit(ExitCode.PROBLEM)


def _print_timeline(events: Sequence[Event], began: float) -> None:
    rows = [
        (f"{event.time - began:6.1f} s", event.name, event.node or event.pool, event.reason)
        for event in events
        if event.name in _TOLD
    ]
    click.echo("\nTimeline")
    for line in plain_lines(("time", "event", "of", "why"), rows):
        click.echo(f"  {line}")


commands = (demo,)
