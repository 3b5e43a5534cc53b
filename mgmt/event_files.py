"""Events out of log files: the ``EPU_EVENT {json}`` lines of any text, no broker needed.

A log holds much else, which is skipped without a word. A line that says EPU_EVENT and can't
be read (cut off by a crash, mangled by a copy) is told as broken: never a silent gap.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from agent.messages import Event
from agent.wire import MalformedMessage, from_wire
from coordinator.errors import NotFound

#: An event begins at the start of a line or after a space; a word that is cut off counts too.
_MARK = re.compile(r"(?:^|(?<=\s))EPU_EVENT(?: (?=\{)|\s*$)")
#: Characters of a line that can still be an event; the rest of a longer one is not read.
LONGEST_LINE = 1_000_000


@dataclass(frozen=True)
class FileEvents:
    """What text holds: events as they stand there, and what can't be read, a line each."""

    events: list[Event] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def events_of(line: str, where: str = "") -> FileEvents:
    """The events of one line of a log: none for most, two where a crash left half a line.

    ``where`` is what a broken one is told with.
    """
    found = FileEvents()
    position = 0
    while mark := _MARK.search(line, position):
        position = mark.end()
        try:
            document, position = json.JSONDecoder().raw_decode(line, position)
            found.events.append(from_wire(Event, document))
        except MalformedMessage as problem:
            found.broken.append(f"{where}: {problem}")
        except ValueError as problem:
            found.broken.append(f"{where}: not JSON: {str(problem).partition(':')[0]}")
    return found


def read_event_files(paths: Iterable[Path]) -> FileEvents:
    """Every event of files and of the log files in directories, in the order they stand there.

    Raises NotFound for a path that is not there, OSError for one that can't be read.
    """
    events: list[Event] = []
    broken: list[str] = []
    for path in _files(paths):
        with _opened(path) as file:
            for number, line in enumerate(_lines(file), start=1):
                if "EPU_EVENT" in line:
                    found = events_of(line, f"{path}:{number}")
                    events += found.events
                    broken += found.broken
    return FileEvents(events, broken)


def component_logs(state_dir: Path, source: str) -> list[Path]:
    """The log files of one component of a coordinator, the rotated ones too, oldest first."""
    logs = state_dir / "logs"
    rotated = [path for path in logs.glob(f"{source}.log.*") if path.suffix[1:].isdigit()]
    ordered = sorted(rotated, key=lambda path: -int(path.suffix[1:]))
    return [path for path in (*ordered, logs / f"{source}.log") if path.is_file()]


def distinct(events: Iterable[Event]) -> list[Event]:
    """Each event once, whatever it was read from.

    ``time`` is part of what it is, as a store may have begun anew; so is ``extra`` of those
    whose source does not number them.
    """
    found: dict[tuple[object, ...], Event] = {}
    for event in events:
        more = () if event.sequence else (event.node, json.dumps(event.extra, sort_keys=True))
        found[(event.source, event.sequence, event.time, event.name, *more)] = event
    return list(found.values())


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(each for each in path.rglob("*") if each.is_file() and _is_log(each))
        elif path.exists():
            yield path
        else:
            raise NotFound(f"no file {path}")


def _is_log(path: Path) -> bool:
    names: Sequence[str] = path.name.split(".")
    return "log" in names[1:] or path.suffix == ".out"


def _opened(path: Path) -> IO[bytes]:
    with path.open("rb") as start:
        packed = start.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if packed else path.open("rb")  # type: ignore[return-value]


def _lines(file: IO[bytes]) -> Iterator[str]:
    # A gzip file that was cut off ends with an error; what came before it counts.
    with suppress(EOFError, gzip.BadGzipFile):
        while line := file.readline(LONGEST_LINE):
            yield line.decode("utf-8", "replace")
