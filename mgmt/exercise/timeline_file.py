"""From a timeline file (YAML) to a Timeline, or every problem with its line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bootlevels.yaml_text import MAX_BYTES, path_of, read_yaml
from coordinator.errors import ConfigProblem, Problem
from coordinator.settings import parse_settings
from mgmt.exercise.timeline import Timeline


def read_timeline(path: Path) -> Timeline:
    """The timeline in ``path``. Raises ConfigProblem naming line and key of all that is wrong."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1).decode("utf-8")
    except OSError as problem:
        what = f"can't be read: {problem.strerror}"
        raise ConfigProblem([Problem(where=str(path), what=what)]) from None
    except UnicodeDecodeError:
        raise ConfigProblem([Problem(where=str(path), what="is not text in UTF-8")]) from None
    tree = read_yaml(text, str(path))
    try:
        return parse_settings(Timeline, tree.plain(), str(path))
    except ConfigProblem as found:
        placed = [replace(one, where=tree.place_of(path_of(one.key))) for one in found.problems]
        raise ConfigProblem(placed) from None
