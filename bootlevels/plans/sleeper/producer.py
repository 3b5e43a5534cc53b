"""Puts jobs into the sleeper's work queue, each confirmed by the broker.

``python -m bootlevels.plans.sleeper.producer --accounts FILE --queue Q --jobs 60 --sleep 1.0``

The accounts file is the ``accounts.json`` that ``epu broker start`` wrote.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import amqp.exceptions
from kombu import Producer, Queue
from kombu.exceptions import KombuError

from agent.broker_link import connection_to
from agent.messages import BrokerAccess
from agent.wire import MalformedMessage, from_wire

#: Seconds until an unreachable broker is given up, and for each confirmation.
DEADLINE = 10.0
BROKER_TROUBLE = (OSError, amqp.exceptions.AMQPError, KombuError)

WELL, PROBLEM, USAGE, UNREACHABLE = 0, 1, 2, 5


class ProducerFailed(Exception):
    """Jobs could not be put in; carries the exit code and one sentence."""

    def __init__(self, exit_code: int, text: str) -> None:
        self.exit_code = exit_code
        super().__init__(text)


def read_access(path: Path) -> BrokerAccess:
    """The broker's address and accounts. Raises ProducerFailed."""
    try:
        access = from_wire(BrokerAccess, json.loads(path.read_text(encoding="utf-8")))
    except OSError as problem:
        raise ProducerFailed(USAGE, f"{path} can't be read: {problem.strerror}") from None
    except (MalformedMessage, ValueError) as problem:
        raise ProducerFailed(USAGE, f"{path} is not a broker's accounts file: {problem}") from None
    if "coordinator" not in access.accounts:
        raise ProducerFailed(USAGE, f"{path} holds no account 'coordinator'")
    return access


def job_ids(count: int, prefix: str) -> list[str]:
    """``count`` names of jobs that sort in their order."""
    width = len(str(count))
    return [f"{prefix}-{number:0{width}d}" for number in range(1, count + 1)]


def produce(
    access: BrokerAccess,
    queue: str,
    ids: list[str],
    sleep: float,
    more: Mapping[str, Any] | None = None,
    say: Callable[[str], None] | None = None,
) -> None:
    """Publish one persistent job for each id, with ``more`` in it. Raises ProducerFailed.

    Returns only when the broker has confirmed every one. ``say`` is told so in the end;
    without it the progress is printed.
    """
    connection = connection_to(
        access.amqp_url("coordinator"),
        connect_timeout=DEADLINE,
        transport_options={"confirm_publish": True, "max_retries": 0},
    )
    done = 0
    try:
        connection.connect()
        connection.connection.transport.sock.settimeout(DEADLINE)
        channel = connection.channel()
        Queue(queue, channel=channel).queue_declare(passive=True)
        producer = Producer(channel, serializer="json", auto_declare=False)
        for job_id in ids:
            producer.publish(
                {"id": job_id, "sleep": sleep, **(more or {})},
                exchange="",
                routing_key=queue,
                delivery_mode=2,
                confirm_timeout=DEADLINE,
            )
            done += 1
            if say is None:
                show_progress(done, len(ids), queue)
        if say is not None:
            say(f"{done} jobs are in '{queue}'")
    except amqp.exceptions.NotFound:
        text = f"no queue '{queue}' at {access.public_url}: is its pool booted?"
        raise ProducerFailed(PROBLEM, text) from None
    except amqp.exceptions.AccessRefused:
        text = f"the broker at {access.public_url} refused the account 'coordinator'"
        raise ProducerFailed(UNREACHABLE, text) from None
    except BROKER_TROUBLE as problem:
        why = (str(problem) or type(problem).__name__).splitlines()[0]
        text = f"the broker at {access.public_url} can't be reached: {why}"
        if done:
            text += f" ({done} of {len(ids)} jobs are in)"
        raise ProducerFailed(UNREACHABLE, text) from None
    finally:
        connection.release()


def show_progress(done: int, total: int, queue: str) -> None:
    """Rewrite one line on a terminal; ten lines at most in a log."""
    last = done == total
    if sys.stdout.isatty():
        print(f"\r{done}/{total} jobs in '{queue}'", end="\n" if last else "", flush=True)
    elif last or done % max(1, total // 10) == 0:
        print(f"{done}/{total} jobs in '{queue}'", flush=True)


def main() -> int:
    """The command line; exit 0, 1 (no such queue), 2 (wrong usage), 5 (broker not reachable)."""
    parser = argparse.ArgumentParser(description="Put jobs into the sleeper's work queue.")
    parser.add_argument("--accounts", type=Path, required=True, help="the broker's accounts.json")
    parser.add_argument("--queue", required=True, help="the work queue")
    parser.add_argument("--jobs", type=int, default=60, help="how many (default 60)")
    parser.add_argument("--sleep", type=float, default=1.0, help="seconds each takes (default 1)")
    parser.add_argument("--prefix", help="of the jobs' names (default: the time)")
    options = parser.parse_args()
    if options.jobs < 1:
        parser.error("--jobs must be 1 or more")
    if not 0 <= options.sleep <= 86_400:
        parser.error("--sleep must be between 0 and 86400")
    ids = job_ids(options.jobs, options.prefix or f"job-{int(time.time())}")
    try:
        produce(read_access(options.accounts), options.queue, ids, options.sleep)
    except ProducerFailed as problem:
        print(f"producer: {problem}", file=sys.stderr)
        return problem.exit_code
    return WELL


if __name__ == "__main__":
    sys.exit(main())
