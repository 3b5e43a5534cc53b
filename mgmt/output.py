"""How results are shown: tables, lines, JSON, progress. The only place that draws.

Results go to stdout, everything said on the way to stderr. JSON documents carry
``schema`` and ``version`` (see docs/json.md); their keys are sorted.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from bootlevels.json_document import json_text
from bootlevels.table_text import Piece, lines_for, plain_lines

#: Only on a terminal: what is well is green, what is on its way yellow, what is not red.
STYLES = {
    **dict.fromkeys(("STABLE", "RUNNING", "OK", "NORMAL"), "green"),
    **dict.fromkeys(
        ("PENDING", "REQUESTED", "LAUNCHING", "BOOTING", "DRAINING", "TERMINATING", "MANAGED"),
        "yellow",
    ),
    **dict.fromkeys(
        ("HELD", "FAILED", "BOOT_FAILED", "LAUNCH_FAILED", "MELTDOWN", "PROCESS_ERROR"), "red"
    ),
    **dict.fromkeys(("MONITOR_ERROR", "OUT_OF_CONTACT", "MISSING", "ZOMBIE"), "red"),
    **dict.fromkeys(("UNKNOWN", "TERMINATED", "REJECTED"), "bright_black"),
}


@dataclass(frozen=True)
class Table:
    """Text in columns; ``empty`` is said instead when there are no rows.

    ``spare``: columns that a narrow terminal does without, the first first.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]] = field(default_factory=tuple)
    empty: str = "none"
    spare: Sequence[str] = ()


class Output:
    """One command's way to its reader."""

    def __init__(self, *, as_json: bool = False, quiet: bool = False, verbose: bool = False):
        self.as_json = as_json
        self.quiet = quiet
        self.verbose = verbose

    def result(self, schema: str, document: dict[str, Any], parts: Iterable[str | Table]) -> None:
        """Show ``document`` as JSON, or else ``parts``: lines and tables."""
        if self.as_json:
            click.echo(json_text(schema, document))
            return
        for part in parts:
            if isinstance(part, Table):
                self._table(part)
            else:
                click.echo(part)

    def note(self, text: str) -> None:
        """Say what is going on, on stderr, unless asked to be quiet."""
        if not self.quiet:
            click.echo(text, err=True)

    def detail(self, text: str) -> None:
        """Say it only with ``-v``."""
        if self.verbose:
            click.echo(text, err=True)

    def warning(self, text: str) -> None:
        """Say that the result is not whole; on stderr, also when quiet."""
        click.echo(click.style("warning: ", fg="yellow") + text, err=True)

    def _table(self, table: Table) -> None:
        if not table.rows:
            click.echo(table.empty)
        elif sys.stdout.isatty():
            _draw(table)
        else:
            for line in plain_lines(table.columns, table.rows):
                click.echo(line)


def say_error(lines: Iterable[str]) -> None:
    """The last words of a command that failed, on stderr."""
    for line in lines:
        click.echo(click.style("epu: ", fg="red") + line, err=True, color=wants_colour())


def wants_colour() -> bool | None:
    """False where the environment says so (https://no-color.org), else as the terminal can."""
    return False if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else None


def _draw(table: Table) -> None:
    width = shutil.get_terminal_size().columns
    for line in lines_for(width, table.columns, table.rows, table.spare):
        click.echo("".join(_styled(piece) for piece in line).rstrip())


def _styled(piece: Piece) -> str:
    if piece.is_head:
        return click.style(piece.text, bold=True)
    colour = STYLES.get(piece.cell)
    return click.style(piece.text, fg=colour) if colour else piece.text


def age_text(seconds: float | None) -> str:
    """``12s``, ``5m12s``, ``3h05m``, ``2d04h``; ``-`` for None. Two units at most."""
    if seconds is None:
        return "-"
    whole = max(int(seconds), 0)
    for unit, size, smaller, rest in (("d", 86400, "h", 3600), ("h", 3600, "m", 60)):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // rest:02d}{smaller}"
    return f"{whole // 60}m{whole % 60:02d}s" if whole >= 60 else f"{whole}s"


def clock_text(moment: float) -> str:
    """Local wall-clock time of an epoch second: ``2026-01-31 12:00:05.250``."""
    whole = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))
    return f"{whole}.{int(moment * 1000) % 1000:03d}"


def yes_no(value: bool | None) -> str:
    """``yes``, ``no`` or ``-`` for unknown."""
    return "-" if value is None else "yes" if value else "no"


def text_of(value: Any) -> str:
    """One cell: ``-`` for nothing, JSON for what is not plain text."""
    if value is None or value == "":
        return "-"
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
