"""Nodes come and go without end; what they had in the broker goes with them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import amqp
import pytest
import requests
from kombu import Connection

from agent.enrolment import NODE_ACCOUNT
from agent.messages import (
    BrokerAccess,
    EnrolAnswer,
    EnrolRequest,
    Heartbeat,
    NodeRole,
    agent_queue,
    beat_key,
)
from agent.rpc_client import EventPublisher, RemoteError
from agent.wire import to_wire
from coordinator.enrolment_token import mint
from coordinator.events import EventLog
from coordinator.registrar.broker_accounts import BrokerAccounts
from coordinator.registrar.enrolment import Registrar
from coordinator.registrar.records import Enrolments
from coordinator.store.session import open_store

pytestmark = pytest.mark.integration

KEY = b"k" * 32
POOL = "web"
#: As many machines are alive at a time.
ALIVE = 10


class Fleet:
    """A real registrar in front of a real broker; only the provisioner is two methods here."""

    def __init__(self, access: BrokerAccess) -> None:
        self.access = access
        self.live: dict[str, Node] = {}
        self.store = open_store(":memory:")
        self.registrar = Registrar(
            "run",
            access,
            KEY,
            Enrolments(self.store),
            BrokerAccounts(access, "run"),
            EventLog(self.store, "registrar", "run", time.time),
            self._call,
            time.time,
        )
        self.wanted: set[str] = set()
        self._cut_off: list[Node] = []

    def _call(self, service: str, method: str, *args: Any) -> Any:
        if method == "live_nodes":
            return [{"node_id": node_id} for node_id in self.wanted]
        if method == "node_for_enrolment":
            node_id = f"{args[0]}-{args[1]}"
            if node_id not in self.wanted:
                raise RemoteError("NotFound", node_id)
            role = to_wire(NodeRole(work_queues=("jobs",)))
            return {"node_id": node_id, "pool": POOL, "state": "BOOTING", "role": role}
        return None

    def birth(self, number: int) -> None:
        launch_id = f"l{number}"
        self.wanted.add(f"{launch_id}-0")
        answer = self.registrar.enrol(
            EnrolRequest(
                token=mint(KEY, "run", launch_id, time.time() + 600),
                launch_id=launch_id,
                index=0,
                nonce=uuid.uuid4().hex,
                hostname="h",
            )
        )
        self.live[answer.node_id] = Node(answer)

    def death(self, node_id: str, manner: int) -> None:
        """In one of four manners; a sweep follows sooner or later."""
        node = self.live.pop(node_id)
        if manner == 0:
            node.leave()
        elif manner == 1:
            node.vanish()
        elif manner == 2:
            node.leave_junk()
            node.vanish()
        else:
            self._cut_off.append(node)  # in mid-life, by the end of its account
        self.wanted.discard(node_id)
        if len(self.live) <= ALIVE // 2:
            self.sweep()

    def sweep(self) -> None:
        self.registrar.sweep()
        for node in self._cut_off:
            node.vanish()  # else the broker waits 30 s for its farewell
        self._cut_off.clear()


class Node:
    """What an agent has in the broker: two connections, a queue, a binding, beats."""

    def __init__(self, answer: EnrolAnswer) -> None:
        self.node_id = answer.node_id
        url = answer.broker.amqp_url(NODE_ACCOUNT)
        self.events = EventPublisher(url)
        beat = Heartbeat(node_id=self.node_id, pool=POOL, boot_id="b", sequence=1, sent_at=0.0)
        assert self.events.publish(beat_key(POOL, self.node_id), to_wire(beat), 5.0)
        self.connection = Connection(url)
        self.channel = self.connection.channel()
        queue = agent_queue(self.node_id)
        self.channel.queue_declare(queue, durable=False, auto_delete=True)
        self.channel.queue_bind(queue, "nameko-rpc", f"agent-{self.node_id}.*")
        self._tag = self.channel.basic_consume(queue)

    def leave(self) -> None:
        self.events.close()
        self.connection.close()

    def vanish(self) -> None:
        self.events._connection.connection.transport.sock.close()
        self.connection.connection.transport.sock.close()

    def leave_junk(self) -> None:
        """All that its account lets a node declare that outlives it."""
        name, channel = agent_queue(self.node_id), self.connection.channel()
        self.channel.basic_cancel(self._tag)  # with its last consumer the queue is gone
        channel.queue_declare(name, durable=True, auto_delete=False)
        channel.exchange_declare(name, "topic", durable=True, auto_delete=False)
        channel.exchange_bind("nameko-rpc", name, "#")
        channel.queue_bind(name, "nameko-rpc", str(uuid.uuid4()))


@pytest.fixture
def holdings(broker: BrokerAccess) -> Callable[[], dict[str, int]]:
    """How many of everything the broker holds, by its own word."""
    admin = broker.accounts["admin"]

    def count() -> dict[str, int]:
        with requests.Session() as session:
            session.auth = (admin.user, admin.password)
            return {
                kind: len(session.get(f"{broker.management_url}/api/{kind}", timeout=30).json())
                for kind in (
                    "users",
                    "permissions",
                    "topic-permissions",
                    "user-limits",
                    "queues",
                    "exchanges",
                    "bindings",
                    "connections",
                    "channels",
                    "consumers",
                )
            }

    return count


@pytest.fixture
def fleet(broker: BrokerAccess) -> Iterator[Fleet]:
    found = Fleet(broker)
    yield found
    found.wanted.clear()
    found.registrar.sweep()
    for node in found.live.values():
        node.vanish()


def live_and_die(
    fleet: Fleet,
    holdings: Callable[[], dict[str, int]],
    eventually: Callable[..., Any],
    births: int,
) -> None:
    before = holdings()
    for number in range(births):
        fleet.birth(number)
        if len(fleet.live) >= ALIVE:
            for position, node_id in enumerate(list(fleet.live)):
                fleet.death(node_id, position % 4)
    alive = holdings()
    for position, node_id in enumerate(list(fleet.live)):
        fleet.death(node_id, position % 4)
    fleet.sweep()
    assert alive["users"] <= before["users"] + 2 * ALIVE
    # Its statistics lag; a connection that vanished is noticed when its socket is read.
    eventually(lambda: holdings() == before, 40, lambda: f"before {before}, after {holdings()}")


def test_nothing_of_fifty_nodes_is_left_in_the_broker(
    fleet: Fleet, holdings: Callable[[], dict[str, int]], eventually: Callable[..., Any]
) -> None:
    live_and_die(fleet, holdings, eventually, 55)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_nothing_of_a_thousand_nodes_is_left_in_the_broker(
    fleet: Fleet, holdings: Callable[[], dict[str, int]], eventually: Callable[..., Any]
) -> None:
    live_and_die(fleet, holdings, eventually, 1000)


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_a_queue_that_the_broker_named_does_not_outlive_its_node_for_long(
    fleet: Fleet, holdings: Callable[[], dict[str, int]], eventually: Callable[..., Any]
) -> None:
    before = holdings()
    fleet.birth(0)
    node = fleet.live["l0-0"]
    junk = [
        node.channel.queue_declare("", durable=True, auto_delete=False, exclusive=False).queue
        for _ in range(5)
    ]
    for name in junk:
        node.channel.queue_bind(name, "nameko-rpc", str(uuid.uuid4()))
    fleet.death("l0-0", 1)
    fleet.registrar.sweep()
    with pytest.raises((amqp.AMQPError, OSError)):
        node.channel.queue_declare("")
    eventually(lambda: holdings() == before, 120, lambda: f"before {before}, after {holdings()}")
