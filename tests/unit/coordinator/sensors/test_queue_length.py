"""What the queue length sensor makes of a management API that talks nonsense."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from agent.messages import BrokerAccess, BrokerAccount
from coordinator.errors import RetryLater
from coordinator.sensors.queue_length import QueueLengthSensor


class Talker(ThreadingHTTPServer):
    """Answers each request with ``words``."""

    words = b""


class Page(BaseHTTPRequestHandler):
    server: Talker

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.words)))
        self.end_headers()
        self.wfile.write(self.server.words)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def talker() -> Iterator[Talker]:
    with Talker(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def sensor(talker: Talker) -> QueueLengthSensor:
    access = BrokerAccess(
        host="127.0.0.1",
        port=1,
        vhost="v",
        accounts={"coordinator": BrokerAccount(user="u", password="p")},
        management_url=f"http://127.0.0.1:{talker.server_port}",
    )
    return QueueLengthSensor(access, lambda: 1.0)


@pytest.mark.parametrize(
    "words", [b"", b"<html>maintenance</html>", b"[]", b"7", b'{"messages_ready": "many"}']
)
def test_an_answer_that_is_no_queue_is_a_reason_to_ask_again(talker: Talker, words: bytes) -> None:
    talker.words = words
    with pytest.raises(RetryLater, match="management API"):
        sensor(talker).measure("jobs")


def test_a_queue_without_figures_yet_gives_no_reading(talker: Talker) -> None:
    talker.words = b"{}"
    assert sensor(talker).measure("jobs") == ()


def test_figures_are_read(talker: Talker) -> None:
    talker.words = b'{"messages_ready": 3, "messages_unacknowledged": 2}'
    assert [reading.value for reading in sensor(talker).measure("jobs")] == [3.0, 2.0]
