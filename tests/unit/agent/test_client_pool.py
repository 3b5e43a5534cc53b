"""How many connections a pool of clients makes and keeps."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agent import rpc_client
from agent.rpc_client import IDLE_FOR, ClientPool

MANY = 20


class Broker:
    """Counts the clients that were made and that are open; each call meets all others."""

    def __init__(self) -> None:
        self.made = 0
        self.open = 0
        self.meeting = threading.Barrier(MANY)
        self._lock = threading.Lock()

    def client(self, *_: Any, **__: Any) -> Broker:
        with self._lock:
            self.made += 1
            self.open += 1
        return self

    def call(self, service: str, method: str, **_: Any) -> None:
        if method == "together":
            self.meeting.wait(10)

    def close(self) -> None:
        with self._lock:
            self.open -= 1


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    broker = Broker()
    monkeypatch.setattr(rpc_client, "RpcClient", broker.client)
    return broker


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(MANY) as made:
        yield made


def test_calls_side_by_side_connect_once_each_and_not_again_every_second(
    broker: Broker, threads: ThreadPoolExecutor
) -> None:
    pool = ClientPool("amqp://", size=MANY)
    for _ in range(3):
        list(threads.map(lambda number: pool.call("agent", "together"), range(MANY)))
    assert (broker.made, broker.open) == (MANY, MANY)


def test_connections_that_nobody_uses_are_closed_after_a_minute(
    broker: Broker, threads: ThreadPoolExecutor
) -> None:
    now = [0.0]
    pool = ClientPool("amqp://", size=MANY, clock=lambda: now[0])
    list(threads.map(lambda number: pool.call("agent", "together"), range(MANY)))
    now[0] = IDLE_FOR / 2
    pool.call("agent", "alone")
    pool.close_idle()
    assert broker.open == MANY, "not yet"
    now[0] = IDLE_FOR + 1
    pool.close_idle()
    assert broker.open == 1, "the one that was used in between"
    now[0] = 3 * IDLE_FOR
    pool.call("agent", "alone")
    assert broker.open == 1


def test_the_provisioner_keeps_a_connection_for_each_agent_that_it_asks_at_once() -> None:
    look = (
        "from coordinator.provisioner import service\n"
        "import coordinator.bootstrap as bootstrap\n"
        "from unittest.mock import Mock\n"
        "service.config_of = service.read_access = Mock()\n"
        "bootstrap.build_provisioner = lambda config, access, call, parallel: call.__self__\n"
        "assert service.build({'AMQP_URI': 'amqp://'})._size == service.IN_FLIGHT\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", look], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
