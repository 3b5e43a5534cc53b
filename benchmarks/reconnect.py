"""How a fleet of agents comes back after its broker was restarted.

``python -m benchmarks.reconnect [--agents 1000] [--processes 4] [--away 10]``. The agents'
services are real and many in a process; the broker is private, stopped, away, and started
again. Told are when each agent was first heard again, how many in each second, and when all
their queues were back. Aim: all within 60 s of the broker's return.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import amqp.exceptions
import requests
from kombu import Consumer, Exchange, Queue
from kombu.exceptions import KombuError

from agent.broker_link import connection_to
from agent.messages import BrokerAccess, EnrolAnswer, NodeRole
from agent.wire import to_wire
from coordinator.registrar.broker_accounts import NODE_ACCOUNT, BrokerAccounts
from mgmt.broker import start_broker, stop_broker

POOL, AIM = "fleet", 60.0
_LOST = (OSError, amqp.exceptions.AMQPError, KombuError)


class Ear:
    """Hears all beats, and connects again at once when the broker is back."""

    def __init__(self, access: BrokerAccess) -> None:
        self._access = access
        self._first: dict[str, float] = {}
        threading.Thread(target=self._listen, daemon=True).start()

    def forget(self) -> None:
        self._first = {}

    def heard(self) -> dict[str, float]:
        """When each agent was first heard since ``forget``, on the monotonic clock."""
        return dict(self._first)

    def _listen(self) -> None:
        exchange = Exchange("agent.events", type="topic", no_declare=True)
        while True:
            try:
                with connection_to(self._access.amqp_url("coordinator"), connect_timeout=2) as link:
                    queue = Queue("", exchange, "beat.#", exclusive=True)
                    with Consumer(link.channel(), [queue], no_ack=True, callbacks=[self._hear]):
                        while True:
                            with suppress(socket.timeout):
                                link.drain_events(timeout=1)
            except _LOST:
                time.sleep(0.1)

    def _hear(self, body: dict[str, str], _message: object) -> None:
        self._first.setdefault(body["node_id"], time.monotonic())


def main() -> int:
    """Measure and print; 1 when the aim is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--away", type=float, default=10.0, help="seconds without a broker")
    parser.add_argument("--patience", type=float, default=300.0, help="seconds until given up")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    processes: list[subprocess.Popen[str]] = []
    with tempfile.TemporaryDirectory(prefix="epu-reconnect-") as directory:
        place = Path(directory)
        try:
            access = start_broker(place / "broker")
            answers = accounts_of(access, options.agents)
            processes += start_agents(answers, place, options.processes)
            return measure(access, place, options)
        finally:
            for process in processes:
                process.kill()
            stop_broker(place / "broker")


def measure(access: BrokerAccess, place: Path, options: argparse.Namespace) -> int:
    """One restart of the broker."""
    count, ear = options.agents, Ear(access)
    say("waiting until every agent is heard")
    wait(lambda: len(ear.heard()) >= count, options.patience)
    say(f"load {os.getloadavg()[0]:.1f}; the broker goes")
    stop_broker(place / "broker")
    time.sleep(options.away)
    ear.forget()
    start_broker(place / "broker")
    back = time.monotonic()
    whole = wait(lambda: len(ear.heard()) >= count, options.patience)
    queues = wait(lambda: queues_of(access) >= count, options.patience)
    times = sorted(at - back for at in ear.heard().values())
    seconds = Counter(int(max(at, 0.0)) for at in times)
    print(f"agents heard again: {len(times)} of {count}, load {os.getloadavg()[0]:.1f}")
    if times:
        middle, nine = times[len(times) // 2], times[int(len(times) * 0.9)]
        print(f"after the broker's return: half {middle:.1f} s, 90 % {nine:.1f} s,", end=" ")
        print(f"last {times[-1]:.1f} s; at most {max(seconds.values())} in one second")
        print("in each second: " + " ".join(str(seconds[n]) for n in range(max(seconds) + 1)))
    print(f"all queues of agents back {time.monotonic() - back:.1f} s after it, or before")
    met = whole and queues and times[-1] <= AIM
    print(f"aim: all within {AIM:g} s: {'met' if met else 'MISSED'}")
    return 0 if met else 1


def accounts_of(access: BrokerAccess, count: int) -> list[EnrolAnswer]:
    """As a registrar gives them."""
    say(f"making {count} accounts")
    accounts = BrokerAccounts(access, "reconnect")

    def enrolled(number: int) -> EnrolAnswer:
        node_id = f"f{number}-0"
        account = accounts.create_node_account(node_id, POOL)
        broker = replace(access, accounts={NODE_ACCOUNT: account}, management_url=None)
        return EnrolAnswer(
            node_id=node_id, run="reconnect", pool=POOL, broker=broker, role=NodeRole()
        )

    with ThreadPoolExecutor(4) as threads:
        return list(threads.map(enrolled, range(count)))


def start_agents(
    answers: list[EnrolAnswer], place: Path, count: int
) -> list[subprocess.Popen[str]]:
    """Processes that share the agents; returns when all have started."""
    say(f"starting {len(answers)} agents in {count} processes")
    processes = []
    for number in range(count):
        file = place / f"agents-{number}.json"
        file.touch(mode=0o600)
        file.write_text(json.dumps([to_wire(one) for one in answers[number::count]]))
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.reconnecting_agents", str(file)],
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    for process in processes:
        assert process.stdout is not None
        if process.stdout.readline() != "up\n":
            raise SystemExit("the agents did not start")
    return processes


def queues_of(access: BrokerAccess) -> int:
    """How many queues of agents there are, by the broker's word."""
    admin = access.accounts["admin"]
    answer = requests.get(
        f"{access.management_url}/api/queues?columns=name",
        auth=(admin.user, admin.password),
        timeout=60,
    )
    return sum(str(one["name"]).startswith("rpc-agent-") for one in answer.json())


def wait(condition: Callable[[], bool], patience: float) -> bool:
    """Whether it came true in time."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.2)
    return False


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
