"""``bootconf.json`` and ``bootenv.sh``: what programs find beside them. PURE.

A bootconf template is any text; ``$key`` and ``${key}`` are the service's attributes and
``$$`` is ``$``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping

_DOLLAR = re.compile(
    r"\$(?:(?P<dollar>\$)|(?P<plain>[A-Za-z_][A-Za-z0-9_]*)"
    r"|\{(?P<braced>[A-Za-z_][A-Za-z0-9_-]*)\}|(?P<wrong>))"
)


class BadTemplate(ValueError):
    """A template that can't be filled; the text names line and key, never a value."""


def template_keys(template: str) -> Iterator[tuple[int, str]]:
    """Line (from 1) and name of every key; the name is "" where a ``$`` stands alone."""
    line, at = 1, 0
    for found in _DOLLAR.finditer(template):
        line += template.count("\n", at, found.start())
        at = found.start()
        if found["dollar"] is None:
            yield line, found["plain"] or found["braced"] or ""


def template_problems(template: str, known: Mapping[str, object]) -> list[str]:
    """A sentence for each place of ``template`` that can't be filled from ``known`` keys."""
    said = []
    for line, key in template_keys(template):
        if not key:
            said.append(f"line {line}: a $ that is no key (write $$ for the character)")
        elif key not in known:
            said.append(f"line {line}: the service has no attribute '{key}'")
    return list(dict.fromkeys(said))


def filled(template: str, values: Mapping[str, str]) -> str:
    """``template`` with every key replaced by its value. Raises BadTemplate."""
    problems = template_problems(template, values)
    if problems:
        raise BadTemplate("; ".join(problems))

    def value(found: re.Match[str]) -> str:
        return "$" if found["dollar"] else values[found["plain"] or found["braced"]]

    return _DOLLAR.sub(value, template)


def bootenv(values: Mapping[str, str]) -> str:
    """A shell file that exports ``values``, whatever is in them; ``-`` in names is ``_``."""
    names = {name: name.replace("-", "_") for name in sorted(values)}
    return "".join(f"export {names[name]}={shlex.quote(values[name])}\n" for name in names)
