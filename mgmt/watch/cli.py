"""``epu watch``."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Iterator
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
            width, height = console.size
            view = view_of(place, picture, height, width)
            live.update(_drawn(view, width), refresh=True)
            for key in split_keys(_typed(_DRAW_EVERY)):
                place = pressed(place, key, picture)
            looking.open(place.opened)


def _drawn(view: View, width: int) -> Any:
    from rich.console import Group
    from rich.text import Text

    from bootlevels.table_text import cut_lines_for

    def line(text: str | Text, style: str = "") -> Text:
        shown = Text(text, style=style) if isinstance(text, str) else text
        shown.no_wrap, shown.overflow = True, "ellipsis"
        return shown

    cells = cut_lines_for(width, view.columns, [row.cells for row in view.rows], view.spare)
    rows = []
    for row, pieces in zip([None, *view.rows], cells, strict=True):
        styles = ["bold" if row is None else STYLES.get(piece.cell, "") for piece in pieces]
        pairs = [(piece.text, style) for piece, style in zip(pieces, styles, strict=True)]
        style = "reverse" if row is not None and row.chosen else ""
        rows.append(line(Text.assemble(*pairs, style=style)))
    return Group(
        line(view.title, "bold"),
        *(line(text) for text in view.above),
        *(line(text, "red") for text in view.warnings),
        Text(""),
        *(rows if view.rows else [line(view.empty)]),
        Text(""),
        *(line(text, "bright_black") for text in view.below),
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
