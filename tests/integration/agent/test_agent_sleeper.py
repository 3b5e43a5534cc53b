"""The sleeper's worker and producer as processes against a real broker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection, Queue

from agent.messages import BrokerAccess
from agent.wire import to_wire

pytestmark = pytest.mark.integration

Eventually = Callable[..., Any]
REPOSITORY = Path(__file__).parents[3]


class Work:
    """One work queue, and the processes around it."""

    def __init__(self, broker: BrokerAccess, admin: Any, node_broker: BrokerAccess, tmp: Path):
        self.name = f"work-{uuid.uuid4().hex[:8]}"
        self.node_id = f"l{uuid.uuid4().hex[:8]}-0"
        self.directory = tmp
        self.done_file = tmp / "done"
        self.started: list[subprocess.Popen[str]] = []
        self.accounts = tmp / "accounts.json"
        self.accounts.write_text(json.dumps(to_wire(broker)))
        account = admin.make_node_account(self.node_id, "workers", (self.name,))
        access = replace(node_broker, accounts={"node": account})
        (tmp / "broker.json").write_text(json.dumps(to_wire(access)))
        self.connection = Connection(broker.amqp_url("coordinator"))
        self.queue = Queue(self.name, durable=True)(self.connection.channel())

    def declare(self) -> None:
        self.queue.declare()

    def waiting(self) -> int:
        return int(self.queue.queue_declare(passive=True).message_count)

    def done(self) -> list[list[str]]:
        text = self.done_file.read_text() if self.done_file.exists() else ""
        return [line.split() for line in text.splitlines()]

    def busy(self) -> str:
        path = self.directory / "busy"
        return path.read_text().strip() if path.exists() else ""

    def run(self, module: str, *words: str, **variables: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", f"bootlevels.plans.sleeper.{module}", *words],
            cwd=self.directory,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.started.append(process)
        return process

    def worker(self) -> subprocess.Popen[str]:
        return self.run(
            "worker",
            *("--queue", self.name, "--done-file", str(self.done_file)),
            EPU_BROKER_FILE=str(self.directory / "broker.json"),
            EPU_NODE_DIR=str(self.directory),
            EPU_NODE_ID=self.node_id,
            EPU_POOL="workers",
        )

    def produce(self, jobs: int, sleep: float) -> None:
        words = ("--accounts", str(self.accounts), "--queue", self.name)
        process = self.run("producer", *words, "--jobs", str(jobs), "--sleep", str(sleep))
        out, _ = process.communicate(timeout=30)
        assert process.returncode == 0, out
        assert f"{jobs}/{jobs} jobs" in out


@pytest.fixture
def work(broker: BrokerAccess, broker_admin: Any, registrar: Any, tmp_path: Path) -> Iterator[Work]:
    found = Work(broker, broker_admin, registrar.node_broker, tmp_path)
    yield found
    for process in found.started:
        if process.poll() is None:
            process.kill()
        process.communicate()
    found.queue.delete()
    found.connection.release()
    broker_admin.delete_user(f"node-{found.node_id}")


def test_every_job_is_done_and_the_worker_says_when_it_is_busy(
    work: Work, registrar: Any, eventually: Eventually
) -> None:
    registrar.start()
    work.declare()
    work.produce(5, 0.3)
    work.worker()
    eventually(lambda: work.busy() == "busy", 20)
    eventually(lambda: len(work.done()) == 5, 20)
    assert len({job for job, _, _ in work.done()}) == 5
    assert {node for _, node, _ in work.done()} == {work.node_id}
    eventually(lambda: work.busy() == "idle")
    key = f"job.workers.{work.node_id}"
    told = lambda: [body["event"] for found, body in registrar.events if found == key]  # noqa: E731
    eventually(lambda: len(told()) == 10)
    assert told()[:2] == ["job_begin", "job_end"]


def test_sigterm_lets_the_job_in_hand_end_and_leaves_the_rest_in_the_queue(
    work: Work, eventually: Eventually
) -> None:
    work.declare()
    work.produce(3, 2.0)
    worker = work.worker()
    eventually(lambda: work.busy() == "busy", 20)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(15) == 0
    assert len(work.done()) == 1
    eventually(lambda: work.waiting() == 2)
    assert work.busy() == "idle"


def test_a_killed_worker_loses_no_job(work: Work, eventually: Eventually) -> None:
    work.declare()
    work.produce(2, 1.0)
    worker = work.worker()
    eventually(lambda: work.busy() == "busy", 20)
    worker.kill()
    eventually(lambda: work.waiting() == 2)
    work.worker()
    eventually(lambda: len({job for job, _, _ in work.done()}) == 2, 20)


def test_a_worker_waits_for_a_queue_that_is_not_there_yet(
    work: Work, eventually: Eventually
) -> None:
    worker = work.worker()
    eventually(lambda: work.busy() == "idle", 20)
    with pytest.raises(subprocess.TimeoutExpired):
        worker.wait(2)
    work.declare()
    work.produce(1, 0.0)
    eventually(lambda: len(work.done()) == 1, 20)


def test_a_worker_outlives_its_broker_and_the_jobs_are_done_at_least_once(
    work: Work, gate: Any, eventually: Eventually
) -> None:
    work.declare()
    work.produce(6, 0.5)
    worker = work.worker()
    eventually(lambda: work.done(), 20)
    gate.shut()
    eventually(lambda: work.busy() == "idle")
    gate.open()
    eventually(lambda: len({job for job, _, _ in work.done()}) == 6, 30)
    assert worker.poll() is None


def test_what_is_no_job_is_dropped_and_the_next_job_is_done(
    work: Work, eventually: Eventually
) -> None:
    work.declare()
    producer = work.connection.Producer()
    for body in ("not json", '{"sleep": 1}', '{"id": "x", "sleep": -1}'):
        producer.publish(body, exchange="", routing_key=work.name, content_type="text/plain")
    work.produce(1, 0.0)
    work.worker()
    eventually(lambda: len(work.done()) == 1, 20)
    assert work.waiting() == 0


def test_a_worker_without_its_broker_file_says_so(work: Work) -> None:
    worker = work.run("worker", "--queue", "q", EPU_BROKER_FILE="")
    out, _ = worker.communicate(timeout=20)
    assert worker.returncode == 2
    assert out.startswith("worker: EPU_BROKER_FILE is not set")


def test_the_producer_ends_with_five_when_the_broker_is_away(work: Work) -> None:
    access = json.loads(work.accounts.read_text())
    work.accounts.write_text(json.dumps({**access, "port": 1}))
    words = ("--accounts", str(work.accounts), "--queue", work.name)
    producer = work.run("producer", *words)
    out, _ = producer.communicate(timeout=20)
    assert producer.returncode == 5
    assert "can't be reached" in out and len(out.splitlines()) == 1


def test_the_producer_names_a_missing_queue_and_a_missing_file(work: Work) -> None:
    producer = work.run("producer", "--accounts", str(work.accounts), "--queue", work.name)
    out, _ = producer.communicate(timeout=20)
    assert (producer.returncode, f"no queue '{work.name}'" in out) == (1, True)
    producer = work.run("producer", "--accounts", "no/such/file", "--queue", work.name)
    out, _ = producer.communicate(timeout=20)
    assert producer.returncode == 2
    assert out == "producer: no/such/file can't be read: No such file or directory\n"
