"""The server: reads signed requests, lets the script strike, asks the world or moto."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl
from uuid import uuid4

from tests.hard_ec2.account import Account
from tests.hard_ec2.machine import Machine
from tests.hard_ec2.query import ApiError, Query, answer, error_answer
from tests.hard_ec2.script import Call, Fault, Script, Where, amazons_buckets
from tests.hard_ec2.world import World

#: A request may be so old, or from so far in the future, s.
SKEW = 900.0
_CREDENTIAL = re.compile(r"Credential=([^/]+)/")


class NoReply(Exception):
    """The connection is to be closed without an answer."""


class HardEc2:
    """A running EC2 endpoint, and the script of what goes wrong. See the package.

    ``url`` is the endpoint; ``account`` and ``world`` may be changed at any time. ``clock``
    is the time by which machines live, listings lag and buckets fill. ``skew``: by how many
    seconds the endpoint's own watch is ahead; requests signed more than 15 minutes off it
    are refused. ``host``: the address of this host at which it is. Use as a context manager.
    """

    def __init__(
        self, clock: Callable[[], float] = time.time, seed: int = 0, host: str = "127.0.0.1"
    ) -> None:
        self._clock = clock
        self.host = host
        self._seed = seed
        self.account: Account
        self.world: World
        self.script: Script
        self.forget()
        self.skew = 0.0
        self._open = threading.Event()
        self._open.set()
        self._moto: Any = None
        self._moto_lock = threading.Lock()
        self._server: _Server | None = None

    # ---------------------------------------------------------------- its life

    def __enter__(self) -> HardEc2:
        self._server = _Server(self)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    @property
    def url(self) -> str:
        assert self._server is not None, "not started"
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    # ---------------------------------------------------------------- the script

    @property
    def machines(self) -> list[Machine]:
        """What really runs now, oldest first."""
        return self.world.machines

    @property
    def calls(self) -> list[Call]:
        """Every call that was made, refused ones included, oldest first."""
        return list(self.script.calls)

    def count(self, action: str, outcome: str | None = None) -> int:
        """How many calls there were of ``action`` (with this outcome)."""
        counted = self.script.counted()
        return sum(
            number
            for (name, how), number in counted.items()
            if name == action and outcome in (None, how)
        )

    def counted(self) -> Counter[tuple[str, str]]:
        return self.script.counted()

    def fail_next(self, action: str, *faults: Fault) -> None:
        """The next calls of ``action`` meet ``faults``, one each."""
        self.script.fail_next(action, *faults)

    def forget(self, clock: Callable[[], float] | None = None) -> None:
        """An account in which nothing ever happened, at the same address."""
        self._clock = clock or self._clock
        self.account = Account()
        self.world = World(self.account, self._clock, self._seed)
        self.script = Script(self._clock, self._seed)

    def reseed(self, seed: int) -> None:
        """Let chance take another course from here on."""
        self.world.chance.seed(seed)
        self.script.chance.seed(seed)

    def throttle(self) -> None:
        """From now on calls draw from token buckets of Amazon's sizes."""
        self.script.buckets = amazons_buckets()

    def hang(self) -> None:
        """From now on no call is answered, nor done, until ``release``."""
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    # ---------------------------------------------------------------- one request

    def handle(self, headers: Any, body: bytes) -> tuple[int, str, bytes]:
        """Status, content type and body of the answer. Raises NoReply."""
        form = dict(parse_qsl(body.decode(), keep_blank_values=True))
        query = Query(form)
        request_id = str(uuid4())
        try:
            status, text = 200, self._answer(query, headers, body, request_id)
            outcome = "ok"
        except ApiError as error:
            status, text, outcome = error.status, error_answer(error, request_id), error.code
        except NoReply:
            self.script.note(query.action, "no reply")
            raise
        self.script.note(query.action, outcome)
        return status, "text/xml;charset=UTF-8", text.encode()

    def _answer(self, query: Query, headers: Any, body: bytes, request_id: str) -> str:
        if not self._open.is_set():
            self._open.wait(600)
            raise NoReply
        self._check_signature(query, headers)
        self.account.authorize(query.action)
        instances = 0
        if query.action == "RunInstances":
            instances = self.world.check_launch(query)
        self.script.throttle(query.action, instances)
        fault = self.script.fault_for(query.action)
        if fault is not None and fault.where is Where.BEFORE:
            raise fault.error or NoReply
        text = self._act(query, headers, body, request_id)
        if fault is not None:
            raise fault.error or NoReply
        return text

    def _check_signature(self, query: Query, headers: Any) -> None:
        signed = _CREDENTIAL.search(headers.get("Authorization", ""))
        key = signed[1] if signed else query.text("AWSAccessKeyId")
        self.account.authenticate(key, headers.get("X-Amz-Security-Token", ""))
        date, form = headers.get("X-Amz-Date"), "%Y%m%dT%H%M%SZ"
        if date is None:
            date, form = query.text("Timestamp"), "%Y-%m-%dT%H:%M:%SZ"
        if date:
            at = datetime.strptime(date, form).replace(tzinfo=UTC).timestamp()
            if abs(at - time.time() - self.skew) > SKEW:
                raise ApiError("RequestExpired", "Request has expired.")

    def _act(self, query: Query, headers: Any, body: bytes, request_id: str) -> str:
        actions: dict[str, Callable[[Query], dict[str, object]]] = {
            "RunInstances": self.world.run_instances,
            "DescribeInstances": self.world.describe_instances,
            "TerminateInstances": self.world.terminate_instances,
            "CreateTags": self.world.create_tags,
            "GetConsoleOutput": self.world.console_output,
            "DescribeImages": self.account.describe_images,
            "DescribeKeyPairs": self.account.describe_key_pairs,
            "DescribeSecurityGroups": self.account.describe_groups,
            "DescribeSubnets": self.account.describe_subnets,
            "DescribeAvailabilityZones": self.account.describe_zones,
        }
        act = actions.get(query.action)
        if act is None:
            return self._ask_moto(headers, body)
        return answer(query.action, query.version, request_id, act(query))

    def _ask_moto(self, headers: Any, body: bytes) -> str:
        # Its import takes seconds, and only questions about the catalogue need it.
        with self._moto_lock:
            if self._moto is None:
                from moto.moto_server.werkzeug_app import (
                    DomainDispatcherApplication,
                    create_backend_app,
                )
                from werkzeug.test import Client

                self._moto = Client(DomainDispatcherApplication(create_backend_app))
            passed = {name: headers[name] for name in headers if name.lower() != "content-length"}
            response = self._moto.post("/", data=body, headers=passed)
        text = str(response.text)
        if response.status_code >= 400:
            code = re.search(r"<Code>(.*?)</Code>", text)
            message = re.search(r"<Message>(.*?)</Message>", text, re.DOTALL)
            raise ApiError(
                code[1] if code else "InternalError",
                message[1] if message else text[:200],
                response.status_code,
            )
        return text


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, ec2: HardEc2) -> None:
        self.ec2 = ec2
        super().__init__((ec2.host, 0), _Requests)


class _Requests(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    #: One write for head and body: two would wait for the client's delayed acknowledgement.
    wbufsize = 1 << 16
    timeout = 600

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._reply(body)

    def do_GET(self) -> None:
        # libcloud puts the form into the address.
        self._reply(self.path.partition("?")[2].encode())

    def _reply(self, form: bytes) -> None:
        assert isinstance(self.server, _Server)
        try:
            status, kind, body = self.server.ec2.handle(self.headers, form)
        except NoReply:
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle(self) -> None:
        with suppress(OSError):
            super().handle()

    def finish(self) -> None:
        with suppress(OSError, ValueError):
            super().finish()

    def log_message(self, *_: object) -> None:
        """Calls are counted, not printed."""
