"""The sleeper's worker and producer, as far as they need no broker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bootlevels.plans.sleeper.producer import ProducerFailed, job_ids, read_access
from bootlevels.plans.sleeper.worker import MalformedJob, read_job, surroundings

ACCESS = {
    "host": "127.0.0.1",
    "port": 5672,
    "vhost": "epu",
    "accounts": {"node": {"user": "node-l1-0", "password": "secret"}},
}


def test_a_job_is_read() -> None:
    job = read_job(b'{"id": "j1", "sleep": 2, "more": 1}')
    assert (job.id, job.sleep) == ("j1", 2.0)


@pytest.mark.parametrize(
    "body", ["", "[]", "{}", '{"id": 1}', '{"id": "x", "sleep": -1}', '{"id": "x", "sleep": NaN}']
)
def test_what_is_no_job_is_said_to_be_none(body: str) -> None:
    with pytest.raises(MalformedJob):
        read_job(body)


def test_a_worker_knows_its_node_from_its_environment(tmp_path: Path) -> None:
    (tmp_path / "broker.json").write_text(json.dumps(ACCESS))
    given = {
        "EPU_BROKER_FILE": str(tmp_path / "broker.json"),
        "EPU_NODE_DIR": str(tmp_path),
        "EPU_NODE_ID": "l1-0",
        "EPU_POOL": "workers",
    }
    found = surroundings(given)
    assert found.busy_file == tmp_path / "busy"
    assert surroundings({**given, "EPU_BUSY_FILE": "/x/busy.work.1"}).busy_file == Path(
        "/x/busy.work.1"
    )
    assert "secret" not in repr(found)


@pytest.mark.parametrize("text", ["", "{}", "[]", json.dumps({**ACCESS, "accounts": {}})])
def test_a_useless_broker_file_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "broker.json").write_text(text)
    with pytest.raises(ValueError, match=r"broker\.json") as problem:
        surroundings({"EPU_BROKER_FILE": str(tmp_path / "broker.json")})
    assert "\n" not in str(problem.value)


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
