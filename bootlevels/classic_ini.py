"""Classic INI text as sections of keys in which every value knows its file and line.

The dialect is that of the files of cloudinit.d's time, as they were read then: keys in any
case, ``:`` or ``=``, comments at the start of a line or after `` ;``, indented lines that
go on with the value before, a section ``[DEFAULT]`` below all others, and ``%(key)s`` for
another key of the section. Nothing a person may write raises here: what is wrong is a
problem, what is odd a warning, and the rest is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from coordinator.errors import Problem

#: The section in which a key may be written several times, and all of them count.
LISTS = "runlevels"
#: Plans are written by people: beyond this somebody feeds us something else.
MAX_BYTES = 1_000_000
MAX_KEYS = 20_000
MAX_INTERPOLATED = 16_000
MAX_DEPTH = 10

_HEADER = re.compile(r"\[([^\]]+)\]")
_ENTRY = re.compile(r"([^:=\s][^:=]*?)\s*[:=]\s*(.*)\Z", re.DOTALL)
_OTHER_KEY = re.compile(r"%\(([^)]+)\)s")
_DEFAULT = "DEFAULT"


@dataclass(frozen=True)
class Entry:
    """A value and its place, ``file:line``."""

    value: str
    place: str


@dataclass
class Section:
    """The keys of one ``[section]``, in lower case, in the order they were written.

    ``earlier``: values of keys that were written again, for who wants all of them.
    """

    name: str
    place: str
    entries: dict[str, Entry] = field(default_factory=dict)
    earlier: dict[str, list[Entry]] = field(default_factory=dict)


@dataclass
class Findings:
    """What reading has found so far: problems forbid a boot, warnings are shown."""

    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def problem(self, where: str, what: str, *, key: str = "", remedy: str = "") -> None:
        self.problems.append(Problem(where=where, key=key, what=what, remedy=remedy))

    def warning(self, where: str, what: str, *, key: str = "", remedy: str = "") -> None:
        self.warnings.append(Problem(where=where, key=key, what=what, remedy=remedy))


def read_ini(path: Path, shown: str, found: Findings) -> dict[str, Section] | None:
    """The sections of file ``path``, called ``shown``; None when it can't be read at all."""
    text = read_text(path, shown, found)
    return None if text is None else parse_ini(text, shown, found)


def read_text(path: Path, shown: str, found: Findings) -> str | None:
    """The text of ``path``; None, with the problem found, when there is none."""
    try:
        if not path.is_file():
            what = "is a directory" if path.is_dir() else "there is no such file"
            if path.exists() and not path.is_dir():
                what = "is not a file"
            found.problem(shown, what)
            return None
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        found.problem(shown, f"can't be read: {reason}")
        return None
    if len(content) > MAX_BYTES:
        found.problem(shown, f"is longer than {MAX_BYTES} bytes")
        return None
    if b"\0" in content:
        found.problem(shown, "is not a text: it holds zero bytes", remedy="save it as UTF-8")
        return None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        found.warning(shown, "is not UTF-8, so it was read as Latin-1", remedy="save it as UTF-8")
        return content.decode("latin-1")


def parse_ini(text: str, shown: str, found: Findings) -> dict[str, Section]:
    """The sections of ``text``, which is called ``shown``."""
    sections = _Parser(shown, found).sections(text)
    default = sections.pop(_DEFAULT, None)
    for section in sections.values():
        if default is not None:
            section.entries = {**default.entries, **section.entries}
        _interpolate(section, found)
    return sections


@dataclass
class _Parser:
    shown: str
    found: Findings
    _keys: int = 0

    def sections(self, text: str) -> dict[str, Section]:
        sections: dict[str, Section] = {}
        section: Section | None = None
        for place, line in self._logical_lines(text):
            header = _HEADER.match(line)
            if header:
                name = header[1].strip()
                if name in sections:
                    first = sections[name].place
                    what = f"section [{name}] is written twice, first in {first}"
                    self.found.warning(place, what, remedy="both are read, the later one wins")
                section = sections.setdefault(name, Section(name, place))
                continue
            entry = _ENTRY.match(line)
            if entry is None:
                shown = line.split("\n")[0][:40]
                self.found.problem(place, f"'{shown}' is neither 'key: value' nor '[section]'")
            elif section is None:
                self.found.problem(place, f"'{entry[1][:40]}' stands before the first [section]")
            else:
                self._keys += 1
                if self._keys > MAX_KEYS:
                    self.found.problem(place, f"more than {MAX_KEYS} keys in one file")
                    return sections
                self._keep(section, entry[1].strip().lower(), entry[2].strip(), place)
        return sections

    def _keep(self, section: Section, key: str, value: str, place: str) -> None:
        if key in section.entries and section.name == LISTS:
            section.earlier.setdefault(key, []).append(section.entries[key])
        elif key in section.entries:
            first = section.entries[key].place
            what = f"'{key}' is written twice in [{section.name}], first in {first}"
            self.found.warning(place, what, remedy="the last one wins")
        section.entries[key] = Entry("" if value == '""' else value, place)

    def _logical_lines(self, text: str) -> Iterator[tuple[str, str]]:
        """Place and text of every entry and header, indented lines joined, no comments."""
        at, joined = 0, ""
        for number, raw in enumerate(text.split("\n"), start=1):
            line = raw.rstrip("\r")
            if not line.strip() or line.lstrip()[0] in "#;" or _is_remark(line):
                continue
            line = _without_comment(line)
            if line[0].isspace() and joined and not _HEADER.match(joined):
                joined += "\n" + line.strip()
                continue
            if joined:
                yield f"{self.shown}:{at}", joined
            at, joined = number, line.strip()
        if joined:
            yield f"{self.shown}:{at}", joined


def _is_remark(line: str) -> bool:
    return line[0] in "rR" and line.split(None, 1)[0].lower() == "rem"


def _without_comment(line: str) -> str:
    """``line`` up to a ``;`` that follows a blank."""
    found = re.search(r"\s;", line)
    return line[: found.start()] if found and found.start() > 0 else line


def _interpolate(section: Section, found: Findings) -> None:
    """Replace ``%(key)s`` by other keys of the section; a lone ``%`` is only a ``%``."""
    written = dict(section.entries)
    filled: dict[str, str] = {}

    def value_of(key: str, open_keys: tuple[str, ...]) -> str:
        if "%(" not in written[key].value:
            return written[key].value
        if key not in filled:
            text = _OTHER_KEY.sub(
                lambda other: other_value(key, other, open_keys), written[key].value
            )
            filled[key] = text.replace("%%", "%")
            if len(filled[key]) > MAX_INTERPOLATED:
                what = f"'{key}' grows beyond {MAX_INTERPOLATED} characters"
                found.problem(written[key].place, what)
                filled[key] = ""
        return filled[key]

    def other_value(key: str, other: re.Match[str], open_keys: tuple[str, ...]) -> str:
        name, place = other[1].lower(), written[key].place
        if name not in written:
            what = f"'{key}' refers to '%({other[1]})s', which [{section.name}] does not have"
            found.problem(place, what)
        elif name in open_keys or len(open_keys) > MAX_DEPTH:
            what = "refers to itself" if name in open_keys else "refers too deeply"
            found.problem(place, f"'{key}' {what} by '%({other[1]})s'")
        else:
            return value_of(name, (*open_keys, name))
        return ""

    for key, entry in written.items():
        if "%(" in entry.value:
            section.entries[key] = Entry(value_of(key, (key,)), entry.place)
