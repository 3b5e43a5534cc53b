"""Documents about what happened, and what would."""

from __future__ import annotations

from typing import Any, Literal

from mgmt.documents.parts import Missing, Part
from mgmt.documents.pools import PoolLine


class Happened(Part):
    """One line of history."""

    time: float
    source: str
    sequence: int
    """Counts the events of one source."""
    id: str
    """`source:sequence`."""
    name: str
    actor: str
    run: str
    pool: str
    node: str
    reason: str
    extra: dict[str, Any]


class Events(Missing):
    """Events, oldest first. With `--follow`: one of them a line, and no document."""

    events: list[Happened]
    omitted: int
    """Older ones that fit but are beyond `--limit`."""
    cursor: dict[str, int]
    """The last sequence of each source."""
    from_files: list[str]
    """Those of `missing` whose log files were read instead."""
    broken: list[str]
    """Lines of files that can't be read."""


class Logs(Part):
    """Logs that were collected."""

    directory: str
    fetched: list[str]
    """Paths below it."""
    kept: list[str]
    """Those that were there already and can't be had any more."""
    silent: dict[str, str]
    """Nodes that did not answer, and why."""
    problems: dict[str, str]


class Graph(Missing):
    """A picture that was drawn."""

    file: str
    events: int
    decisions: int
    panels: dict[str, list[str]]
    """The names of the lines below each title."""
    broken: list[str]


class Difference(Part):
    """What came out otherwise."""

    what: str
    then: Any
    now: Any


class Replayed(Part):
    """A decision that did not come out the same."""

    pool: str
    at: float
    problem: str
    """Why it can't be replayed; empty when it can."""
    differences: list[Difference]


class Replay(Part):
    """Stored decisions, decided again."""

    replayed: int
    same: int
    undecided: int
    """Stored cycles that decided nothing."""
    different: list[Replayed]


class Trace(Part):
    """The load that policies were tried on."""

    source: str
    kind: Literal["jobs", "rates", "queue"]
    began: float
    seconds: float
    messages: int
    service: float | None
    """Seconds of work for a message, on average."""


class Policy(Part):
    """What one policy would have cost and done."""

    policy: str
    cost: float | None
    """In $."""
    machine_hours: float
    seconds: float
    messages: int
    unserved: int
    wait_p50: float | None
    wait_p90: float | None
    wait_p99: float | None
    wait_max: float | None
    waited_longer: float | None
    """The share of messages that waited longer than asked for."""
    launches: int
    terminations: int
    over_high_water: float | None
    """Seconds with more messages ready than the mark."""
    over_target: float | None
    """Seconds with more in the queue than the engine's target."""
    workers_min: int
    workers_mean: float
    workers_max: int
    queue_max: float
    cycles: int
    failures: dict[str, int]
    """In how many cycles the engine failed, by what it said."""
    held: dict[str, int]
    """In how many it held, by the reason."""


class Simulation(Part):
    """Policies compared over a load trace."""

    trace: Trace
    boot_time: str
    seed: int
    step: float
    policies: list[Policy]


class Proof(Part):
    """One thing that had to hold."""

    claim: str
    held: bool
    figures: str


class Exercise(Part):
    """What came of breaking things by a timeline."""

    exercise: str
    run: str
    pool: str
    held: bool
    sent: int
    """Jobs."""
    proofs: list[Proof]
    seconds: float
    graph: str


class ExerciseCheck(Part):
    """Whether a timeline could be done."""

    exercise: str
    possible: bool


class Picture(Missing):
    """A system as it is now, a line each time it has changed; no `schema`, no `version`."""

    time: float
    run: str
    problem: str
    """Why there is no newer picture."""
    components: dict[str, dict[str, Any]]
    pools: list[PoolLine]
    progress: dict[str, Any]
    """Of a teardown, and how the clouds are."""
    problems: list[str]
    """What a person should look at."""
