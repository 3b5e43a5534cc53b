"""One loader: loads the run's own broker for some seconds and tells how fast it was.

``python loader.py --accounts FILE --seconds 5 --connections 2``

Each connection publishes to a queue of its own and consumes from it, with no more than
WINDOW messages on their way, so the broker is loaded and never flooded. The load is
bounded: by time, by number, and to a broker on this machine's loopback.
"""

from __future__ import annotations

import argparse
import ipaddress
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.messages import BrokerAccess
from bootlevels.checks import read_accounts
from bootlevels.plans.outputs import write_outputs

#: Messages of one connection that are published and not consumed yet.
WINDOW = 200
#: Seconds that the last messages may take to come back.
LAST_WAIT = 5.0
#: Seconds until a broker that does not answer is given up.
DEADLINE = 10.0
#: Bounds of what may be asked for.
MOST_SECONDS, MOST_CONNECTIONS, MOST_BYTES = 300.0, 50, 1_000_000
#: Connections that one loader may open in mode ``connect``: each costs a port for a minute.
MOST_OPENED = 3_000

WELL, PROBLEM, USAGE = 0, 1, 2


@dataclass(frozen=True, kw_only=True)
class Load:
    """What one connection does: ``most`` messages, or connections in mode ``connect``."""

    url: str
    seconds: float
    message: bytes
    most: int


@dataclass
class Tally:
    """What one connection has done; written by its thread alone. Times: ``time.time()``."""

    opened: int = 0
    published: int = 0
    consumed: int = 0
    problem: str = ""
    began: float = 0.0
    ended: float = 0.0


def is_loopback(host: str) -> bool:
    """Whether ``host`` can be nothing but this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def open_connection(url: str) -> Any:
    """A connection whose every wait has a deadline. Raises broker trouble."""
    from agent.broker_link import connection_to

    options = {"max_retries": 0, "read_timeout": DEADLINE, "write_timeout": DEADLINE}
    connection = connection_to(url, connect_timeout=DEADLINE, transport_options=options)
    connection.connect()
    return connection


def start_together(ready: threading.Barrier, tally: Tally) -> None:
    """Wait for the other connections, but never long; then the time begins."""
    with suppress(threading.BrokenBarrierError):
        ready.wait(DEADLINE)
    tally.began = time.time()


def publish_and_consume(
    load: Load, queue_name: str, tally: Tally, ready: threading.Barrier
) -> None:
    """Load one connection with messages until time or number is over. Raises broker trouble."""
    from kombu import Consumer, Producer, Queue

    def count(_: object) -> None:
        tally.consumed += 1

    with open_connection(load.url) as connection:
        tally.opened = 1
        channel = connection.channel()
        # Nobody else's, and gone with the connection, however this program ends.
        queue = Queue(queue_name, exclusive=True, auto_delete=True, durable=False, channel=channel)
        queue.queue_declare()
        consumer = Consumer(channel, [queue], auto_declare=False, no_ack=True, on_message=count)
        consumer.consume()
        producer = Producer(channel, auto_declare=False)
        start_together(ready, tally)
        end = time.monotonic() + load.seconds
        while tally.published < load.most and time.monotonic() < end:
            for _ in range(min(WINDOW - (tally.published - tally.consumed), 20)):
                producer.publish(
                    load.message,
                    routing_key=queue_name,
                    exchange="",
                    delivery_mode=1,
                    content_type="application/octet-stream",
                    content_encoding="binary",
                )
                tally.published += 1
            take(connection, tally, until=WINDOW - 20)
        last = time.monotonic() + LAST_WAIT
        while tally.consumed < tally.published and time.monotonic() < last:
            take(connection, tally, until=0)
        tally.ended = time.time()


def take(connection: Any, tally: Tally, until: int) -> None:
    """Consume until only ``until`` messages are on their way, or none came for a moment."""
    try:
        while tally.published - tally.consumed > until:
            connection.drain_events(timeout=0.5)
    except TimeoutError:
        return


def connect_only(load: Load, _: str, tally: Tally, ready: threading.Barrier) -> None:
    """Open and close connections until time or number is over. Raises broker trouble."""
    start_together(ready, tally)
    end = time.monotonic() + load.seconds
    while tally.opened < load.most and time.monotonic() < end:
        with open_connection(load.url) as connection:
            connection.channel().close()
        tally.opened += 1
    tally.ended = time.time()


Work = Callable[[Load, str, Tally, threading.Barrier], None]
MODES: dict[str, Work] = {"publish": publish_and_consume, "connect": connect_only}


def run_connections(work: Work, load: Load, names: list[str]) -> list[Tally]:
    """Do ``work`` once for each queue name, all at the same time."""
    import kombu  # noqa: F401  here, because it loads its parts late and not safely in threads
    import kombu.messaging
    import kombu.transport.pyamqp  # noqa: F401

    ready = threading.Barrier(len(names))
    tallies = [Tally() for _ in names]

    def one(name: str, tally: Tally) -> None:
        try:
            work(load, name, tally, ready)
        except Exception as problem:  # whatever it is, it is this connection's result
            tally.problem = (str(problem) or type(problem).__name__).splitlines()[0]
            if not tally.began:
                start_together(ready, tally)  # the others are not to wait for this one
                tally.began = 0.0

    threads = [
        threading.Thread(target=one, args=pair, daemon=True)
        for pair in zip(names, tallies, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(load.seconds + LAST_WAIT + 5 * DEADLINE)
    return tallies


def report(name: str, mode: str, tallies: list[Tally]) -> dict[str, Any]:
    """The figures of one loader; rates are over the time from its first message to its last."""
    timed = [tally for tally in tallies if tally.ended > tally.began]
    began = min((tally.began for tally in timed), default=0.0)
    ended = max((tally.ended for tally in timed), default=0.0)
    opened, published, consumed = (
        sum(getattr(tally, what) for tally in tallies)
        for what in ("opened", "published", "consumed")
    )

    def rate(count: int) -> float:
        return round(count / (ended - began), 1) if ended > began else 0.0

    return {
        "loader": name,
        "mode": mode,
        "works": bool(tallies),
        "connections": opened,
        "connects_per_second": rate(opened),
        "published": published,
        "published_per_second": rate(published),
        "consumed": consumed,
        "consumed_per_second": rate(consumed),
        "lost": published - consumed,
        "errors": sum(bool(tally.problem) for tally in tallies),
        "problem": next((tally.problem for tally in tallies if tally.problem), ""),
        "began": began,
        "ended": ended,
    }


def tell(figures: dict[str, Any]) -> None:
    """Give each figure as an output, and all of them as ``report``."""
    write_outputs({**figures, "report": figures})


def bounded(kind: Callable[[str], Any], least: float, most: float) -> Callable[[str], Any]:
    """An argument between ``least`` and ``most``, both allowed."""

    def check(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{text}' is not a number") from None
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"must be {least:g} to {most:g}, not {text}")
        return value

    return check


def parse_options(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Load the run's own broker for a while.")
    parser.add_argument("--accounts", type=Path, required=True, help="the broker's accounts.json")
    parser.add_argument("--name", default="loader", help="of this loader")
    parser.add_argument("--number", type=int, default=0, help="of this loader, from 0")
    parser.add_argument("--loaders", type=bounded(int, 1, 8), default=1, help="how many shall work")
    parser.add_argument("--mode", choices=sorted(MODES), default="publish")
    parser.add_argument("--seconds", type=bounded(float, 0.1, MOST_SECONDS), default=5.0)
    parser.add_argument("--connections", type=bounded(int, 1, MOST_CONNECTIONS), default=2)
    parser.add_argument("--message-bytes", type=bounded(int, 1, MOST_BYTES), default=1000)
    parser.add_argument(
        "--messages", type=bounded(int, 1, 10_000_000), default=200_000, help="at most, in all"
    )
    return parser.parse_args(words)


def access_of(path: Path) -> BrokerAccess:
    """The accounts of a broker on this machine. Raises OSError, ValueError."""
    access = read_accounts(path)
    if not is_loopback(access.host):
        raise ValueError(f"the broker is at {access.host}: this sample loads none but its own")
    if "coordinator" not in access.accounts:
        raise ValueError(f"{path} holds no account 'coordinator'")
    return access


def main(words: list[str] | None = None) -> int:
    """Exit 0; 1: nothing could be done; 2: wrong usage."""
    options = parse_options(words)
    if options.number >= options.loaders:
        print(f"{options.name}: not needed, {options.loaders} loaders were asked for")
        tell(report(options.name, options.mode, []))
        return WELL
    try:
        access = access_of(options.accounts)
    except (OSError, ValueError) as problem:
        print(f"{options.name}: {problem}", file=sys.stderr)
        return USAGE
    opened = options.mode == "connect"
    most = min(options.messages, MOST_OPENED) if opened else options.messages
    load = Load(
        url=access.amqp_url("coordinator"),
        seconds=options.seconds,
        message=b"x" * options.message_bytes,
        most=max(1, most // options.connections),
    )
    names = [f"stress.{options.name}.{number}" for number in range(options.connections)]
    tallies = run_connections(MODES[options.mode], load, names)
    figures = report(options.name, options.mode, tallies)
    print(
        f"{options.name}: {figures['connections']} connections,"
        f" published {figures['published_per_second']:,.0f}/s,"
        f" consumed {figures['consumed_per_second']:,.0f}/s, errors {figures['errors']}"
    )
    if figures["problem"]:
        print(f"{options.name}: {figures['problem']}", file=sys.stderr)
    tell(figures)
    return WELL if figures["connections"] else PROBLEM


if __name__ == "__main__":
    sys.exit(main())
