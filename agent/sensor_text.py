"""What a node's own sensors print, as figures. PURE.

A figure is named like its sensor, or ``<sensor>.<name>`` where it prints several. All bounds
are here: what is beyond them is left out and said.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

#: Figures of one sensor; characters of a figure's name; bytes that are read of a program,
#: of a page; characters of a problem.
MAX_FIGURES, MAX_NAME, MAX_OUTPUT, MAX_PAGE, MAX_PROBLEM = 32, 100, 64 * 1024, 2**20, 200


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one measurement brought. ``problem`` may stand beside figures: what was left out."""

    figures: Mapping[str, float] = field(default_factory=dict)
    problem: str = ""


def from_lines(sensor: str, text: str, names: Sequence[str] = ()) -> Measured:
    """Figures of a program's output: one number, or lines ``name value``.

    ``names``: only these are taken, all when empty. A line that is neither is a problem, and
    so is one with a number that is none (nan, inf): it makes no figure.
    """
    found: dict[str, float] = {}
    strange: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if not words:
            continue
        value = _number(words[-1])
        name = f"{sensor}.{words[0]}" if len(words) == 2 else sensor
        if value is None or len(words) > 2 or len(name) > MAX_NAME:
            strange.append(line)
        elif not names or len(words) == 1 or words[0] in names:
            found[name] = value
    return _bounded(found, strange, "prints what is no number and no 'name value'")


def from_samples(
    sensor: str, samples: Iterable[tuple[str, Mapping[str, str], float]], names: Sequence[str]
) -> Measured:
    """Figures of a Prometheus page: for each of ``names`` the sum of its series.

    A name is ``metric`` or ``metric{label="value"}``, which takes only series with that label.
    A name without any series makes no figure.
    """
    wanted = {name: selector(name) for name in names}
    sums: dict[str, float] = {}
    for metric, labels, value in samples:
        for name, (called, having) in wanted.items():
            if metric == called and having.items() <= labels.items() and math.isfinite(value):
                key = f"{sensor}.{name}"
                sums[key] = sums.get(key, 0.0) + value
    absent = [name for name in names if f"{sensor}.{name}" not in sums]
    return _bounded(sums, absent, "the page has no")


def selector(name: str) -> tuple[str, dict[str, str]]:
    """``metric{a="x",b="y"}`` in its parts. Raises ValueError for anything else."""
    metric, brace, rest = name.partition("{")
    labels: dict[str, str] = {}
    if brace:
        if not rest.endswith("}"):
            raise ValueError(f"'{name}' has no closing brace")
        for pair in filter(None, (part.strip() for part in rest[:-1].split(","))):
            label, equals, value = pair.partition("=")
            if not equals or len(value) < 2 or value[0] != '"' or value[-1] != '"':
                raise ValueError(f"'{name}': a label is written label=\"value\"")
            labels[label.strip()] = value[1:-1]
    if not metric or not metric.replace("_", "a").replace(":", "a").isalnum():
        raise ValueError(f"'{name}' does not begin with the name of a metric")
    return metric, labels


def _bounded(found: dict[str, float], strange: list[str], what: str) -> Measured:
    problems = []
    if strange:
        problems.append(f"{what}: {strange[0]!r}" + _more(len(strange) - 1))
    if len(found) > MAX_FIGURES:
        problems.append(f"{len(found) - MAX_FIGURES} figures beyond {MAX_FIGURES} are left out")
        found = dict(list(found.items())[:MAX_FIGURES])
    return Measured(figures=found, problem="; ".join(problems)[:MAX_PROBLEM])


def _more(count: int) -> str:
    return f" and {count} more" if count > 0 else ""


def _number(word: str) -> float | None:
    try:
        value = float(word)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
