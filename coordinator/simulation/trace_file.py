"""Load traces as people write them: CSV with a header, which says what they are.

| columns | kind |
|---|---|
| ``time``, ``service`` | each message, and how long it takes |
| ``time``, ``arrivals`` (and ``service``) | messages until the next row (their mean time) |
| ``time``, ``queue`` (and ``in_hand``) | messages ready (and held by workers) |
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from coordinator.errors import ConfigProblem, Problem, did_you_mean
from coordinator.simulation.trace_load import Trace

COLUMNS = ("time", "service", "arrivals", "queue", "in_hand")
#: Problems that are told at once; more of the same help nobody.
MOST_PROBLEMS = 20
_REMEDY = "the first line is 'time,service', 'time,arrivals' or 'time,queue'"


def trace_from_file(path: Path | str) -> Trace:
    """The trace in a CSV file. Raises ConfigProblem with file, line and column."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as problem:
        raise ConfigProblem([Problem(where=str(path), what=str(problem.strerror))]) from None
    except UnicodeDecodeError as problem:
        what = f"not a text in UTF-8 (byte {problem.start})"
        raise ConfigProblem([Problem(where=str(path), what=what)]) from None
    return trace_from_text(text, str(path))


def trace_from_text(text: str, where: str) -> Trace:
    """The trace in a CSV text that came from ``where``. Raises ConfigProblem."""
    problems: list[Problem] = []

    def wrong(line: int, column: str, what: str, remedy: str = "") -> None:
        problems.append(Problem(where=f"{where}:{line}", key=column, what=what, remedy=remedy))

    rows = csv.reader(io.StringIO(text))
    try:
        header = [name.strip().lower() for name in next(rows, [])]
        _check_header(header, wrong)
        if problems:
            raise ConfigProblem(problems)
        columns: dict[str, list[float | None]] = {name: [] for name in header}
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            _read_row(header, row, rows.line_num, columns, wrong)
            if len(problems) >= MOST_PROBLEMS:
                break
    except csv.Error as problem:
        wrong(rows.line_num, "", f"not CSV: {problem}")
    if not problems and not columns["time"]:
        wrong(1, "", "it has no rows")
    if problems:
        raise ConfigProblem(problems)
    return _trace(columns, where)


Wrong = Callable[..., None]


def _check_header(header: Sequence[str], wrong: Wrong) -> None:
    if not header:
        wrong(1, "", "it is empty", _REMEDY)
        return
    for number, name in enumerate(header, 1):
        if name not in COLUMNS:
            told = name if name else f"column {number}"
            wrong(1, told, "an unknown column", did_you_mean(name, COLUMNS) or _REMEDY)
        elif header.index(name) < number - 1:
            wrong(1, name, "this column is there twice")
    if "time" not in header:
        wrong(1, "time", "this column is missing", _REMEDY)
    kinds = [name for name in ("arrivals", "queue") if name in header]
    if len(kinds) == 2 or ("queue" in header and "service" in header):
        wrong(1, "queue", "a queue's length goes with neither arrivals nor service", _REMEDY)
    elif not kinds and "service" not in header:
        wrong(1, "", "it says neither what arrives nor how long the queue is", _REMEDY)
    if "in_hand" in header and "queue" not in header:
        wrong(1, "in_hand", "this column goes with 'queue' only")


def _read_row(
    header: Sequence[str],
    row: Sequence[str],
    line: int,
    columns: dict[str, list[float | None]],
    wrong: Wrong,
) -> None:
    if len(row) != len(header):
        wrong(line, "", f"{len(row)} values for {len(header)} columns")
        return
    for name, cell in zip(header, row, strict=True):
        found = columns[name]
        text = cell.strip()
        value = _moment(text) if name == "time" else _number(text)
        if not text and name == "service":
            found.append(None)
        elif value is None:
            remedy = "seconds, or 2026-01-31T12:00" if name == "time" else "a number, 0 or more"
            wrong(line, name, f"'{text}' can't be read", f"write {remedy}")
        elif name == "time" and found and (value < (found[-1] or 0.0)):
            wrong(line, name, "it is earlier than the row before", "sort the rows by time")
        else:
            found.append(value)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= 1e12 else None  # neither is true of NaN


def _moment(text: str) -> float | None:
    """Epoch seconds of a number or an ISO time; a time without a zone is UTC."""
    try:
        value = float(text)
        return value if math.isfinite(value) and 0 <= value < 1e11 else None
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _trace(columns: dict[str, list[float | None]], where: str) -> Trace:
    times = tuple(at or 0.0 for at in columns["time"])
    if "queue" in columns:
        in_hand = tuple(one or 0.0 for one in columns.get("in_hand", ()))
        values = tuple(columns["queue"])
        return Trace(kind="queue", times=times, values=values, in_hand=in_hand, source=where)
    services = tuple(columns.get("service", ()))
    if "arrivals" in columns:
        arrivals = tuple(columns["arrivals"])
        return Trace(kind="rates", times=times, values=arrivals, services=services, source=where)
    return Trace(kind="jobs", times=times, values=services, source=where)
