"""The verdict of an exercise: by what workers say, by the queue, and by what clouds list."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent.messages import Event
from mgmt.demo.proofs import Proof
from mgmt.exercise.timeline import Expectation, Step, Timeline
from mgmt.exercise.verdict import Seen, jobs_of, verdict

JOBS = ("j1", "j2", "j3")


def told(name: str, job: str, **extra: Any) -> Event:
    return Event(time=1.0, source="worker", name=name, pool="p", extra={"job": job, **extra})


def begun(job: str) -> Event:
    return told("job_begin", job)


def done(job: str) -> list[Event]:
    return [begun(job), told("job_end", job, outcome="done")]


def judge(seen: Seen, **expect: Any) -> list[Proof]:
    steps = (Step(at=0, submit=3),)
    timeline = Timeline(
        exercise="e", pool="p", timeline=steps, expect=Expectation(nothing_leaked=False, **expect)
    )
    return verdict(timeline, seen)


ALL = [event for job in JOBS for event in done(job)]


def test_all_jobs_told_of_and_an_empty_queue_are_all_done() -> None:
    [proof] = judge(Seen(sent=JOBS, events=ALL, waiting=0))
    assert proof == Proof("all 3 jobs were done", True, "3 told so")


def test_a_job_still_in_the_queue_is_not_done_whatever_was_told() -> None:
    [proof] = judge(Seen(sent=JOBS, events=ALL, waiting=1))
    assert not proof.held


def test_nothing_is_concluded_from_a_queue_that_nobody_could_read() -> None:
    [proof] = judge(Seen(sent=JOBS, events=ALL, waiting=None))
    assert not proof.held and "nobody could say" in proof.figures


def test_a_worker_that_died_between_acknowledging_and_telling_did_its_job() -> None:
    [proof] = judge(Seen(sent=JOBS, events=[*done("j1"), *done("j2"), begun("j3")], waiting=0))
    assert proof.held and "1 acknowledged by a worker that was gone" in proof.figures


def test_a_job_that_was_dropped_was_not_done() -> None:
    dropped = [begun("j3"), told("job_end", "j3", outcome="dropped")]
    [proof] = judge(Seen(sent=JOBS, events=[*done("j1"), *done("j2"), *dropped], waiting=0))
    assert not proof.held and "1 dropped" in proof.figures


def test_a_job_that_failed_once_and_was_done_when_it_came_again_is_done() -> None:
    again = [begun("j3"), told("job_end", "j3", outcome="failed"), *done("j3")]
    events = [*done("j1"), *done("j2"), *again]
    proofs = judge(Seen(sent=JOBS, events=events, waiting=0), redelivered=0)
    assert [proof.held for proof in proofs] == [True, False]
    assert all(p.held for p in judge(Seen(sent=JOBS, events=events, waiting=0), redelivered=1))


def test_a_job_that_nobody_ever_began_is_missed_when_others_tell() -> None:
    [proof] = judge(Seen(sent=JOBS, events=[*done("j1"), *done("j2")], waiting=0))
    assert not proof.held and "1 nobody told of" in proof.figures


def test_workers_that_tell_nothing_are_judged_by_their_queue() -> None:
    [proof] = judge(Seen(sent=JOBS, waiting=0))
    assert proof.held and "by the empty queue alone" in proof.figures


def test_machines_and_workers_are_counted() -> None:
    launch = Event(time=1.0, source="provisioner", name="new_launch", extra={"count": 2})
    proofs = judge(Seen(sent=(), waiting=0, running=2, events=[launch]), workers=3, launches=1)
    assert [(p.held, p.figures) for p in proofs[1:]] == [(False, "2 run"), (False, "2 were")]


def leaked(seen: Seen) -> Proof:
    timeline = Timeline(exercise="e", pool="p", timeline=(Step(at=0, wait="STABLE"),))
    [proof] = verdict(timeline, seen)
    return proof


def test_a_machine_without_a_record_and_a_record_without_a_machine_are_leaks() -> None:
    right = frozenset({"a-0", "a-1"})
    assert leaked(Seen(machines=right, records=right)).held
    assert "not on record: b-0" in leaked(Seen(machines=right | {"b-0"}, records=right)).figures
    assert "not listed: b-0" in leaked(Seen(machines=right, records=right | {"b-0"})).figures
    silent = leaked(Seen(machines=None, unlisted="west: it does not answer"))
    assert not silent.held and "it does not answer" in silent.figures


def test_a_step_that_could_not_be_done_is_never_passed_over() -> None:
    found = judge(Seen(waiting=0, undone=("kill a worker: nobody runs",)))
    [proof] = [each for each in found if "step" in each.claim]
    assert not proof.held


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["job_begin", "job_end"]),
            st.sampled_from(JOBS),
            st.sampled_from(["done", "failed", "dropped", "lost"]),
        ),
        max_size=20,
    ),
    st.booleans(),
)
def test_no_job_is_both_done_and_dropped_and_order_does_not_matter(
    found: list[tuple[str, str, str]], empty: bool
) -> None:
    events = [told(name, job, outcome=outcome) for name, job, outcome in found]
    jobs = jobs_of(JOBS, events, queue_empty=empty)
    assert jobs == jobs_of(JOBS, reversed(events), queue_empty=empty)
    assert not jobs.dropped & jobs.acknowledged
    assert not jobs.silent & jobs.done
    assert empty or not jobs.silent
