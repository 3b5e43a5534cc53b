"""Secrets written in clear into files that others can read: a warning for each."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from bootlevels.classic_ini import Findings, Section
from bootlevels.classic_keys import environment_name
from bootlevels.secret_keys import is_secret_key
from bootlevels.yaml_text import Text, shown_key
from coordinator.errors import Problem

_OTHERS = stat.S_IRGRP | stat.S_IROTH
#: Of these sections, any value may be a secret; elsewhere words like "token" mean other things.
_SECTIONS = ("globals", "clouds", "attributes", "environment", "variables")


def others_read(path: Path) -> bool:
    """Whether anybody but the owner may read the file."""
    try:
        return bool(path.stat().st_mode & _OTHERS)
    except OSError:
        return False


def warn_of_classic_secrets(path: Path, sections: dict[str, Section], found: Findings) -> None:
    """Add a warning for each literal secret in the classic file ``path``."""
    secrets = [
        (key, entry.place)
        for section in sections.values()
        for key, entry in section.entries.items()
        if is_secret_key(key) and _is_literal(entry.value)
    ]
    if secrets and others_read(path):
        found.warnings += [_warning(place, key, "env.NAME") for key, place in secrets]


def native_secret_warnings(tree: Text, path: Path) -> list[Problem]:
    """A warning for each literal secret in ``tree``, which was read from ``path`` alone."""
    secrets = list(_literals(tree, (), False))
    if not secrets or not others_read(path):
        return []
    return [_warning(place, key, "env:NAME") for key, place in secrets]


def _literals(text: Text, path: tuple[str | int, ...], inside: bool) -> Iterator[tuple[str, str]]:
    if isinstance(text.value, dict):
        for key, value in text.value.items():
            if inside and is_secret_key(key) and _is_literal(value.value):
                yield shown_key((*path, key)), text.keys.get(key, value.place)
            yield from _literals(value, (*path, key), inside or key in _SECTIONS)
    elif isinstance(text.value, list):
        for at, value in enumerate(text.value):
            yield from _literals(value, (*path, at), inside)


def _is_literal(value: object) -> bool:
    if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
        return False
    text = str(value)
    return not ("${" in text or text.startswith("env:") or environment_name(text))


def _warning(place: str, key: str, form: str) -> Problem:
    what = "a secret in clear, in a file that others can read"
    return Problem(where=place, key=key, what=what, remedy=f"write {form}, or chmod 600 the file")
