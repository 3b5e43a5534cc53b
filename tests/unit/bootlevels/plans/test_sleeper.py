"""The sleeper's worker and producer, as far as they need no broker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.worker import Job, NotAJob
from bootlevels.plans.sleeper.producer import ProducerFailed, job_ids, read_access
from bootlevels.plans.sleeper.worker import seconds_of

ACCESS = {
    "host": "127.0.0.1",
    "port": 5672,
    "vhost": "epu",
    "accounts": {"node": {"user": "node-l1-0", "password": "secret"}},
}


def test_a_job_says_how_long_to_sleep() -> None:
    assert seconds_of(Job(id="j1", body=b'{"id": "j1", "sleep": 2, "more": 1}')) == 2.0


@pytest.mark.parametrize(
    "body", ["", "[]", "{}", '{"id": 1}', '{"id": "x", "sleep": -1}', '{"id": "x", "sleep": NaN}']
)
def test_what_is_no_job_is_said_to_be_none(body: str) -> None:
    with pytest.raises(NotAJob):
        seconds_of(Job(id="j1", body=body.encode()))


def test_the_names_of_jobs_sort_in_their_order() -> None:
    ids = job_ids(60, "j")
    assert (ids[0], ids[-1], len(set(ids))) == ("j-01", "j-60", 60)
    assert ids == sorted(ids)


@pytest.mark.parametrize("text", ["{", json.dumps(ACCESS)])
def test_a_producer_without_the_coordinators_account_is_used_wrongly(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ProducerFailed, match=r"a\.json") as problem:
        read_access(tmp_path / "a.json")
    assert problem.value.exit_code == 2
