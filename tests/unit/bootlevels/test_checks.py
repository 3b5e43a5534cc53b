from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Event

import pytest

from bootlevels.checks import Look, look_at, rest_after, wait_until_ready
from bootlevels.plan import CheckKind


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Accepts and says nothing, as a wedged server does."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield int(server.getsockname()[1])


@pytest.fixture
def web() -> Iterator[int]:
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(int(self.path.strip("/")))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def look(kind: CheckKind, target: str, directory: Path = Path("/"), limit: float = 2.0) -> Look:
    return look_at(kind, target, directory, limit)


def test_tcp_needs_somebody_who_accepts(silent_port: int, closed_port: int) -> None:
    assert look(CheckKind.TCP, f"127.0.0.1:{silent_port}").ok
    refused = look(CheckKind.TCP, f"127.0.0.1:{closed_port}")
    assert not refused.ok
    assert "Connection refused" in refused.detail


@pytest.mark.parametrize("target", ["", "host", "host:", ":80", "h:99999", "h:x"])
def test_a_tcp_target_that_can_never_answer_is_given_up(target: str) -> None:
    found = look(CheckKind.TCP, target)
    assert (found.ok, found.patience) == (False, 0)


@pytest.mark.parametrize(("status", "ok"), [(200, True), (301, True), (404, False), (503, False)])
def test_http_must_answer_below_400(web: int, status: int, ok: bool) -> None:
    found = look(CheckKind.HTTP, f"http://127.0.0.1:{web}/{status}")
    assert found.ok is ok
    assert str(status) in found.detail


def test_a_silent_http_server_costs_the_limit_and_no_more(silent_port: int) -> None:
    found = look(CheckKind.HTTP, f"http://127.0.0.1:{silent_port}/", limit=0.3)
    assert not found.ok


@pytest.mark.parametrize("target", ["", "ftp://x", "http://", "http://h:x/", "http://[bad"])
def test_an_http_target_that_is_no_url_is_given_up(target: str) -> None:
    assert look(CheckKind.HTTP, target).patience == 0


def test_a_file_is_looked_for_from_the_runs_directory(tmp_path: Path) -> None:
    assert not look(CheckKind.FILE, "x", tmp_path).ok
    (tmp_path / "x").touch()
    assert look(CheckKind.FILE, "x", tmp_path).ok
    assert look(CheckKind.FILE, str(tmp_path / "x")).ok


def accounts(path: Path, port: int, account: str = "coordinator") -> str:
    users = {account: {"user": "u", "password": "pa55word"}}
    access = {"host": "127.0.0.1", "port": port, "vhost": "v", "accounts": users}
    path.write_text(json.dumps(access))
    return str(path)


def test_a_dead_broker_is_named_without_its_password(tmp_path: Path, closed_port: int) -> None:
    found = look(CheckKind.AMQP, accounts(tmp_path / "a.json", closed_port))
    assert not found.ok
    assert f"u:***@127.0.0.1:{closed_port}/v does not answer" in found.detail
    assert "pa55word" not in found.detail


def test_a_silent_broker_costs_the_limit_and_no_more(tmp_path: Path, silent_port: int) -> None:
    found = look(CheckKind.AMQP, accounts(tmp_path / "a.json", silent_port), limit=0.5)
    assert not found.ok
    assert "does not answer" in found.detail


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"password": "pa55word"', "\udcff"])
def test_a_file_that_is_no_accounts_file_is_not_quoted(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    found = look(CheckKind.AMQP, "a.json", tmp_path)
    assert not found.ok
    assert "pa55word" not in found.detail


def test_an_accounts_file_without_the_coordinator_is_named(tmp_path: Path) -> None:
    found = look(CheckKind.AMQP, accounts(tmp_path / "a.json", 1, account="other"))
    assert "holds no account 'coordinator'" in found.detail


def test_a_check_is_repeated_until_it_passes_and_says_each_thing_once() -> None:
    answers = [Look(ok=False, detail=text) for text in ("a", "a", "b")] + [
        Look(ok=True, detail="c")
    ]
    said: list[str] = []
    found = wait_until_ready(
        lambda _: answers.pop(0), interval=0.001, timeout=30, stop=Event(), tell=said.append
    )
    assert found.ok
    assert said == ["a", "b"]


def test_a_check_ends_at_its_deadline_with_the_last_finding() -> None:
    limits: list[float] = []

    def never(limit: float) -> Look:
        limits.append(limit)
        return Look(ok=False, detail="no")

    found = wait_until_ready(never, interval=0.02, timeout=0.2, stop=Event())
    assert (found.ok, found.detail) == (False, "no")
    assert len(limits) > 1
    assert max(limits) <= 0.2


def test_looks_that_take_long_are_no_more_than_half_of_what_a_machine_has_to_do() -> None:
    assert rest_after(0.1, 0.5, 600) == 0.5
    assert rest_after(4, 0.5, 600) == 4
    assert rest_after(300, 0.5, 600) == 15, "it is not forgotten, either"
    assert rest_after(4, 0.5, 2) == 1, "there is time for another look"


def test_hopeless_trouble_is_given_up_at_once() -> None:
    found = wait_until_ready(
        lambda _: Look(ok=False, detail="no", patience=0), interval=1, timeout=60, stop=Event()
    )
    assert found.detail == "no"


def test_trouble_that_comes_and_goes_is_not_given_up() -> None:
    bad, other = Look(ok=False, detail="x", patience=0.05), Look(ok=False, detail="y")
    answers = [bad, other] * 10 + [Look(ok=True, detail="z")]
    found = wait_until_ready(lambda _: answers.pop(0), interval=0.02, timeout=60, stop=Event())
    assert found.ok


def test_a_stop_ends_the_waiting() -> None:
    stop = Event()

    def stopped(_: float) -> Look:
        stop.set()
        return Look(ok=False, detail="no")

    assert not wait_until_ready(stopped, interval=60, timeout=600, stop=stop).ok


def test_a_check_with_tries_is_given_up_after_so_many_looks() -> None:
    looks: list[float] = []

    def look(limit: float) -> Look:
        looks.append(limit)
        return Look(ok=False, detail="no")

    found = wait_until_ready(look, interval=0.01, timeout=60, stop=Event(), tries=2)
    assert not found.ok
    assert len(looks) == 2
