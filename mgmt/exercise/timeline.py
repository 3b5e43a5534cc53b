"""A timeline: what is done to a running system, when, and what is expected of it. PURE."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from agent.node_role import STRICT

#: Processes of the coordinator that may be killed, and what may be killed beside them.
COMPONENTS = ("provisioner", "controller", "sensors", "registrar", "management")
KILLABLE = ("worker", *COMPONENTS)
#: What a step may do; exactly one of these keys is its action.
ACTIONS = ("submit", "kill", "restart", "set_n", "wait")
#: States of a pool that are worth waiting for, and the emptiness of its queue.
AWAITED = ("STABLE", "PENDING", "HELD", "FAILED", "empty")
#: A typing error rather than a wish.
MOST_JOBS = 1_000_000
LONGEST = 86_400.0


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing done ``at`` seconds after the start, or as soon as what is before it is done.

    ``submit``: so many jobs, each with ``seconds`` and whatever is in ``job``; ``kill``: one
    of KILLABLE; ``restart``: ``broker``; ``set_n``: the size of the engine n_preserving;
    ``wait``: one of AWAITED, at most ``within`` seconds.
    """

    __pydantic_config__: ClassVar = STRICT

    at: float
    submit: int | None = None
    seconds: float = 1.0
    job: dict[str, Any] = field(default_factory=dict)
    kill: str | None = None
    restart: str | None = None
    set_n: int | None = None
    wait: str | None = None
    within: float = 60.0

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise ValueError("; ".join(problems))

    def _problems(self) -> Iterator[str]:
        given = [name for name in ACTIONS if getattr(self, name) is not None]
        if len(given) != 1:
            yield f"a step does one of {', '.join(ACTIONS)}, not {', '.join(given) or 'nothing'}"
        for name in ("at", "seconds", "within"):
            if not 0 <= getattr(self, name) <= LONGEST:
                yield f"{name} must be 0 to {LONGEST:g} seconds"
        if self.submit is not None and not 1 <= self.submit <= MOST_JOBS:
            yield f"submit must be 1 to {MOST_JOBS} jobs"
        if self.kill is not None and self.kill not in KILLABLE:
            yield f"kill must be one of {', '.join(KILLABLE)}, not '{self.kill}'"
        if self.restart is not None and self.restart != "broker":
            yield f"restart must be broker, not '{self.restart}'"
        if self.set_n is not None and not 0 <= self.set_n <= 100_000:
            yield "set_n must be 0 to 100000"
        if self.wait is not None and self.wait not in AWAITED:
            yield f"wait must be one of {', '.join(AWAITED)}, not '{self.wait}'"

    @property
    def disturbs(self) -> bool:
        """Whether it breaks something."""
        return self.kill is not None or self.restart is not None

    def __str__(self) -> str:
        if self.submit is not None:
            return f"submit {self.submit} jobs of {self.seconds:g} s"
        if self.kill is not None:
            return "kill a worker's machine" if self.kill == "worker" else f"kill the {self.kill}"
        if self.restart is not None:
            return "restart the broker"
        if self.set_n is not None:
            return f"set N to {self.set_n}"
        what = "an empty queue" if self.wait == "empty" else f"{self.wait}"
        return f"wait for {what}, at most {self.within:g} s"


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What must be true at the end, at the latest ``within`` seconds after the last step.

    None expects nothing. ``done``: every submitted job was done; ``redelivered``: jobs that
    were begun more than once, at most; ``workers``: so many run; ``launches``: machines
    launched since the start, at most; ``nothing_leaked``: the clouds list the pool's machines
    that the provisioner has on record, and no other.
    """

    __pydantic_config__: ClassVar = STRICT

    done: bool = True
    redelivered: int | None = None
    workers: int | None = None
    launches: int | None = None
    nothing_leaked: bool = True
    within: float = 60.0

    def __post_init__(self) -> None:
        for name in ("redelivered", "workers", "launches"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= MOST_JOBS:
                raise ValueError(f"{name} must be 0 to {MOST_JOBS}")
        if not 0 <= self.within <= LONGEST:
            raise ValueError(f"within must be 0 to {LONGEST:g} seconds")


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """An exercise of the pool ``pool``; ``queue`` is its first work queue unless named."""

    exercise: str
    pool: str
    timeline: tuple[Step, ...]
    queue: str = ""
    expect: Expectation = field(default_factory=Expectation)

    def __post_init__(self) -> None:
        if not self.timeline:
            raise ValueError("timeline must have a step")

    @property
    def steps(self) -> tuple[Step, ...]:
        """In the order of their times; as written where these are equal."""
        return tuple(sorted(self.timeline, key=lambda step: step.at))

    @property
    def submits(self) -> bool:
        return any(step.submit is not None for step in self.timeline)

    @property
    def disturbances(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.disturbs)
