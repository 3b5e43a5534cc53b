"""Tables as text, for a terminal of some width. PURE.

No name is ever cut: one that ends in an ellipsis can't be copied. Nor is the last column, the
sentence that says why: what does not fit beside goes beneath. Only a live view, which has as
many lines as its terminal, cuts sentences.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

_GAP = 2
#: A last column with less room, in characters, goes on lines of its own.
_LEAST_ROOM = 30
_LEAST_CUT = 20
_BENEATH = 4


@dataclass(frozen=True)
class Piece:
    """Text as it stands in a line; ``cell`` is what it means, without the blanks around it."""

    text: str
    cell: str = ""
    is_head: bool = False


def plain_lines(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Aligned text, however wide: for files, pipes and grep, where a row is a line."""
    every = [[*columns], *([*row] for row in rows)]
    widths = [max(len(row[column]) for row in every) for column in range(len(columns))]
    return [
        (" " * _GAP)
        .join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        .rstrip()
        for row in every
    ]


def lines_for(
    width: int,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    spare: Sequence[str] = (),
) -> list[list[Piece]]:
    """Lines of at most ``width`` characters, if the table can be told in so few.

    The last column is for sentences: it is wrapped, and where it has no room it stands
    beneath its row. ``spare``: columns to be left out, in this order, before the others don't
    fit; wider than that nothing is shortened.
    """
    widths = _widths(columns, rows)
    shown, start = _spared(width + _GAP, columns, widths, spare)
    room = width - start
    if beneath := room < min(_LEAST_ROOM, widths[-1]):
        start, room = _BENEATH, max(width - _BENEATH, _LEAST_ROOM)
    lines: list[list[Piece]] = []
    for number, row in enumerate([columns, *rows]):
        head = number == 0
        cells = _cells(row, shown, widths, head)
        sentence = textwrap.wrap(row[-1], room, break_on_hyphens=False) or [""]
        if not beneath:
            cells.append(Piece(sentence.pop(0), row[-1], is_head=head))
        elif row[-1] in ("", "-"):
            sentence = []
        if beneath and cells:
            cells[-1] = replace(cells[-1], text=cells[-1].text.rstrip())
        lines.append(cells)
        lines += [[Piece(" " * start + text, row[-1], is_head=head)] for text in sentence]
    return lines


def cut_lines_for(
    width: int,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    spare: Sequence[str] = (),
) -> list[list[Piece]]:
    """As ``lines_for``, each row exactly one line: its sentence is cut where the width ends."""
    widths = _widths(columns, rows)
    shown, start = _spared(width - _LEAST_CUT, columns, widths, spare)
    room = max(width - start, 0)
    lines = []
    for number, row in enumerate([columns, *rows]):
        text = row[-1] if len(row[-1]) <= room else row[-1][: max(room - 1, 0)] + "…"[:room]
        cells = _cells(row, shown, widths, number == 0)
        lines.append([*cells, Piece(text, row[-1], is_head=number == 0)])
    return lines


def _widths(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    return [max([len(name), *(len(row[at]) for row in rows)]) for at, name in enumerate(columns)]


def _spared(
    width: int, columns: Sequence[str], widths: Sequence[int], spare: Sequence[str]
) -> tuple[list[int], int]:
    """Which columns but the last are shown, and how wide they are with the gaps behind them."""
    shown = list(range(len(columns) - 1))
    beside = sum(widths[at] + _GAP for at in shown)
    for name in spare:
        if beside > width and name in columns[:-1]:
            at = columns.index(name)
            shown.remove(at)
            beside -= widths[at] + _GAP
    return shown, beside


def _cells(
    row: Sequence[str], shown: Sequence[int], widths: Sequence[int], head: bool
) -> list[Piece]:
    return [Piece(row[at].ljust(widths[at]) + " " * _GAP, row[at], is_head=head) for at in shown]
