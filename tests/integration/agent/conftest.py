"""Real nodes (a supervisord, the agent, programs) and a registrar that answers as told."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest
from kombu import Connection, Consumer, Exchange, Producer, Queue

import agent
from agent.messages import (
    BrokerAccess,
    BrokerAccount,
    EnrolAnswer,
    EnrolRequest,
    Heartbeat,
    NodeRole,
    ReadyReport,
    agent_queue,
)
from agent.process_probe import ProcessProbe, SupervisorUnreachable
from agent.rpc_client import RpcClient
from agent.wire import from_wire, to_wire

REPOSITORY = Path(agent.__file__).parent.parent
UUID4 = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"

SUPERVISOR_CONF = """\
[unix_http_server]
file={dir}/supervisor.sock
chmod=0700
[supervisord]
nodaemon=true
logfile={dir}/supervisord.log
pidfile={dir}/supervisord.pid
childlogdir={dir}
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[include]
files = conf.d/*.conf
"""

AGENT_CONF = """\
[program:agent]
command={python} -m agent.service --config {dir}/user-data \
 --instance-data {dir}/instance-data.json --dir {dir}
autorestart=true
startretries=1000000
stdout_logfile={dir}/agent.log
stderr_logfile={dir}/agent.err
"""


def kill_tree(pid: int) -> None:
    """SIGKILL a process that we started and all that it started."""
    with suppress(psutil.NoSuchProcess):
        top = psutil.Process(pid)
        everything = [*top.children(recursive=True), top]
        for process in everything:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(everything, timeout=10)


@dataclass
class NodeProcess:
    """A directory and a supervisord in it."""

    directory: Path
    node_id: str
    probe: ProcessProbe
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "EPU_NODE_ID": self.node_id,
            "EPU_NODE_DIR": str(self.directory),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "supervisor.supervisord", "-n"]
            + ["-c", str(self.directory / "supervisord.conf")],
            env=environment,
            cwd=self.directory,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 20
        while True:
            try:
                self.probe.states()
                return
            except SupervisorUnreachable:
                assert time.monotonic() < deadline, "supervisord did not come up"
                time.sleep(0.05)

    def state_of(self, name: str) -> str:
        return {state.name: state.state for state in self.probe.states()}.get(name, "absent")

    def pid_of(self, name: str) -> int:
        return {state.name: state.pid for state in self.probe.states()}[name]

    def agent_log(self) -> str:
        path = self.directory / "agent.err"
        return path.read_text() if path.exists() else ""

    def kill(self) -> None:
        if self.process is not None:
            kill_tree(self.process.pid)
            self.process.wait()


@pytest.fixture
def make_node(tmp_path: Path) -> Iterator[Callable[..., NodeProcess]]:
    """``make_node(node_id, with_agent=False)``: a node's directory; start it yourself."""
    made: list[NodeProcess] = []

    def make(node_id: str = "l1-0", with_agent: bool = False) -> NodeProcess:
        directory = tmp_path / node_id
        (directory / "conf.d").mkdir(parents=True)
        text = SUPERVISOR_CONF.format(dir=directory)
        if with_agent:
            text += AGENT_CONF.format(dir=directory, python=sys.executable)
        (directory / "supervisord.conf").write_text(text)
        made.append(
            NodeProcess(directory, node_id, ProcessProbe(directory / "supervisor.sock", 5.0))
        )
        return made[-1]

    yield make
    for node in made:
        node.kill()


# ------------------------------------------------------------------ the broker's accounts


class BrokerAdmin:
    """The few calls of the management API that a registrar makes."""

    def __init__(self, access: BrokerAccess) -> None:
        self._access = access
        who = access.accounts["admin"]
        pair = base64.b64encode(f"{who.user}:{who.password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {pair}", "Content-Type": "application/json"}
        self._vhost = quote(access.vhost, safe="")

    def call(self, method: str, path: str, body: Any = None) -> Any:
        data = json.dumps(body).encode() if body is not None else None
        url = f"{(self._access.management_url or '').rstrip('/')}/api/{path}"
        wanted = urllib.request.Request(url, data, self._headers, method=method)
        with urllib.request.urlopen(wanted, timeout=10) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def make_node_account(self, node_id: str, pool: str, queues: tuple[str, ...]) -> BrokerAccount:
        """Least rights of a node, as the registrar gives them."""
        user, password, vhost = f"node-{node_id}", uuid.uuid4().hex, self._vhost
        own = rf"{agent_queue(node_id)}|amq\.gen-.*"
        work = "".join(f"|{queue}" for queue in queues)
        self.call("PUT", f"users/{user}", {"password": password, "tags": ""})
        self.call(
            "PUT",
            f"permissions/{vhost}/{user}",
            {
                "configure": f"^({own})$",
                "write": rf"^({own}|nameko-rpc|agent\.events)$",
                "read": f"^({own}|nameko-rpc{work})$",
            },
        )
        rights = {
            "nameko-rpc": (rf"^(registrar\.ready|{UUID4})$", rf"^({UUID4}|agent-{node_id}\..*)$"),
            "agent.events": (rf"^(beat|job)\.{pool}\.{node_id}$", "^$"),
        }
        for exchange, (write, read) in rights.items():
            body = {"exchange": exchange, "write": write, "read": read}
            self.call("PUT", f"topic-permissions/{vhost}/{user}", body)
        return BrokerAccount(user=user, password=password)

    def delete_user(self, user: str) -> None:
        with suppress(urllib.error.HTTPError):
            self.call("DELETE", f"users/{user}")


@pytest.fixture
def broker_admin(broker: BrokerAccess) -> BrokerAdmin:
    return BrokerAdmin(broker)


# ------------------------------------------------------------------ a registrar


@dataclass
class Registrar:
    """Answers ``registrar.enrol`` and ``registrar.ready`` on nameko's wire; hears the beats."""

    access: BrokerAccess
    node_broker: BrokerAccess
    admin: BrokerAdmin
    role: NodeRole = field(default_factory=NodeRole)
    pool: str = "workers"
    refuse: str = ""
    lose_replies: int = 0
    accept: bool = True
    enrolments: list[EnrolRequest] = field(default_factory=list)
    reports: list[ReadyReport] = field(default_factory=list)
    beats: list[Heartbeat] = field(default_factory=list)
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    properties: list[dict[str, Any]] = field(default_factory=list)
    accounts: dict[str, tuple[str, BrokerAccount]] = field(default_factory=dict)
    _ended: threading.Event = field(default_factory=threading.Event)
    _serving: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        assert self._serving.wait(10), "the test's registrar did not start"

    def end(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join(10)

    def _serve(self) -> None:
        rpc = Exchange("nameko-rpc", type="topic", durable=True)
        events = Exchange("agent.events", type="topic", durable=True)
        with Connection(self.access.amqp_url("coordinator")) as connection:
            # A registrar of an earlier test may have left it, with what it was asked since.
            connection.default_channel.queue_delete("rpc-registrar")
            calls = Queue("rpc-registrar", rpc, "registrar.*", auto_delete=True, durable=False)
            heard = Queue("", events, "#", exclusive=True)
            replies = Producer(connection.channel(), serializer="json")
            on_call = lambda body, message: self._answer(replies, body, message)  # noqa: E731
            with (
                Consumer(connection.channel(), [calls], callbacks=[on_call]),
                Consumer(connection.channel(), [heard], callbacks=[self._hear]),
            ):
                self._serving.set()
                while not self._ended.is_set():
                    with suppress(TimeoutError):
                        connection.drain_events(timeout=0.1)

    def _answer(self, replies: Producer, body: Any, message: Any) -> None:
        message.ack()
        method = message.delivery_info["routing_key"].partition(".")[2]
        result, error = None, None
        if method == "enrol":
            result, error = self._enrol(from_wire(EnrolRequest, body["args"][0]))
        else:
            self.reports.append(from_wire(ReadyReport, body["args"][0]))
            result = {"accepted": self.accept}
        if self.lose_replies > 0:
            self.lose_replies -= 1
            return
        replies.publish(
            {"result": result, "error": error},
            exchange="nameko-rpc",
            routing_key=message.properties["reply_to"],
            correlation_id=message.properties["correlation_id"],
        )

    def _enrol(self, wanted: EnrolRequest) -> tuple[Any, Any]:
        self.enrolments.append(wanted)
        if self.refuse:
            return None, {"exc_type": self.refuse, "value": "refused by the test"}
        node_id = f"{wanted.launch_id}-{wanted.index}"
        account = self.admin.make_node_account(node_id, self.pool, self.role.work_queues)
        self.accounts[node_id] = (wanted.nonce, account)
        answer = EnrolAnswer(
            node_id=node_id,
            run="run1",
            pool=self.pool,
            broker=replace(self.node_broker, accounts={"node": account}),
            role=self.role,
        )
        return to_wire(answer), None

    def _hear(self, body: Any, message: Any) -> None:
        message.ack()
        key = message.delivery_info["routing_key"]
        self.events.append((key, body))
        if key.startswith("beat."):
            self.properties.append(dict(message.properties))
            self.beats.append(from_wire(Heartbeat, body))


@pytest.fixture
def registrar(broker: BrokerAccess, broker_admin: BrokerAdmin, gate: Any) -> Iterator[Registrar]:
    """Nodes reach the broker through ``gate``."""
    node_broker = replace(
        broker, host="127.0.0.1", port=gate.port, accounts={}, management_url=None
    )
    found = Registrar(broker, node_broker, broker_admin)
    yield found
    found.end()
    for node_id in found.accounts:
        broker_admin.delete_user(f"node-{node_id}")


@pytest.fixture
def start_agent(
    make_node: Callable[..., NodeProcess], registrar: Registrar
) -> Callable[..., NodeProcess]:
    """``start_agent(role)``: a whole node with its agent, enrolling at ``registrar``."""

    def start(role: NodeRole | None = None) -> NodeProcess:
        launch = f"l{uuid.uuid4().hex[:8]}"
        node = make_node(f"{launch}-0", with_agent=True)
        registrar.role = role or NodeRole(heartbeat_interval=0.5)
        access = replace(
            registrar.node_broker, accounts={"enrol": registrar.access.accounts["enrol"]}
        )
        told = {
            "version": 1,
            "run": "run1",
            "pool": registrar.pool,
            "launch_id": launch,
            "token": "token-of-the-test",
            "broker": to_wire(access),
        }
        handle = os.open(node.directory / "user-data", os.O_WRONLY | os.O_CREAT, 0o600)
        with os.fdopen(handle, "w") as file:
            json.dump(told, file)
        (node.directory / "instance-data.json").write_text('{"launch_index": 0, "cloud_id": "c"}')
        node.start()
        return node

    return start


@pytest.fixture
def call(broker: BrokerAccess) -> Iterator[Callable[..., Any]]:
    """``call(node_id, method, *args)``: RPC to a node's agent as the coordinator."""
    with RpcClient(broker.amqp_url("coordinator"), timeout=10) as client:
        yield lambda node_id, method, *args, **options: client.call(
            f"agent-{node_id}", method, *args, **options
        )
