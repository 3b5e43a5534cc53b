"""What a boot tells while it goes on, and how it ended. Values only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Scope = Literal["level", "service"]
Phase = Literal["starting", "transition", "complete", "error"]


class Interrupted(Exception):
    """Ended by a signal: programs are ended, the record is right."""


@dataclass(frozen=True, kw_only=True)
class Moment:
    """Something that a watcher is told. ``service`` is empty for a level."""

    scope: Scope
    phase: Phase
    level: int
    service: str = ""
    action: str = ""
    text: str = ""
    tail: tuple[str, ...] = ()


#: Told of every moment, one at a time, from any thread. The answer ``"restart"`` to a
#: service's error boots that service again.
Watcher = Callable[[Moment], str | None]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A service that did not get where it should be. ``unreachable``: nobody to ask."""

    service: str
    action: str
    text: str
    tail: tuple[str, ...] = ()
    unreachable: bool = False


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a boot or a termination went.

    ``repaired``: services that were replaced or configured anew. ``idle``: services whose
    machines were asked for early and that a failure below kept from being booted.
    """

    failures: tuple[Failure, ...] = ()
    repaired: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.failures


def silent(_: Moment) -> None:
    """The watcher of whoever does not watch."""
    return
