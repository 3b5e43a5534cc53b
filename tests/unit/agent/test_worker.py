"""What a worker knows of its node, as far as it needs no broker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.worker import Job, NotAJob, surroundings

ACCESS = {
    "host": "127.0.0.1",
    "port": 5672,
    "vhost": "epu",
    "accounts": {"node": {"user": "node-l1-0", "password": "secret"}},
}


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


def test_a_body_that_is_not_json_is_no_job() -> None:
    with pytest.raises(NotAJob, match="not JSON"):
        Job(id="j", body=b"\xff{").json()
