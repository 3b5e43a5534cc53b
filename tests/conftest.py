"""Fixtures for every test that needs a real broker or waits for something to become true."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.messages import BrokerAccess
from mgmt.broker import BrokerUnavailable, start_broker
from mgmt.broker_launch import server_script
from tests.own_network import own_network as own_network
from tests.pauses import pause_after
from tests.private_broker import kill_broker
from tests.quick_stores import make_stores_quick


def pytest_configure(config: pytest.Config) -> None:
    """Programs under test get Ctrl-C and a hang-up as from a terminal, whoever runs the tests:
    ``nohup`` and background jobs hand down that these are ignored.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # Containers often forbid bytecode files. Then each of the hundreds of processes that the
    # tests start would compile all our code again, a second each.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    make_stores_quick()
    everything = Path(__file__).parent
    worker = getattr(config, "workerinput", None)
    if worker and [config.rootpath / one for one in config.args] == [everything]:
        from tests.spread import turned

        number = int(worker["workerid"].removeprefix("gw"))
        config.args = turned(everything, number, worker["workercount"])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """See ``tests.spread``; None: as xdist does it."""
    if config.getoption("dist") != "loadfile":
        return None
    from tests.spread import Spread

    return Spread(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In one of several processes that share the tests: all of them in the same order."""
    if hasattr(config, "workerinput"):
        from tests.spread import in_order

        items[:] = in_order(items)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerAccess]:
    """A private RabbitMQ node for the whole session, started by the product's own code."""
    if server_script() is None:
        reason = "rabbitmq-server is not installed (apt-get install rabbitmq-server)"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    directory = tmp_path_factory.mktemp("broker")
    try:
        yield start_broker(directory)
    except BrokerUnavailable as problem:
        pytest.fail(str(problem))
    finally:
        kill_broker(directory)


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Any]:
    """``eventually(condition, timeout=10, message="")``: poll until it is truthy, return it."""

    def wait(
        condition: Callable[[], Any],
        timeout: float = 10.0,
        message: str | Callable[[], str] = "it never became true",
    ) -> Any:
        deadline = time.monotonic() + timeout
        while True:
            began = time.monotonic()
            if result := condition():
                return result
            if time.monotonic() >= deadline:
                text = message() if callable(message) else message
                pytest.fail(f"{text} (waited {timeout:g} s)")
            time.sleep(pause_after(time.monotonic() - began))

    return wait
