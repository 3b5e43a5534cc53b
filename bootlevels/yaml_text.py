"""YAML text as a tree in which every value knows its file and line.

Values are those of YAML 1.2: ``on``, ``yes``, ``10:30`` and ``2026-01-02`` are texts, as
whoever writes a plan expects. Overlays (profiles, later includes) are merged on these
trees, so a problem is always reported where the value was written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from coordinator.errors import ConfigProblem, Problem

Scalar = str | int | float | bool | None
Path = tuple[str | int, ...]

#: Plans are written by people: beyond this somebody feeds us something else.
MAX_BYTES = 1_000_000
MAX_VALUES = 20_000
MAX_DEPTH = 40
#: Sections in which this key tells the kind; another kind has other keys.
KIND_KEYS = ("type", "driver")


#: libyaml's parser where PyYAML has it: ten times as fast. Only its events are used, never
#: its recursion, so no nesting can exhaust a stack.
_Events: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
#: What plain scalars mean by YAML 1.2's core schema: tag, form, characters it begins with.
_PLAIN = [
    (tag, re.compile(form), frozenset(first))
    for tag, form, first in (
        ("null", r"(?:~|null|Null|NULL|)\Z", "~nN"),
        ("bool", r"(?:true|True|TRUE|false|False|FALSE)\Z", "tTfF"),
        ("int", r"[-+]?[0-9]{1,18}\Z", "-+0123456789"),
        (
            "float",
            r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]{1,3})?\Z",
            "-+.0123456789",
        ),
    )
]
_STANDARD = "tag:yaml.org,2002:"


@dataclass(frozen=True)
class Text:
    """A value with its place (``file:line``).

    ``value`` is a scalar, a dict of Texts or a list of Texts; ``keys`` are the places of
    a dict's keys, which after a merge may be in several files.
    """

    value: Any
    place: str
    keys: dict[str, str] = field(default_factory=dict)

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: inner.plain() for key, inner in self.value.items()}
        if isinstance(self.value, list):
            return [inner.plain() for inner in self.value]
        return self.value

    def at(self, path: Sequence[str | int]) -> Text | None:
        """The value at ``path``, None when there is none."""
        found: Text | None = self
        for step in path:
            if found is None:
                return None
            if isinstance(found.value, dict):
                found = found.value.get(str(step))
            elif isinstance(found.value, list) and isinstance(step, int):
                found = found.value[step] if 0 <= step < len(found.value) else None
            else:
                return None
        return found

    def place_of(self, path: Sequence[str | int]) -> str:
        """``file:line`` of ``path``, of its key where it has one, else of what is nearest."""
        here, place = self, self.place
        for step in path:
            inner = here.at([step])
            if inner is None:
                break
            place = here.keys.get(str(step), inner.place)
            here = inner
        return place


def read_yaml(text: str, file: str) -> Text:
    """The document in ``text``; ``file`` is the name shown in problems.

    Raises ConfigProblem for anything that is not one YAML document of plain values, with
    every duplicate key found.
    """
    if len(text) > MAX_BYTES:
        raise ConfigProblem([Problem(where=file, what=f"longer than {MAX_BYTES} characters")])
    try:
        return _Builder(file, _Events(text)).document()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        what = " ".join(part for part in (error.context, error.problem) if part)
        raise ConfigProblem([Problem(where=f"{file}:{line}", what=f"not YAML: {what}")]) from None
    except yaml.YAMLError as error:
        first = str(error).splitlines()[0]
        raise ConfigProblem([Problem(where=file, what=f"not YAML: {first}")]) from None
    except ValueError as error:  # PyYAML lets e.g. "\UFFFFFFFF" through to chr()
        raise ConfigProblem([Problem(where=file, what=f"not YAML: {error}")]) from None


@dataclass(frozen=True)
class _Anchored:
    """A value with an anchor, and what an alias of it costs."""

    text: Text
    count: int
    depth: int


class _Builder:
    """From a parser's events to Texts, counting, so that aliases can't explode."""

    def __init__(self, file: str, events: Any) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self._next = events.get_event
        self._anchors: dict[str, _Anchored] = {}
        self._count = 0
        self._deepest = 0

    def document(self) -> Text:
        """The one document. Raises ConfigProblem, yaml.YAMLError."""
        self._next()  # the stream begins
        if isinstance(self._next(), yaml.StreamEndEvent):
            raise ConfigProblem([Problem(where=f"{self.file}:1", what="the file is empty")])
        tree = self._value(self._next(), ())
        self._next()  # the document ends
        after = self._next()
        if not isinstance(after, yaml.StreamEndEvent):
            what = "not YAML: there is a second document in the file"
            raise ConfigProblem([Problem(where=self._place(after), what=what)])
        if self.problems:
            raise ConfigProblem(self.problems)
        return tree

    def _value(self, event: Any, path: Path) -> Text:
        place = self._place(event)
        self._grow(1, len(path), place)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, path, place)
        count, deepest = self._count, self._deepest
        self._deepest = len(path)
        if isinstance(event, yaml.MappingStartEvent):
            text = self._mapping(path, place)
        elif isinstance(event, yaml.SequenceStartEvent):
            text = self._sequence(path, place)
        else:
            text = Text(self._scalar(event, path, place), place)
        if event.anchor is not None:
            anchored = _Anchored(text, self._count - count, self._deepest - len(path))
            self._anchors[event.anchor] = anchored
        self._deepest = max(self._deepest, deepest)
        return text

    def _grow(self, count: int, depth: int, place: str) -> None:
        self._count += count
        self._deepest = max(self._deepest, depth)
        if depth > MAX_DEPTH:
            raise ConfigProblem([Problem(where=place, what="nested too deeply")])
        if self._count > MAX_VALUES:
            raise ConfigProblem([Problem(where=place, what="too many values")])

    def _alias(self, event: Any, path: Path, place: str) -> Text:
        found = self._anchors.get(event.anchor)
        if found is None:
            what = f"not YAML: undefined alias '*{event.anchor}'"
            raise ConfigProblem([Problem(where=place, what=what)])
        self._grow(found.count, len(path) + found.depth, place)
        return found.text

    def _place(self, event: Any) -> str:
        return f"{self.file}:{event.start_mark.line + 1}"

    def _sequence(self, path: Path, place: str) -> Text:
        items: list[Text] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            items.append(self._value(event, (*path, len(items))))
        return Text(items, place)

    def _mapping(self, path: Path, place: str) -> Text:
        inner: dict[str, Text] = {}
        keys: dict[str, str] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            at = self._place(event)
            if not isinstance(event, yaml.ScalarEvent):
                self._problem(at, path, "a key must be a text")
                self._value(event, (*path, "?"))
                self._value(self._next(), (*path, "?"))
                continue
            key = event.value
            if event.anchor is not None:
                self._anchors[event.anchor] = _Anchored(Text(key, at), 1, 0)
            value = self._value(self._next(), (*path, key))
            if key in inner:
                self._problem(at, path, f"'{key}' is written twice, first in {keys[key]}")
                continue
            keys[key] = at
            inner[key] = value
        return Text(inner, place, keys)

    def _scalar(self, event: Any, path: Path, place: str) -> Scalar:
        text = str(event.value)
        tag = _tag_of(event)
        match tag:
            case "str":
                return text
            case "null":
                return None
            case "bool" if text.lower() in ("true", "false"):
                return text.lower() == "true"
            case "int" if re.fullmatch(r"[-+]?[0-9]{1,18}", text):
                return int(text)
            case "float" if re.fullmatch(r"[-+]?[0-9.]{1,30}(?:[eE][-+]?[0-9]{1,3})?", text):
                try:
                    return float(text)
                except ValueError:
                    pass
        self._problem(place, path, f"'{event.tag}' values are not used here")
        return None

    def _problem(self, place: str, path: Path, what: str) -> None:
        self.problems.append(Problem(where=place, key=shown_key(path), what=what))


def _tag_of(event: Any) -> str:
    """What kind of scalar it is: by its tag, else by its form when it stands without quotes."""
    if event.tag is not None and event.tag != "!":
        return str(event.tag).removeprefix(_STANDARD)
    if event.tag == "!" or not event.implicit[0]:
        return "str"
    text = event.value
    if not text:
        return "null"
    for tag, form, first in _PLAIN:
        if text[0] in first and form.match(text):
            return tag
    return "str"


def overlaid(below: Text, above: Text) -> Text:
    """``below`` with ``above`` laid over it.

    Sections are merged key by key; anything else is replaced; ``null`` removes a key. A
    section that names another ``type`` or ``driver`` replaces the whole section.
    """
    if not (isinstance(below.value, dict) and isinstance(above.value, dict)):
        return above
    for kind in KIND_KEYS:
        new, old = above.value.get(kind), below.value.get(kind)
        if new is not None and (old is None or old.value != new.value):
            return above
    merged, keys = dict(below.value), dict(below.keys)
    for key, value in above.value.items():
        if value.value is None:
            merged.pop(key, None)
            continue
        merged[key] = overlaid(merged[key], value) if key in merged else value
        keys[key] = above.keys[key]
    return Text(merged, below.place, keys)


def shown_key(path: Sequence[str | int]) -> str:
    """A path as people read it: ``levels[0].services.web``."""
    shown = ""
    for step in path:
        shown += f"[{step}]" if isinstance(step, int) else f".{step}" if shown else step
    return shown


def path_of(key: str) -> Path:
    """The path that ``shown_key`` shows as ``key``; numbers between dots are indexes too."""
    steps: list[str | int] = []
    for part in re.findall(r"[^.\[\]]+", key):
        steps.append(int(part) if part.isdecimal() and len(part) < 9 else part)
    return tuple(steps)
