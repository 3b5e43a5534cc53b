"""What a demonstration proves, from what was seen and recorded. PURE.

Every function takes plain values and answers with Proofs; a proof that fails says with
which figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agent.messages import Event

#: A worker is usable from the first of these events to the first of those.
_UP = "node_ready"
_DOWN = ("drain_started", "node_terminating", "node_terminated", "node_ready_failed")


@dataclass(frozen=True)
class Proof:
    """One claim, whether it held, and the figures."""

    claim: str
    held: bool
    figures: str


@dataclass(frozen=True)
class Sample:
    """One look at the running pool, as its controller saw it ``at`` (epoch seconds)."""

    at: float
    done: int
    ready: int | None
    unacknowledged: int | None
    running: int
    pending: int
    draining: int
    wanted: int | None
    state: str
    reason: str

    @property
    def work(self) -> int:
        """Jobs that the broker still has, ready or in hand, as last read."""
        return (self.ready or 0) + (self.unacknowledged or 0)


def all_jobs_done(sent: int, done_lines: Iterable[str]) -> Proof:
    """Each job at least once; a line of the done-file begins with the job's id."""
    lines = [line.split()[0] for line in done_lines if line.strip()]
    different = len(set(lines))
    again = len(lines) - different
    return Proof(
        claim=f"all {sent} jobs were done at least once",
        held=different == sent,
        figures=f"{different} different jobs done, {again} of them again",
    )


def replaced_once(events: Sequence[Event], killed: str, at: float) -> list[Proof]:
    """The killed node was found gone, and one machine came in its place, soon."""
    gone = [e for e in events if e.name == "node_terminated" and e.node == killed]
    launches = [e for e in events if e.name == "new_launch" and gone and e.time >= gone[0].time]
    if not gone or not launches:
        return [Proof("the killed node was replaced", False, "no replacement was launched")]
    first = launches[0]
    count = int(first.extra.get("count", 0))
    return [
        Proof(
            claim="the killed node was replaced within 5 s",
            held=0 <= first.time - at <= 5.0,
            figures=f"found gone after {gone[0].time - at:.1f} s, "
            f"replacement launched after {first.time - at:.1f} s",
        ),
        Proof(
            claim="one loss was one replacement",
            held=count == 1,
            figures=f"{count} machine(s) launched with it",
        ),
    ]


def last_worker_stayed(events: Sequence[Event], last_done: float) -> Proof:
    """Scale-in never took the last usable worker before the last job was done."""
    usable: set[str] = set()
    early = []
    for event in events:
        if event.name == _UP:
            usable.add(event.node)
        elif event.name in _DOWN and event.node in usable:
            usable.discard(event.node)
            by_choice = event.name == "drain_started"
            if by_choice and not usable and event.time < last_done:
                early.append(event)
    return Proof(
        claim="the last worker was never removed while jobs were ready or in hand",
        held=not early,
        figures=f"{len(early)} early removal(s)"
        if early
        else "the last worker went after the last job",
    )


def never_idle_with_work(
    events: Sequence[Event], samples: Sequence[Sample], cycle: float, looked_every: float
) -> Proof:
    """From the first look that saw work and no worker to a launch: at most one cycle."""
    longest = 0.0
    since: float | None = None
    launches = [event.time for event in events if event.name == "new_launch"]
    for sample in samples:
        nobody = sample.running + sample.pending == 0
        if not (nobody and sample.work > 0):
            since = None
            continue
        if since is None:
            since = sample.at
        following = [at for at in launches if at >= since]
        longest = max(longest, (following[0] if following else sample.at) - since)
    allowed = cycle + looked_every
    return Proof(
        claim="no worker although work was seen: never longer than one cycle before a launch",
        held=longest <= allowed,
        figures=f"longest {longest:.1f} s; a cycle is {cycle:g} s, looked every {looked_every:g} s",
    )


def grew_and_shrank(samples: Sequence[Sample], most: int) -> list[Proof]:
    """The pool grew to its maximum by the high water and shrank to nothing by the low."""
    sizes = [sample.running for sample in samples]
    biggest = max(sizes, default=0)
    return [
        Proof(
            claim=f"the pool grew to its maximum of {most}",
            held=biggest == most,
            figures=f"at most {biggest} workers were running",
        ),
        Proof(
            claim="the pool shrank to nothing when the work was done",
            held=bool(samples) and sizes[-1] == 0,
            figures=f"{sizes[-1] if sizes else '?'} running at the end",
        ),
    ]


def nothing_left(processes: Sequence[str], ports: Sequence[int], files: Sequence[str]) -> Proof:
    """No process, no open port and no file outside the run directory."""
    found = [*processes, *(f"port {port} is open" for port in ports), *files]
    return Proof(
        claim="no process, port or file is left outside the run directory",
        held=not found,
        figures="; ".join(found[:5]) if found else "looked for all three: none",
    )
