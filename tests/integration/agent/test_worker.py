"""The worker helper against a real broker: what it may never give back, and what it may."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from kombu import Connection, Queue

from agent.messages import BrokerAccess
from agent.wire import to_wire
from coordinator.sensors.deliveries import DeliverySensor

pytestmark = pytest.mark.integration

Eventually = Callable[..., Any]
REPOSITORY = Path(__file__).parents[3]

#: Works until a file of the job's name is there; one called ``bad`` fails.
PROGRAM = """
import pathlib, time
from agent.worker import NotAJob, run
def work(job):
    told = job.json()
    if told.get("fails") and not (told["fails"] == "once" and job.redelivered):
        raise RuntimeError("as the test wants")
    while told.get("waits") and not pathlib.Path(job.id).exists():
        time.sleep(0.02)
run(work, queue={queue!r})
"""


class Bench:
    """A queue, and workers of one node on it."""

    def __init__(self, broker: BrokerAccess, admin: Any, tmp: Path) -> None:
        self.name = f"jobs-{uuid.uuid4().hex[:8]}"
        self.node_id = f"l{uuid.uuid4().hex[:8]}-0"
        self.directory = tmp
        self.started: list[subprocess.Popen[bytes]] = []
        account = admin.make_node_account(self.node_id, "workers", (self.name,))
        access = replace(broker, accounts={"node": account}, management_url=None)
        (tmp / "broker.json").write_text(json.dumps(to_wire(access)))
        self.connection = Connection(broker.amqp_url("coordinator"))
        self.queue = Queue(self.name, durable=True)(self.connection.channel())
        self.queue.declare()
        self.producer = self.connection.Producer(serializer="json")

    def worker(self) -> subprocess.Popen[bytes]:
        with open(self.directory / f"out.{len(self.started)}", "wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM.format(queue=self.name)],
                cwd=self.directory,
                env={
                    **os.environ,
                    "PYTHONPATH": str(REPOSITORY),
                    "EPU_BROKER_FILE": str(self.directory / "broker.json"),
                    "EPU_NODE_DIR": str(self.directory),
                    "EPU_NODE_ID": self.node_id,
                },
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        self.started.append(process)
        return process

    def send(self, name: str, **told: Any) -> None:
        self.producer.publish({"id": name, **told}, exchange="", routing_key=self.name)

    def finish(self, name: str) -> None:
        (self.directory / name).touch()

    def told(self) -> list[tuple[str, str, bool, str]]:
        """Of all workers: event, job, redelivered, outcome."""
        found = []
        for number in range(len(self.started)):
            for line in (self.directory / f"out.{number}").read_text().splitlines():
                if line.startswith("EPU_EVENT "):
                    event = json.loads(line.removeprefix("EPU_EVENT "))
                    more = event["extra"]
                    found.append(
                        (event["name"], more["job"], more["redelivered"], more.get("outcome", ""))
                    )
        return found

    def counts(self) -> tuple[int, int]:
        """Messages ready, and consumers."""
        found = self.queue.queue_declare(passive=True)
        return int(found.message_count), int(found.consumer_count)

    def busy(self) -> str:
        path = self.directory / "busy"
        return path.read_text().strip() if path.exists() else ""


@pytest.fixture
def bench(broker: BrokerAccess, broker_admin: Any, tmp_path: Path) -> Iterator[Bench]:
    found = Bench(broker, broker_admin, tmp_path)
    yield found
    for process in found.started:
        if process.poll() is None:
            process.kill()
        process.wait()
    found.queue.delete()
    found.connection.release()
    broker_admin.delete_user(f"node-{found.node_id}")


def stopped(process: subprocess.Popen[bytes]) -> bool:
    return psutil.Process(process.pid).status() == psutil.STATUS_STOPPED


def test_a_job_that_was_on_its_way_when_sigterm_came_is_done_and_not_sent_back(
    bench: Bench, eventually: Eventually
) -> None:
    worker = bench.worker()
    eventually(lambda: bench.counts() == (0, 1), 20)
    worker.send_signal(signal.SIGSTOP)
    eventually(lambda: stopped(worker))
    bench.send("late")
    eventually(lambda: bench.counts() == (0, 1), message="the broker sent it to the worker")
    worker.send_signal(signal.SIGTERM)  # it will see this before it sees the job
    worker.send_signal(signal.SIGCONT)
    assert worker.wait(20) == 0
    assert bench.counts() == (0, 0)
    assert bench.told() == [("job_begin", "late", False, ""), ("job_end", "late", False, "done")]


def test_a_drain_in_mid_job_brings_no_second_job_and_leaves_it_to_others_as_new(
    bench: Bench, eventually: Eventually
) -> None:
    bench.send("first", waits=True)
    bench.send("second")
    leaving = bench.worker()
    eventually(lambda: bench.busy() == "busy", 20)
    leaving.send_signal(signal.SIGTERM)
    eventually(lambda: bench.counts() == (1, 0), message="it does not consume any more")
    assert leaving.poll() is None and bench.busy() == "busy"
    bench.finish("first")
    assert leaving.wait(20) == 0
    assert bench.busy() == "idle"
    bench.worker()
    eventually(lambda: ("job_end", "second", False, "done") in bench.told(), 20)
    assert len(bench.told()) == 4


def test_the_broker_says_who_has_a_job_in_hand_until_the_last_one_of_a_drain_is_done(
    bench: Bench, broker: BrokerAccess, eventually: Eventually
) -> None:
    sensor = DeliverySensor(broker, time.monotonic)

    def jobs() -> int | None:
        sensor.measure({bench.name})
        return sensor.business(bench.node_id, bench.name, time.monotonic(), 1.0).jobs

    assert jobs() is None, "nobody is there"
    worker = bench.worker()
    eventually(lambda: jobs() == 0, 20)
    bench.send("first", waits=True)
    eventually(lambda: jobs() == 1, 20)
    worker.send_signal(signal.SIGTERM)
    eventually(lambda: bench.counts() == (0, 0), message="it has left the consumers")
    assert jobs() == 1
    bench.finish("first")
    assert worker.wait(20) == 0
    eventually(lambda: jobs() is None, 20)


def test_a_job_that_fails_is_tried_once_more_and_then_dropped(
    bench: Bench, eventually: Eventually
) -> None:
    bench.send("better", fails="once")
    bench.send("worse", fails="always")
    bench.worker()
    ends = lambda: [one[1:] for one in bench.told() if one[0] == "job_end"]  # noqa: E731
    eventually(lambda: len(ends()) == 4, 20)
    assert sorted(ends()) == [
        ("better", False, "failed"),
        ("better", True, "done"),
        ("worse", False, "failed"),
        ("worse", True, "failed"),
    ]
    eventually(lambda: bench.counts() == (0, 1))
