"""How long something takes: a fixed time, a distribution, or what was measured.

Written by people as ``60``, ``lognormal:60,20`` (mean and standard deviation),
``exponential:30`` or ``uniform:40,90``; seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from coordinator.errors import ConfigProblem, Problem

#: Kind to the names of its numbers.
KINDS = {
    "fixed": ("seconds",),
    "exponential": ("mean",),
    "lognormal": ("mean", "deviation"),
    "uniform": ("shortest", "longest"),
}
LONGEST = 30 * 86400.0


@dataclass(frozen=True)
class Times:
    """Seconds of a kind with its numbers; kind ``measured`` draws from ``numbers`` themselves."""

    kind: str
    numbers: tuple[float, ...]

    def draw(self, random: Random) -> float:
        """One time; never negative."""
        first, last = self.numbers[0], self.numbers[-1]
        if self.kind == "fixed":
            return first
        if self.kind == "exponential":
            return random.expovariate(1.0 / first)
        if self.kind == "uniform":
            return random.uniform(first, last)
        if self.kind == "measured":
            return random.choice(self.numbers)
        spread = math.log(1.0 + (last / first) ** 2)
        return random.lognormvariate(math.log(first) - spread / 2, math.sqrt(spread))

    def __str__(self) -> str:
        if self.kind == "measured":
            return f"{len(self.numbers)} measured"
        return f"{self.kind}:{','.join(f'{number:g}' for number in self.numbers)}"


def times_of(text: str, key: str = "") -> Times:
    """Times from a person's text. Raises ConfigProblem naming ``key``."""
    kind, colon, rest = text.strip().partition(":")
    if not colon:
        kind, rest = "fixed", kind
    names = KINDS.get(kind)
    if names is None:
        raise _problem(key, f"'{text}' is no kind of time")
    try:
        numbers = tuple(float(word) for word in rest.split(","))
    except ValueError:
        raise _problem(key, f"'{rest}' is no number of seconds") from None
    if len(numbers) != len(names):
        raise _problem(key, f"{kind} takes {' and '.join(names)}")
    least = 0.0 if kind in ("fixed", "uniform") else 1e-6
    if not all(math.isfinite(one) and 0 <= one <= LONGEST for one in numbers):
        raise _problem(key, f"'{text}' must be 0 s to 30 days")
    if numbers[0] < least or (kind == "uniform" and numbers[0] > numbers[1]):
        raise _problem(key, f"'{text}' must have {names[0]} above 0, the shorter time first")
    return Times(kind, numbers)


def measured(seconds: Sequence[float]) -> Times | None:
    """Times as they were measured; None when nothing was."""
    usable = tuple(one for one in seconds if math.isfinite(one) and one >= 0)
    return Times("measured", usable) if usable else None


def _problem(key: str, what: str) -> ConfigProblem:
    remedy = "write 60, lognormal:60,20, exponential:30 or uniform:40,90"
    return ConfigProblem([Problem(key=key, what=what, remedy=remedy)])
