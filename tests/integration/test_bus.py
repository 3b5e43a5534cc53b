"""The traps of stock nameko, each with its cure, against a real broker and real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import amqp
import pytest
import yaml

from agent.messages import BrokerAccess
from agent.rpc_client import (
    BrokerUnreachable,
    CallFailed,
    CallTimeout,
    ClientPool,
    RemoteError,
    RpcClient,
    UnknownService,
)
from agent.timers import next_tick
from agent.watchdog import Watchdog
from mgmt.broker import start_broker, stop_broker
from tests.private_broker import kill_broker

pytestmark = pytest.mark.integration

SERVICE = Path(__file__).parent / "echo_service.py"


class Process:
    """One run of the echo service."""

    def __init__(
        self, access: BrokerAccess, directory: Path, kind: str = "service", **settings: Any
    ) -> None:
        config = directory / f"{kind}.yaml"
        config.touch(mode=0o600)
        config.write_text(yaml.safe_dump({"AMQP_URI": access.amqp_url("coordinator"), **settings}))
        self.log = directory / f"{kind}.log"
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(
                [sys.executable, str(SERVICE), "--config", str(config)],
                env={**os.environ, "ECHO": kind},
                stdout=log,
                stderr=log,
            )

    def end(self) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait(timeout=10)


@pytest.fixture(scope="module")
def echo(
    broker: BrokerAccess, tmp_path_factory: pytest.TempPathFactory, eventually: Callable[..., Any]
) -> Iterator[RpcClient]:
    process = Process(broker, tmp_path_factory.mktemp("echo"))
    with RpcClient(broker.amqp_url("coordinator"), timeout=5) as client:
        eventually(lambda: answers(client), 20, lambda: process.log.read_text()[-2000:])
        yield client
    process.end()


def answers(client: RpcClient, service: str = "echo", method: str = "pid", *args: Any) -> Any:
    try:
        return client.call(service, method, *args, timeout=2)
    except CallFailed:
        return None


def test_values_come_back_as_they_were(echo: RpcClient) -> None:
    value = {"text": "ä€😀", "list": [1, 2.5, None, True]}
    assert echo.call("echo", "say", value) == value
    assert echo.call("echo", "say", what="by name") == "by name"


def test_an_error_of_the_service_comes_back_with_its_class(echo: RpcClient) -> None:
    with pytest.raises(RemoteError, match="as asked") as found:
        echo.call("echo", "fail")
    assert found.value.exc_type == "ValueError"


def test_an_answer_that_cannot_be_encoded_is_an_error_and_not_the_end(echo: RpcClient) -> None:
    before = echo.call("echo", "pid")
    with pytest.raises(RemoteError, match="Unserializable"):
        echo.call("echo", "what_json_cannot_say")
    assert echo.call("echo", "pid") == before


def test_a_name_that_nobody_serves_is_known_at_once(echo: RpcClient) -> None:
    with pytest.raises(UnknownService, match="nobody"):
        echo.call("nobody", "pid")


def test_every_call_has_a_deadline_and_the_late_answer_is_not_taken_for_another(
    echo: RpcClient,
) -> None:
    with pytest.raises(CallTimeout, match=r"echo\.slowly"):
        echo.call("echo", "slowly", 1.0, timeout=0.3)
    assert [echo.call("echo", "say", number) for number in range(5)] == list(range(5))


def test_a_pool_of_clients_serves_many_threads_at_once(
    echo: RpcClient, broker: BrokerAccess
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    pool = ClientPool(broker.amqp_url("coordinator"), timeout=10)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda number: pool.call("echo", "say", number), range(100)))
    pool.close()
    assert found == list(range(100))


@pytest.mark.parametrize("what", [b"not json", b"[]", b'{"args": 3}', b'{"kwargs": {}}', b""])
def test_a_malformed_request_is_never_fatal(
    echo: RpcClient, broker: BrokerAccess, what: bytes
) -> None:
    from kombu import Connection

    before = echo.call("echo", "pid")
    with Connection(broker.amqp_url("coordinator")) as connection:
        producer = connection.Producer()
        producer.publish(
            what,
            exchange="nameko-rpc",
            routing_key="echo.say",
            content_type="application/json",
            content_encoding="utf-8",
        )
        producer.publish({"args": [1], "kwargs": {}}, exchange="nameko-rpc", routing_key="echo.say")
    assert echo.call("echo", "say", "still there") == "still there"
    assert echo.call("echo", "pid") == before


@pytest.mark.parametrize(
    "properties",
    [
        {},
        {"content_type": "application/x-python-serialize", "content_encoding": "binary"},
        {"content_type": "no/such"},
        {"content_encoding": "no-such-encoding"},
        {"application_headers": {"nameko.call_id_stack": 3}},
        {"application_headers": {"compression": "zlib"}},
        {"reply_to": "echo.say"},
        {"reply_to": "x" * 250},
        {"correlation_id": "x" * 250, "priority": 9, "message_id": "\x00"},
    ],
    ids=str,
)
def test_whatever_a_message_says_of_itself_it_ends_nobody_and_calls_nobody(
    echo: RpcClient, broker: BrokerAccess, properties: dict[str, Any]
) -> None:
    """Anybody may send to the registrar: the password of the account ``enrol`` is public."""
    from kombu import Connection, Exchange, Queue

    before = echo.call("echo", "pid")
    packed = zlib.compress(b'{"args": ["unpacked"], "kwargs": {}}')
    bodies = [b'{"args": ["sent"], "kwargs": {}}', b"no json", b"\x80\x04", b"[]", packed]
    with Connection(broker.amqp_url("coordinator")) as connection:
        channel = connection.channel()
        wire = amqp.Connection(
            host=f"{broker.host}:{broker.port}",
            userid=broker.accounts["coordinator"].user,
            password=broker.accounts["coordinator"].password,
            virtual_host=broker.vhost,
        )
        wire.connect()
        witness = Queue("", Exchange("nameko-rpc", no_declare=True), "echo.say", exclusive=True)
        seen = witness(channel)
        seen.declare()
        for typed in ({}, {"content_type": "application/json", "content_encoding": "utf-8"}):
            said = {"reply_to": str(uuid.uuid4()), **typed, **properties}
            for body in bodies:
                wire.channel().basic_publish(amqp.Message(body, **said), "nameko-rpc", "echo.say")
        wire.close()
        assert echo.call("echo", "say", "still there") == "still there"
        assert echo.call("echo", "pid") == before
        assert "unpacked" not in echo.call("echo", "all_said")
        # Each was seen once, as it was sent: no answer was published as a request.
        count = seen.queue_declare(passive=True).message_count
        assert count == 2 * len(bodies) + 1


def test_a_request_that_was_forwarded_past_the_senders_rights_is_dropped(
    echo: RpcClient, broker: BrokerAccess, eventually: Callable[..., Any]
) -> None:
    from kombu import Connection, Exchange, Queue

    side_road = Queue(
        "",
        exclusive=True,
        queue_arguments={
            "x-dead-letter-exchange": "nameko-rpc",
            "x-dead-letter-routing-key": "echo.say",
            "x-message-ttl": 1,
        },
    )
    body = {"args": ["round the back"], "kwargs": {}}
    with Connection(broker.amqp_url("admin")) as connection:
        channel = connection.default_channel
        queue = side_road(channel)
        queue.declare()
        witness = Queue("", Exchange("nameko-rpc", no_declare=True), "echo.say", exclusive=True)
        seen = witness(channel)
        seen.declare()
        connection.Producer().publish(body, routing_key=queue.name)
        # The broker did forward it: somebody else who is bound to the same key has it.
        eventually(lambda: seen.get(no_ack=True), 10, "the broker did not forward the message")
    assert echo.call("echo", "say", "by the front door") == "by the front door"
    assert "round the back" not in echo.call("echo", "all_said")


def test_a_broker_that_refuses_or_is_not_there_is_named_without_its_password(
    broker: BrokerAccess,
) -> None:
    for url in (
        f"amqp://coordinator:wrong-secret@127.0.0.1:{broker.port}/{broker.vhost}",
        "amqp://coordinator:wrong-secret@127.0.0.1:9/none",
    ):
        with pytest.raises(BrokerUnreachable) as found, RpcClient(url, timeout=5) as client:
            client.call("echo", "pid")
        assert "wrong-secret" not in str(found.value) and "127.0.0.1" in str(found.value)


def test_an_agent_that_is_killed_is_unknown_within_a_second_and_its_queue_is_gone(
    broker: BrokerAccess, tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    process = Process(broker, tmp_path, "agent")
    with RpcClient(broker.amqp_url("coordinator"), timeout=5) as client:
        eventually(lambda: answers(client, "agent-echo-0", "describe"), 20)
        os.kill(process.popen.pid, signal.SIGKILL)
        process.end()

        def unknown() -> bool:
            try:
                client.call("agent-echo-0", "describe", timeout=1)
            except UnknownService:
                return True
            except CallTimeout:
                return False  # it came before the broker knew of the agent's end
            return False

        eventually(unknown, 10, "the queue of a dead agent is still there")


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[tuple[Path, BrokerAccess]]:
    directory = tmp_path / "broker"
    try:
        yield directory, start_broker(directory)
    finally:
        kill_broker(directory)


def test_a_service_waits_for_its_broker_and_survives_its_absence_in_mid_call(
    own_broker: tuple[Path, BrokerAccess], tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    directory, access = own_broker
    kill_broker(directory)
    process = Process(access, tmp_path)
    eventually(
        lambda: "waiting for the broker" in process.log.read_text(), 20, "it did not wait aloud"
    )
    assert process.popen.poll() is None
    start_broker(directory)
    client = RpcClient(access.amqp_url("coordinator"), timeout=5)
    pid = eventually(lambda: answers(client), 20, "it did not come up with the broker")

    with pytest.raises(CallFailed):  # its answer falls into the outage
        client.call("echo", "slowly", 2.0, timeout=0.5)
    stop_broker(directory)
    start_broker(directory)
    assert eventually(lambda: answers(client), 20, "it did not come back") == pid
    assert "Traceback" not in process.log.read_text().partition("waiting for the broker")[2]
    client.close()
    process.popen.send_signal(signal.SIGTERM)
    assert process.popen.wait(timeout=15) == 0
    process.end()


def test_a_process_that_was_stopped_does_not_make_up_for_missed_ticks(
    echo: RpcClient, eventually: Callable[..., Any]
) -> None:
    pid = echo.call("echo", "pid")
    before = echo.call("echo", "ticked")
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    eventually(lambda: time.monotonic() - began > 2.0, 10)
    os.kill(pid, signal.SIGCONT)
    after = echo.call("echo", "ticked", timeout=10)
    assert after - before <= 4, "ten ticks fell into the pause; at most one may follow it"


def test_late_ticks_are_skipped_and_the_rhythm_stays() -> None:
    assert next_tick(10.0, 1.0, 10.2) == 11.0
    assert next_tick(10.0, 1.0, 14.5) == 15.0
    assert next_tick(10.0, 1.0, 11.0) == 11.0


def test_the_watchdog_bites_only_while_a_publish_hangs() -> None:
    watchdog = Watchdog(after=5.0)
    now = time.monotonic()
    assert not watchdog.hung(now + 100)
    with watchdog.watching():
        assert not watchdog.hung(now + 1)
        assert watchdog.hung(now + 100)
    assert not watchdog.hung(now + 100)


def test_a_process_in_which_nobody_gets_a_turn_ends_and_says_where_it_stood(
    broker: BrokerAccess, tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    process = Process(broker, tmp_path, "hanging", HUNG_AFTER=3.0)
    with RpcClient(broker.amqp_url("coordinator"), timeout=5) as client:
        up = lambda: answers(client, "hanging", "slowly", 0)  # noqa: E731
        eventually(up, 20, lambda: process.log.read_text())
        assert client.call("hanging", "slowly", 4.0, timeout=20) == "done", "it gave way"
        with pytest.raises(CallFailed):
            client.call("hanging", "give_no_way", timeout=1)
    assert process.popen.wait(30) == 1
    assert "in give_no_way" in process.log.read_text()
    process.end()
