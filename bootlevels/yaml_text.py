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


class _Loader(yaml.SafeLoader):
    """SafeLoader whose plain scalars mean what YAML 1.2's core schema says."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}


for _tag, _pattern, _first in (
    ("null", r"(?:~|null|Null|NULL|)\Z", ["~", "n", "N", ""]),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)\Z", list("tTfF")),
    ("int", r"[-+]?[0-9]{1,18}\Z", list("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]{1,3})?\Z",
     list("-+.0123456789")),
):  # fmt: skip
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


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
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        what = " ".join(part for part in (error.context, error.problem) if part)
        raise ConfigProblem([Problem(where=f"{file}:{line}", what=f"not YAML: {what}")]) from None
    except yaml.YAMLError as error:
        first = str(error).splitlines()[0]
        raise ConfigProblem([Problem(where=file, what=f"not YAML: {first}")]) from None
    except RecursionError:
        raise ConfigProblem([Problem(where=file, what="nested too deeply")]) from None
    except ValueError as error:  # PyYAML lets e.g. "\UFFFFFFFF" through to chr()
        raise ConfigProblem([Problem(where=file, what=f"not YAML: {error}")]) from None
    if node is None:
        raise ConfigProblem([Problem(where=f"{file}:1", what="the file is empty")])
    builder = _Builder(file)
    tree = builder.build(node, ())
    if builder.problems:
        raise ConfigProblem(builder.problems)
    return tree


class _Builder:
    """From PyYAML's nodes to Texts, counting, so that aliases can't explode."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self._count = 0

    def build(self, node: yaml.Node, path: Path) -> Text:
        place = self._place(node)
        self._count += 1
        if self._count > MAX_VALUES or len(path) > MAX_DEPTH:
            what = "nested too deeply" if len(path) > MAX_DEPTH else "too many values"
            raise ConfigProblem([Problem(where=place, what=what)])
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, place)
        if isinstance(node, yaml.SequenceNode):
            items = [self.build(inner, (*path, at)) for at, inner in enumerate(node.value)]
            return Text(items, place)
        assert isinstance(node, yaml.ScalarNode)
        return Text(self._scalar(node, path, place), place)

    def _place(self, node: yaml.Node) -> str:
        return f"{self.file}:{node.start_mark.line + 1}"

    def _mapping(self, node: yaml.MappingNode, path: Path, place: str) -> Text:
        inner: dict[str, Text] = {}
        keys: dict[str, str] = {}
        for key_node, value_node in node.value:
            at = self._place(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self._problem(at, path, "a key must be a text")
                continue
            key = key_node.value
            if key in inner:
                self._problem(at, path, f"'{key}' is written twice, first in {keys[key]}")
                continue
            keys[key] = at
            inner[key] = self.build(value_node, (*path, key))
        return Text(inner, place, keys)

    def _scalar(self, node: yaml.ScalarNode, path: Path, place: str) -> Scalar:
        tag, text = node.tag.removeprefix("tag:yaml.org,2002:"), str(node.value)
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
        self._problem(place, path, f"'{node.tag}' values are not used here")
        return None

    def _problem(self, place: str, path: Path, what: str) -> None:
        self.problems.append(Problem(where=place, key=shown_key(path), what=what))


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
