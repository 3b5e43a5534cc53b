"""``epu watch``."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from mgmt.invocation.cli import Invocation, pass_invocation, system_options
from mgmt.output import STYLES, clock_text

if TYPE_CHECKING:
    from mgmt.watch.looking import Looking
    from mgmt.watch.screen import View

#: Seconds between two drawings without a key.
_DRAW_EVERY = 0.5


@click.command()
@click.option("--interval", type=click.FloatRange(min=0.2, max=60), default=1.0, metavar="T",
              show_default=True, help="Seconds between two looks.")  # fmt: skip
@system_options
@pass_invocation
def watch(invocation: Invocation, interval: float) -> None:
    """Watch a system live: its pools, and the nodes and events of one.

    Arrows or j k choose a pool, enter opens it, esc goes back, q quits. What is not on a
    terminal gets a line for each change; --json prints a document a line.

    \b
    Examples:
      epu watch
      epu watch --interval 5 | tee changes.log
    """
    from mgmt.watch.looking import Looking

    with invocation.connection() as client:
        looking = Looking(client, invocation.system().run, interval)
        looking.begin()
        try:
            if not invocation.as_json and sys.stdin.isatty() and sys.stdout.isatty():
                _draw_until_left(looking)
            else:
                _print_changes(looking, invocation, interval)
        finally:
            looking.close()


def _print_changes(looking: Looking, invocation: Invocation, interval: float) -> None:
    import json

    from mgmt.watch.screen import changes

    said: dict[str, str] = {}
    while True:
        picture = looking.picture()
        new = changes(said, picture)
        if new and invocation.as_json:
            document = {"run": picture.run, "problem": picture.problem, **picture.status}
            click.echo(json.dumps({"time": time.time(), **document}, sort_keys=True))
        for text in new.values() if not invocation.as_json else ():
            click.echo(f"{clock_text(time.time())}  {text}")
        said |= new
        sys.stdout.flush()
        time.sleep(interval)


def _draw_until_left(looking: Looking) -> None:
    from rich.console import Console
    from rich.live import Live

    from mgmt.watch.screen import Place, pressed, split_keys, view_of

    console = Console()
    place = Place()
    with (
        _keys_one_by_one(),
        Live(console=console, screen=True, auto_refresh=False, transient=True) as live,
    ):
        while not place.left:
            picture = looking.picture()
            live.update(_drawn(view_of(place, picture, console.size.height)), refresh=True)
            for key in split_keys(_typed(_DRAW_EVERY)):
                place = pressed(place, key, picture)
            looking.open(place.opened)


def _drawn(view: View) -> Any:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    def lines(texts: Iterable[str], style: str = "") -> list[Text]:
        return [Text(text, style=style, no_wrap=True, overflow="ellipsis") for text in texts]

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in view.columns[:-1]:
        table.add_column(column, no_wrap=True)
    table.add_column(view.columns[-1], no_wrap=True, overflow="ellipsis")
    for row in view.rows:
        cells = [Text(cell, style=STYLES.get(cell, "")) for cell in row.cells]
        table.add_row(*cells, style="reverse" if row.chosen else "")
    return Group(
        Text(view.title, style="bold"),
        *lines(view.above),
        *lines(view.warnings, "red"),
        Text(""),
        table if view.rows else Text(view.empty),
        Text(""),
        *(
            Text(line, style="bright_black", no_wrap=True, overflow="ellipsis")
            for line in view.below
        ),
    )


@contextmanager
def _keys_one_by_one() -> Iterator[None]:
    """The terminal gives keys as they are typed; as it was before, whatever happens."""
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _typed(timeout: float) -> str:
    """What is typed within ``timeout`` seconds; Ctrl-D where the terminal is gone."""
    ready, _, _ = select.select([sys.stdin], [], [], timeout)
    if not ready:
        return ""
    return os.read(sys.stdin.fileno(), 1024).decode("utf-8", "replace") or "\x04"


commands = (watch,)
