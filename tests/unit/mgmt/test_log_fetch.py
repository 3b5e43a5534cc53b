"""Logs of a run collected in one directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.rpc_client import BrokerUnreachable, CallTimeout
from mgmt.log_fetch import FetchReport, LogFetch, LogSource, local_sources


class Nodes:
    """Workers by node id: the text of their logs, or what is raised instead."""

    def __init__(self, **workers: Any) -> None:
        self.workers = workers
        self.asked: list[str] = []

    def __call__(self, service: str, method: str, *args: Any, timeout: float) -> Any:
        if method == "nodes":
            return {"nodes": [{"node_id": name, "state": "RUNNING"} for name in self.workers]}
        self.asked.append(args[0])
        found = self.workers.get(args[0], "")
        if isinstance(found, BaseException):
            raise found
        return {"text": found}


def fetch(directory: Path, call: Any, *sources: LogSource, base: Any = ()) -> FetchReport:
    return LogFetch(directory, call, lambda _: None).perform(iter(sources), list(base))


def test_every_log_of_this_machine_is_found_those_of_machines_that_are_gone_too(tmp_path: Path):
    for name in (
        "logs/provisioner.log",
        "broker/logs/rabbitmq.log",
        "coordinator/logs/controller.log.1",
        "coordinator/supervisord.conf",
        "pools/supervisord.conf",
        "pools/logs/controller-web.log",
        "coordinator/clouds/here/web-1-0/logs/agent.log",
        "clouds/boxes/broker-1/logs/console.log",
        "broker/accounts.json",
        "coordinator/token.key",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    target = tmp_path / "out"
    report = fetch(target, None, *local_sources(tmp_path, tmp_path / "coordinator"))
    assert report.whole
    assert set(report.fetched) == {
        "base/boot/provisioner.log",
        "base/broker/rabbitmq.log",
        "base/coordinator/controller.log.1",
        "base/pools/controller-web.log",
        "machines/web-1-0/agent.log",
        "base/machines/broker-1/console.log",
    }
    there = [path for path in target.rglob("*") if path.is_file()]
    assert all(path.stat().st_mode & 0o077 == 0 for path in there)
    assert (target / "machines/web-1-0/agent.log").read_text().endswith("agent.log")


def test_a_node_that_does_not_answer_is_said_and_tried_again_while_the_rest_is_kept(
    tmp_path: Path,
):
    workers = Nodes(a="one", b=CallTimeout("no answer"), c="three")
    first = fetch(tmp_path, workers)
    assert first.silent == {"b": "no answer"} and len(first.fetched) == 2 and not first.whole
    workers.workers["b"] = "two"
    workers.asked.clear()
    second = fetch(tmp_path, workers)
    assert workers.asked == ["b"] and second.whole and len(second.kept) == 2
    assert (tmp_path / "machines/b/agent-answer.log").read_text() == "two"


def test_a_fetch_that_was_killed_goes_on_where_it_was(tmp_path: Path):
    workers = Nodes(a="one", b=KeyboardInterrupt(), c="three")
    with pytest.raises(KeyboardInterrupt):
        fetch(tmp_path, workers)
    workers.workers["b"] = "two"
    workers.asked.clear()
    assert fetch(tmp_path, workers).whole
    assert workers.asked == ["b", "c"]


def test_a_finished_fetch_begins_anew_and_keeps_what_can_not_be_had_again(tmp_path: Path):
    assert fetch(tmp_path, Nodes(a="old", gone="last words")).whole
    assert fetch(tmp_path, Nodes(a="new")).whole
    assert (tmp_path / "machines/a/agent-answer.log").read_text() == "new"
    assert (tmp_path / "machines/gone/agent-answer.log").read_text() == "last words"


def test_with_a_dead_broker_local_logs_are_fetched_and_no_node_is_waited_for(tmp_path: Path):
    asked = []

    def dead(*args: Any, timeout: float) -> Any:
        asked.append(args)
        raise BrokerUnreachable("no broker")

    log = LogSource("base/boot/x.log", lambda: b"hello")
    report = fetch(tmp_path, dead, log, base=["base-0", "base-1"])
    assert report.fetched == ["base/boot/x.log"] and report.broker_dead and len(asked) == 1


def test_a_log_that_can_not_be_read_is_a_problem_and_one_that_was_rotated_away_is_none(
    tmp_path: Path,
):
    def raises(problem: OSError) -> Any:
        def read() -> bytes:
            raise problem

        return read

    sources = (
        LogSource("base/a.log", raises(PermissionError(13, "Permission denied"))),
        LogSource("base/b.log", raises(FileNotFoundError(2, "No such file"))),
    )
    assert fetch(tmp_path, None, *sources).problems == {"base/a.log": "Permission denied"}
