"""Whether what was seen is what a timeline expects. PURE.

The witnesses: the workers' own words (``job_begin`` and ``job_end``), the queue, which loses
a message only when it is acknowledged or rejected, the components' events, and the clouds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from agent.messages import Event
from mgmt.demo.proofs import Proof
from mgmt.exercise.timeline import Expectation, Timeline


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What was found at the end of an exercise; ``events`` are the pool's, since its start.

    ``waiting``: messages in the queue, ready or in hand, None when nobody could say.
    ``running``: workers, ``machines``: node ids that the clouds list for the pool; None, with
    ``unlisted`` saying why, when they could not be asked. ``records``: node ids that the
    provisioner has. ``undone``: steps that could not be done.
    """

    sent: Sequence[str] = ()
    events: Sequence[Event] = ()
    waiting: int | None = None
    running: int = 0
    machines: frozenset[str] | None = None
    unlisted: str = ""
    records: frozenset[str] = frozenset()
    undone: Sequence[str] = field(default_factory=tuple)


@dataclass(frozen=True, kw_only=True)
class Jobs:
    """What became of jobs, by their ids. ``silent``: begun, gone from the queue, and whoever
    had them died before it could say that they were done.
    """

    done: frozenset[str]
    silent: frozenset[str]
    dropped: frozenset[str]
    again: frozenset[str]

    @property
    def acknowledged(self) -> frozenset[str]:
        return self.done | self.silent


def jobs_of(sent: Iterable[str], events: Iterable[Event], *, queue_empty: bool) -> Jobs:
    """What the workers' events and the queue say of the jobs ``sent``."""
    wanted = set(sent)
    begun: Counter[str] = Counter()
    ended: dict[str, set[str]] = {}
    for event in events:
        job = str(event.extra.get("job", ""))
        if job not in wanted:
            continue
        if event.name == "job_begin":
            begun[job] += 1
        elif event.name == "job_end":
            ended.setdefault(job, set()).add(str(event.extra.get("outcome", "done")))
    done = {job for job, outcomes in ended.items() if "done" in outcomes}
    # What fails when it comes again is dropped, and so is what is no job at all.
    dropped = {job for job, how in ended.items() if how & {"dropped", "failed"}} - done
    silent = set(begun) - done - dropped if queue_empty else set()
    again = {job for job, times in begun.items() if times > 1}
    return Jobs(
        done=frozenset(done),
        silent=frozenset(silent),
        dropped=frozenset(dropped),
        again=frozenset(again),
    )


def verdict(timeline: Timeline, seen: Seen) -> list[Proof]:
    """One Proof for each step that failed and for each thing that was expected."""
    return list(_proofs(timeline, timeline.expect, seen))


def _proofs(timeline: Timeline, expect: Expectation, seen: Seen) -> Iterator[Proof]:
    for undone in seen.undone:
        yield Proof("each step was done", False, undone)
    empty = seen.waiting == 0
    jobs = jobs_of(seen.sent, seen.events, queue_empty=empty)
    if expect.done and timeline.submits:
        yield _all_done(seen, jobs, empty=empty)
    if expect.redelivered is not None:
        yield Proof(
            claim=f"at most {expect.redelivered} jobs were begun more than once",
            held=len(jobs.again) <= expect.redelivered,
            figures=f"{len(jobs.again)} were",
        )
    if expect.workers is not None:
        yield Proof(
            claim=f"{expect.workers} workers run at the end",
            held=seen.running == expect.workers,
            figures=f"{seen.running} run",
        )
    if expect.launches is not None:
        launched = sum(int(e.extra.get("count", 0)) for e in seen.events if e.name == "new_launch")
        yield Proof(
            claim=f"at most {expect.launches} machines were launched",
            held=launched <= expect.launches,
            figures=f"{launched} were",
        )
    if expect.nothing_leaked:
        yield _nothing_leaked(seen)


def _all_done(seen: Seen, jobs: Jobs, *, empty: bool) -> Proof:
    claim = f"all {len(seen.sent)} jobs were done"
    if seen.waiting is None:
        return Proof(claim, False, "nobody could say what is left in the queue")
    if not empty:
        return Proof(claim, False, f"{len(jobs.done)} were, {seen.waiting} are still in the queue")
    told = jobs.acknowledged | jobs.dropped
    if not told:
        return Proof(claim, True, "by the empty queue alone: the workers tell no job events")
    figures = f"{len(jobs.done)} told so"
    if jobs.silent:
        figures += f", {len(jobs.silent)} acknowledged by a worker that was gone before it told"
    if jobs.dropped:
        figures += f", {len(jobs.dropped)} dropped by the worker"
    if unseen := len(set(seen.sent) - told):
        figures += f", {unseen} nobody told of"
    return Proof(claim, jobs.acknowledged >= set(seen.sent), figures)


def _nothing_leaked(seen: Seen) -> Proof:
    claim = "the clouds list the machines on record, and no other"
    if seen.machines is None:
        return Proof(claim, False, f"the clouds could not be asked: {seen.unlisted}")
    stray, gone = seen.machines - seen.records, seen.records - seen.machines
    figures = f"{len(seen.machines)} listed, {len(seen.records)} on record"
    if stray:
        figures += f"; not on record: {', '.join(sorted(stray))}"
    if gone:
        figures += f"; not listed: {', '.join(sorted(gone))}"
    return Proof(claim, not stray and not gone, figures)
