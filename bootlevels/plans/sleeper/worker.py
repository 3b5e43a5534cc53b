"""The sleeper's worker: takes jobs from a queue and sleeps for as long as each says.

What a pool worker has to do, in one small program: prefetch one job, acknowledge it only
when it is done, finish the job in hand on SIGTERM, say whether it is busy, and outlive its
broker. It runs under the node's supervisord with the node's own broker account, which may
read its queues but not declare any.

A job is JSON: ``{"id": "…", "sleep": seconds}``.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import amqp.exceptions
from kombu import Connection, Consumer, Queue
from kombu.exceptions import KombuError

from agent.messages import BrokerAccess, job_key
from agent.rpc_client import EventPublisher
from agent.wire import MalformedMessage, from_wire

log = logging.getLogger("sleeper")

BROKER_TROUBLE = (OSError, amqp.exceptions.AMQPError, KombuError)
#: Seconds: how soon SIGTERM is noticed while idle, and how finely a sleep is sliced.
TICK = 0.5
#: AMQP heartbeat, seconds: a broker that fell silent is left after about two of them.
HEARTBEAT = 20
#: Job events are news for so many seconds.
EVENTS_LIVE = 60.0


class MalformedJob(ValueError):
    """A message that is no job; it is dropped, or it would come back for ever."""


@dataclass(frozen=True)
class Job:
    """One piece of work."""

    id: str
    sleep: float


def read_job(body: bytes | str) -> Job:
    """The job in a message. Raises MalformedJob."""
    try:
        found = json.loads(body)
        job = Job(id=str(found["id"]), sleep=float(found["sleep"]))
    except (ValueError, TypeError, KeyError) as problem:
        raise MalformedJob(f"not a job: {problem!r}") from None
    if not 0 <= job.sleep <= 86_400:
        raise MalformedJob(f"job {job.id}: sleep must be between 0 and 86400, not {job.sleep}")
    return job


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What the node's agent tells its programs, from the environment."""

    url: str = field(repr=False)
    place: str
    pool: str = ""
    node_id: str = ""
    busy_file: Path | None = None


def surroundings(environment: Mapping[str, str]) -> Surroundings:
    """Raises ValueError with a sentence when the program was not started by an agent."""
    path = environment.get("EPU_BROKER_FILE")
    if not path:
        raise ValueError("EPU_BROKER_FILE is not set: this program is started by a node's agent")
    try:
        access = from_wire(BrokerAccess, json.loads(Path(path).read_text(encoding="utf-8")))
        url = access.amqp_url("node")
    except OSError as problem:
        raise ValueError(f"{path} can't be read: {problem.strerror}") from None
    except KeyError:
        raise ValueError(f"{path} holds no account 'node'") from None
    except (MalformedMessage, ValueError) as problem:
        raise ValueError(f"{path}: {problem}") from None
    directory = environment.get("EPU_NODE_DIR")
    busy = environment.get("EPU_BUSY_FILE") or (str(Path(directory, "busy")) if directory else "")
    return Surroundings(
        url=url,
        place=access.public_url,
        pool=environment.get("EPU_POOL", ""),
        node_id=environment.get("EPU_NODE_ID", ""),
        busy_file=Path(busy) if busy else None,
    )


class Worker:
    """Consumes until asked to stop; one job at a time."""

    def __init__(self, around: Surroundings, queue: str, done_file: Path | None) -> None:
        self._around = around
        self._queue = queue
        self._done_file = done_file
        self._events = EventPublisher(around.url)
        self._stopping = False
        self._connection: Any = None

    def stop(self, *_: object) -> None:
        """Take no more jobs; the one in hand is finished. Safe in a signal handler."""
        self._stopping = True

    def run(self) -> None:
        """Until stopped: connect, consume; after any trouble wait a little and again."""
        self._say_busy(False)
        said = ""
        while not self._stopping:
            try:
                self._consume()
                said = ""
            except BROKER_TROUBLE as problem:
                why = (str(problem) or type(problem).__name__).splitlines()[0]
                if why != said:
                    log.warning("no work from '%s' at %s: %s", self._queue, self._around.place, why)
                    said = why
                self._pause(random.uniform(0.5, 2.0))
        self._events.close()

    def _consume(self) -> None:
        connection = Connection(
            self._around.url,
            connect_timeout=5,
            heartbeat=HEARTBEAT,
            transport_options={"max_retries": 0},
        )
        # Closing must not hide the trouble that led to it.
        try:
            connection.connect()
            self._connection = connection
            channel = connection.channel()
            queue = Queue(self._queue, durable=True, no_declare=True)
            consumer = Consumer(channel, [queue], auto_declare=False, on_message=self._on_message)
            consumer.qos(prefetch_count=1)
            consumer.consume()
            log.info("waiting for jobs in '%s'", self._queue)
            while not self._stopping:
                with suppress(TimeoutError):
                    connection.drain_events(timeout=TICK)
                connection.heartbeat_check()
            consumer.cancel()
        finally:
            self._connection = None
            with suppress(Exception):
                connection.close()

    def _on_message(self, message: Any) -> None:
        if self._stopping:
            message.requeue()  # it came between SIGTERM and the cancel
            return
        try:
            job = read_job(message.body)
        except MalformedJob as problem:
            log.error("dropped a message: %s", problem)
            message.reject()
            return
        self._say_busy(True)
        self._tell("job_begin", job)
        try:
            self._sleep(job.sleep)
            self._note_done(job)
            message.ack()
        finally:
            self._say_busy(False)
        self._tell("job_end", job)

    def _sleep(self, seconds: float) -> None:
        """The work itself. Goes on without a broker: the job then comes again to somebody."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, TICK))
            with suppress(*BROKER_TROUBLE):
                self._connection.heartbeat_check()

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._stopping and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, TICK))

    # -------------------------------------------------------------- saying so

    def _say_busy(self, busy: bool) -> None:
        path = self._around.busy_file
        if path is None:
            return
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            unfinished.write_text("busy\n" if busy else "idle\n")
            os.replace(unfinished, path)
        except OSError as problem:
            log.error("can't say whether busy: %s", problem)

    def _note_done(self, job: Job) -> None:
        """One line by one write: workers of many nodes may share the file."""
        if self._done_file is None:
            return
        line = f"{job.id} {self._around.node_id} {time.time():.3f}\n".encode()
        handle = os.open(self._done_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(handle, line)
        finally:
            os.close(handle)

    def _tell(self, event: str, job: Job) -> None:
        """Best effort: an event that can't be sent is no reason to stop working."""
        around = self._around
        if around.pool and around.node_id:
            payload = {
                "version": 1,
                "event": event,
                "job": job.id,
                "node_id": around.node_id,
                "pool": around.pool,
                "time": time.time(),
            }
            self._events.publish(job_key(around.pool, around.node_id), payload, EVENTS_LIVE)


def main() -> int:
    """The command line; exit 0 after SIGTERM, 2 when it was started wrongly."""
    parser = argparse.ArgumentParser(description="A worker that sleeps for each job.")
    parser.add_argument("--queue", required=True, help="the durable queue the jobs are in")
    parser.add_argument(
        "--done-file", type=Path, help="append a line 'job-id node-id time' for each job done"
    )
    options = parser.parse_args()
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(message)s")
    try:
        around = surroundings(os.environ)
    except ValueError as problem:
        print(f"sleeper worker: {problem}", file=sys.stderr)
        return 2
    worker = Worker(around, options.queue, options.done_file)
    signal.signal(signal.SIGTERM, worker.stop)
    signal.signal(signal.SIGINT, worker.stop)
    worker.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
