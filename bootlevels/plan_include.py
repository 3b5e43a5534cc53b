"""``include:`` of native plans: files that are read before the file that names them.

Sections are merged key by key, the including file above the included ones, a later one
above an earlier one; levels are put before the file's own. Paths are from the file that
names them, and lexical: a plan reached through a link keeps its neighbours there.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from bootlevels.classic_ini import Findings, read_text
from bootlevels.plan_secrets import native_secret_warnings
from bootlevels.yaml_text import Text, overlaid, read_yaml
from coordinator.errors import ConfigProblem

INCLUDE, LEVELS = "include", "levels"
MAX_FILES = 100


def with_includes(tree: Text, file: str, directory: str, found: Findings) -> Text:
    """``tree`` of ``file`` with everything that it includes, and without the key."""
    trail = (os.path.join(directory, os.path.basename(file)),)
    return _Includer(found).merged(tree, file, directory, trail)


class _Includer:
    def __init__(self, found: Findings) -> None:
        self.found = found
        self._files = 0

    def merged(self, tree: Text, file: str, directory: str, trail: tuple[str, ...]) -> Text:
        listed = tree.at([INCLUDE])
        if listed is None or not isinstance(tree.value, dict):
            return tree
        own = _without(tree, INCLUDE)
        if not isinstance(listed.value, list):
            place = tree.place_of([INCLUDE])
            self.found.problem(place, "must be a list of files", key=INCLUDE)
            return own
        below: Text | None = None
        for at, item in enumerate(listed.value):
            if not isinstance(item.value, str) or not item.value or "\0" in item.value:
                key = f"{INCLUDE}[{at}]"
                self.found.problem(item.place, "must be the path of a file", key=key)
                continue
            included = self._file(item, f"{INCLUDE}[{at}]", file, directory, trail)
            if included is not None:
                below = included if below is None else _laid(below, included)
        return own if below is None else replace(_laid(below, own), place=tree.place)

    def _file(
        self, item: Text, key: str, file: str, directory: str, trail: tuple[str, ...]
    ) -> Text | None:
        path = os.path.normpath(os.path.join(directory, os.path.expanduser(item.value)))
        shown = os.path.normpath(os.path.join(os.path.dirname(file), item.value))
        if path in trail:
            circle = " → ".join(os.path.basename(each) for each in (*trail, path))
            self.found.problem(item.place, f"includes itself: {circle}", key=key)
            return None
        self._files += 1
        if self._files > MAX_FILES:
            if self._files == MAX_FILES + 1:
                self.found.problem(item.place, f"more than {MAX_FILES} included files", key=key)
            return None
        if not os.path.isfile(path):
            self.found.problem(item.place, f"there is no file '{shown}'", key=key)
            return None
        text = read_text(Path(path), shown, self.found)
        if text is None:
            return None
        try:
            tree = read_yaml(text, shown)
        except ConfigProblem as broken:
            self.found.problems += broken.problems
            return None
        if not isinstance(tree.value, dict):
            self.found.problem(tree.place, "an included file is a section of keys")
            return None
        self.found.warnings += native_secret_warnings(tree, Path(path))
        return self.merged(tree, shown, os.path.dirname(path), (*trail, path))


def _without(tree: Text, key: str) -> Text:
    value = {name: inner for name, inner in tree.value.items() if name != key}
    return replace(tree, value=value, keys={k: v for k, v in tree.keys.items() if k != key})


def _laid(below: Text, above: Text) -> Text:
    """``above`` laid over ``below``, the levels of both one after the other."""
    merged = overlaid(below, above)
    lower, upper = below.at([LEVELS]), above.at([LEVELS])
    if lower is None or upper is None:
        return merged
    if not (isinstance(lower.value, list) and isinstance(upper.value, list)):
        return merged
    levels = Text([*lower.value, *upper.value], upper.place)
    return replace(merged, value={**merged.value, LEVELS: levels})
