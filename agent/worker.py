"""A worker in Python: takes jobs from a queue, one at a time, and is never ended in mid-job.

    from agent.worker import Job, run

    def work(job: Job) -> None:
        resize(job.json()["picture"])

    if __name__ == "__main__":
        run(work, queue="pictures")

Optional: an agent asks of a worker no more than that it honours SIGTERM (docs/workers.md). What
is done here: one job in hand (prefetch 1), acknowledged when it is done; AMQP heartbeats go on
while it runs (in a thread of its own); the broker may go away; on SIGTERM the consumer is
cancelled *before* the job in hand is acknowledged, whatever the broker had sent until then is
done too, and the process ends with 0. So no job ever goes back to the queue because of a drain.
"""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import amqp.exceptions
from kombu import Connection, Consumer, Queue
from kombu.exceptions import KombuError

from agent.broker_link import EventPublisher, connect_once, connection_to
from agent.messages import BrokerAccess, job_key
from agent.wire import MalformedMessage, from_wire

log = logging.getLogger("agent.worker")

BROKER_TROUBLE = (OSError, amqp.exceptions.AMQPError, KombuError)
#: Seconds: how soon SIGTERM is noticed while idle, and how often heartbeats are seen to.
TICK = 0.5
#: AMQP heartbeat, seconds: a broker that fell silent is left after about two of them.
HEARTBEAT = 20
#: A broker that takes our words and answers nothing is left after so many seconds.
ANSWER_WITHIN = 30.0
#: Job events are news for so many seconds.
EVENTS_LIVE = 60.0


class NotAJob(ValueError):
    """Raise it for a message that never can be done: it is dropped (dead-lettered) at once."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One piece of work. ``redelivered``: somebody had it before, and may have done parts."""

    id: str
    body: bytes = field(repr=False)
    redelivered: bool = False
    headers: Mapping[str, Any] = field(default_factory=dict)

    def json(self) -> Any:
        """The body as JSON. Raises NotAJob."""
        try:
            return json.loads(self.body)
        except ValueError as problem:
            raise NotAJob(f"not JSON: {problem}") from None


Work = Callable[[Job], None]


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What the node's agent tells its programs, from the environment."""

    url: str = field(repr=False)
    place: str
    pool: str = ""
    node_id: str = ""
    copy: str = "0"
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
        copy=environment.get("EPU_COPY", "0"),
        busy_file=Path(busy) if busy else None,
    )


class Worker:
    """Consumes until asked to stop; one job at a time.

    ``work(job)`` does a job and returns. What it raises puts the job back once, for another
    worker to try; a job that fails when it comes again is dropped (dead-lettered).
    """

    def __init__(self, around: Surroundings, queue: str, work: Work) -> None:
        self._around = around
        self._queue = queue
        self._work = work
        self._events = EventPublisher(around.url)
        self._inbox: deque[Any] = deque()
        self._stopping = False

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
        """Take jobs until stopped. Raises what the broker's loss raises, never in mid-job."""
        connection = connection_to(
            self._around.url,
            connect_timeout=5,
            heartbeat=HEARTBEAT,
            transport_options={"max_retries": 0},
        )
        self._inbox.clear()  # of an earlier connection: the broker has them back
        try:
            connect_once(connection, 5)
            connection.connection.transport.sock.settimeout(ANSWER_WITHIN)
            consumer = Consumer(
                connection.channel(),
                [Queue(self._queue, durable=True, no_declare=True)],
                auto_declare=False,
                on_message=self._inbox.append,
                tag_prefix=f"{self._around.node_id or 'worker'}.{self._around.copy}.",
            )
            consumer.qos(prefetch_count=1)
            consumer.consume()
            log.info("waiting for jobs in '%s'", self._queue)
            while not self._stopping:
                if self._inbox:
                    self._do(self._inbox.popleft(), connection, consumer)
                else:
                    _listen(connection, TICK)
            consumer.cancel()
            # What was on its way before the broker agreed is ours: sent back it would come to
            # somebody else as redelivered.
            while self._inbox:
                self._do(self._inbox.popleft(), connection, consumer)
        finally:
            with suppress(Exception):  # closing must not hide the trouble that led to it
                connection.close()

    def _do(self, message: Any, connection: Connection, consumer: Consumer) -> None:
        """One job to its end, then its acknowledgement."""
        job = _job(message)
        self._say_busy(True)
        self._tell("job_begin", job)
        began = time.monotonic()
        attempt = _Attempt(self._work, job)
        lost: BaseException | None = None
        cancelled = False
        while not attempt.ended(TICK):
            if lost is not None:
                continue  # the job goes on without a broker, and will come again to somebody
            try:
                _listen(connection, 0.001)
                if self._stopping and not cancelled:
                    consumer.cancel()  # else the acknowledgement would bring the next job
                    cancelled = True
            except BROKER_TROUBLE as problem:
                lost = problem
        try:
            if lost is not None:
                log.warning("job %s can't be acknowledged: the broker was lost meanwhile", job.id)
                raise lost
            self._settle(message, attempt, job)
        finally:
            self._say_busy(False)
            seconds = round(time.monotonic() - began, 3)
            outcome = "lost" if lost is not None else attempt.outcome
            self._tell("job_end", job, seconds=seconds, outcome=outcome)

    def _settle(self, message: Any, attempt: _Attempt, job: Job) -> None:
        problem = attempt.problem
        if problem is None:
            message.ack()
        elif isinstance(problem, NotAJob):
            log.error("dropped job %s: %s", job.id, problem)
            message.reject()
        else:
            again = not job.redelivered
            log.error(
                "job %s failed%s", job.id, "; it is put back once" if again else " again: dropped",
                exc_info=problem,
            )  # fmt: skip
            message.reject(requeue=again)

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

    def _tell(self, event: str, job: Job, **extra: Any) -> None:
        """A line of the log, and best effort a message: neither is a reason to stop working."""
        around = self._around
        told = {"job": job.id, "redelivered": job.redelivered, **extra}
        line = {
            "time": time.time(),
            "source": "worker",
            "name": event,
            "pool": around.pool,
            "node": around.node_id,
            "extra": told,
        }
        with suppress(OSError):
            print(f"EPU_EVENT {json.dumps(line, sort_keys=True)}", flush=True)
        if around.pool and around.node_id:
            payload = {
                "version": 1,
                "event": event,
                "node_id": around.node_id,
                "pool": around.pool,
                "time": line["time"],
                **told,
            }
            self._events.publish(job_key(around.pool, around.node_id), payload, EVENTS_LIVE)


class _Attempt:
    """One job, done in a thread, so that the connection can be looked after meanwhile."""

    def __init__(self, work: Work, job: Job) -> None:
        self.problem: BaseException | None = None
        self._done = threading.Event()
        threading.Thread(target=self._run, args=(work, job), name=f"job {job.id}").start()

    def _run(self, work: Work, job: Job) -> None:
        try:
            work(job)
        except BaseException as problem:  # noqa: B036 - whatever it is, the job is not done
            self.problem = problem
        finally:
            self._done.set()

    def ended(self, timeout: float) -> bool:
        """Whether it has ended, waiting at most ``timeout`` seconds for that."""
        return self._done.wait(timeout)

    @property
    def outcome(self) -> str:
        """``done``, ``dropped`` (no job at all) or ``failed``."""
        if self.problem is None:
            return "done"
        return "dropped" if isinstance(self.problem, NotAJob) else "failed"


def _job(message: Any) -> Job:
    body = message.body.encode() if isinstance(message.body, str) else bytes(message.body)
    return Job(
        id=_job_id(message, body),
        body=body,
        redelivered=bool(message.delivery_info.get("redelivered")),
        headers=message.headers or {},
    )


def _job_id(message: Any, body: bytes) -> str:
    """Its ``message_id``, else the ``id`` of a JSON body, else the number of the delivery."""
    told = message.properties.get("message_id")
    if not told:
        with suppress(ValueError):
            found = json.loads(body)
            told = found.get("id") if isinstance(found, dict) else None
    return str(told or f"delivery-{message.delivery_tag}")[:200]


def _listen(connection: Connection, seconds: float) -> None:
    """Hear what the broker says, at most ``seconds`` long, and let it hear from us."""
    with suppress(TimeoutError):
        connection.drain_events(timeout=seconds)
    connection.heartbeat_check()


def run(work: Work, queue: str) -> None:
    """Be a worker of this node, ``work(job)`` for each job of ``queue``. Ends the process.

    Exit 0 after SIGTERM (the job in hand is done first), 2 when no agent started us.
    """
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(message)s")
    try:
        around = surroundings(os.environ)
    except ValueError as problem:
        print(f"worker: {problem}", file=sys.stderr)
        sys.exit(2)
    worker = Worker(around, queue, work)
    signal.signal(signal.SIGTERM, worker.stop)
    signal.signal(signal.SIGINT, worker.stop)
    worker.run()
    sys.exit(0)
