"""What the accounts of a real broker may do, tried from the attacker's side as well."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import amqp
import pytest
import requests

from agent.messages import (
    BASE_POOL,
    BrokerAccess,
    BrokerAccount,
    agent_queue,
    beat_key,
    job_key,
)
from agent.rpc_client import RemoteError, RpcClient
from coordinator.errors import CredentialsRejected, RetryLater
from coordinator.registrar.broker_accounts import BrokerAccounts

pytestmark = pytest.mark.integration

POOL = "web.ish"  # a dot, which no real pool has: in a pattern it must stand for itself


class Login:
    """One connection of one account, and a channel for each thing it tries."""

    def __init__(self, access: BrokerAccess, account: BrokerAccount) -> None:
        self.connection = amqp.Connection(
            host=f"{access.host}:{access.port}",
            userid=account.user,
            password=account.password,
            virtual_host=access.vhost,
            connect_timeout=5,
            read_timeout=5,
            write_timeout=5,
        )
        self.connection.connect()

    def channel(self) -> Any:
        return self.connection.channel()

    def publish(self, exchange: str, key: str, body: str = "{}", **properties: Any) -> None:
        """Publish and wait until the broker has taken or refused it."""
        channel = self.channel()
        channel.basic_publish(amqp.Message(body, **properties), exchange, key)
        channel.basic_qos(0, 1, False)  # answered after the publish was judged
        channel.close()

    def own_queue(self, key: str | None = None, **arguments: Any) -> tuple[Any, str]:
        """A channel with an exclusive server-named queue, bound to ``key`` of nameko-rpc."""
        channel = self.channel()
        name = channel.queue_declare(exclusive=True, arguments=arguments or None).queue
        if key is not None:
            channel.queue_bind(name, "nameko-rpc", key)
        return channel, name


@pytest.fixture
def login(broker: BrokerAccess) -> Iterator[Callable[[BrokerAccount], Login]]:
    """Log in with an account; the connections are closed when the test ends."""
    with ExitStack() as open_connections:

        def enter(account: BrokerAccount) -> Login:
            entered = Login(broker, account)
            open_connections.callback(entered.connection.collect)
            return entered

        yield enter


@pytest.fixture
def coordinator(broker: BrokerAccess, login: Callable[[BrokerAccount], Login]) -> Login:
    return login(broker.accounts["coordinator"])


@pytest.fixture
def enrol(broker: BrokerAccess, login: Callable[[BrokerAccount], Login]) -> Login:
    return login(broker.accounts["enrol"])


@pytest.fixture
def accounts(broker: BrokerAccess) -> Iterator[BrokerAccounts]:
    made = BrokerAccounts(broker, "test-run")
    yield made
    for node_id in made.list_node_accounts():
        made.remove_node_account(node_id)


@pytest.fixture
def node_a(
    accounts: BrokerAccounts, coordinator: Login, login: Callable[[BrokerAccount], Login]
) -> Login:
    """Node ``a-0`` of the pool, which has one work queue; ``b-0`` is there too."""
    channel = coordinator.channel()
    channel.queue_declare("jobs.web", exclusive=True)
    channel.queue_declare("jobsxweb", exclusive=True)
    channel.queue_declare("rpc-agent-b-0", exclusive=True)
    accounts.create_node_account("b-0", POOL, ["jobs.web"])
    return login(accounts.create_node_account("a-0", POOL, ["jobs.web"]))


@pytest.fixture
def seen(
    coordinator: Login, eventually: Callable[..., Any]
) -> Callable[[], list[tuple[str, str, dict[str, Any]]]]:
    """Everything that got through since the test began: (exchange, key, headers)."""
    channel = coordinator.channel()
    name = channel.queue_declare(exclusive=True).queue
    for exchange in ("nameko-rpc", "agent.events"):
        channel.queue_bind(name, exchange, "#")

    def everything() -> list[tuple[str, str, dict[str, Any]]]:
        # A last message of our own: what came before it has been routed.
        marker = str(uuid.uuid4())
        coordinator.publish("nameko-rpc", marker)
        found = []
        while True:
            message = eventually(lambda: channel.basic_get(name, no_ack=True))
            key = message.delivery_info["routing_key"]
            if key == marker:
                return found
            found.append((message.delivery_info["exchange"], key, message.headers or {}))

    return everything


FOREIGN_KEYS = [
    ("nameko-rpc", "provisioner.terminate_all"),
    ("nameko-rpc", "provisioner.apply"),
    ("nameko-rpc", "controller.reconfigure"),
    ("nameko-rpc", "management.teardown"),
    ("nameko-rpc", "sensors.report"),
    ("nameko-rpc", "registrar.status"),
    ("nameko-rpc", "registrar.pool_token"),
    ("nameko-rpc", "registrar.dismiss"),
    ("nameko-rpc", "provisioner.adopt_node"),
    ("nameko-rpc", "registrar.enrol.x"),
    ("nameko-rpc", "agent-b-0.stop"),
    ("nameko-rpc", "agent-b-0.start_program"),
    ("nameko-rpc", "agent-b-0.stage_program"),
    ("nameko-rpc", "not-a-uuid"),
    ("agent.events", beat_key(POOL, "b-0")),
    ("agent.events", "beat.web-ish.a-0"),
    ("agent.events", "beat.other.a-0"),
    ("agent.events", job_key(POOL, "b-0")),
    ("agent.events", "loopback"),
    ("", "rpc-agent-b-0"),
    ("", "rpc-provisioner"),
    ("", "jobs.web"),
    ("amq.topic", "x"),
    ("amq.rabbitmq.event", "queue.deleted"),
]
FOREIGN_BINDINGS = ["#", "*", "*.*", "registrar.enrol", "registrar.*", "agent-b-0.*", "agent-b-0.#"]


def _refused(attempt: Callable[[], Any]) -> None:
    with pytest.raises(amqp.exceptions.AccessRefused):
        attempt()


# ------------------------------------------------------------------ enrol


def test_enrol_can_call_the_registrar_and_gets_its_answer(
    enrol: Login, coordinator: Login, eventually: Callable[..., Any]
) -> None:
    registrar, requests_queue = coordinator.own_queue("registrar.*")
    key = str(uuid.uuid4())
    reply, reply_queue = enrol.own_queue(key)
    enrol.publish("nameko-rpc", "registrar.enrol", '{"args": [], "kwargs": {}}', reply_to=key)
    request = eventually(lambda: registrar.basic_get(requests_queue, no_ack=True))
    coordinator.publish("nameko-rpc", request.properties["reply_to"], "welcome")
    assert eventually(lambda: reply.basic_get(reply_queue, no_ack=True)).body == "welcome"


@pytest.mark.parametrize(
    ("exchange", "key"),
    [
        *FOREIGN_KEYS,
        ("nameko-rpc", "registrar.ready"),
        ("nameko-rpc", "registrar.starting"),
        ("nameko-rpc", "registrar.pool_token"),
        ("nameko-rpc", "registrar.base_token"),
        ("nameko-rpc", "0c8dbd4e-6d1e-4c3a-9a53-3f2b1c9e7a55"),
        ("agent.events", beat_key(POOL, "a-0")),
    ],
)
def test_enrol_can_publish_nothing_else(
    enrol: Login, seen: Callable[[], list[Any]], exchange: str, key: str
) -> None:
    _refused(lambda: enrol.publish(exchange, key))
    assert seen() == []


@pytest.mark.parametrize("key", [*FOREIGN_BINDINGS, "agent-a-0.*"])
def test_enrol_can_listen_to_no_key_but_one_that_nobody_can_guess(enrol: Login, key: str) -> None:
    _refused(lambda: enrol.own_queue(key))


def test_enrol_can_declare_use_or_delete_nothing_that_has_a_name(
    enrol: Login, coordinator: Login
) -> None:
    coordinator.channel().queue_declare("rpc-registrar", exclusive=False, auto_delete=False)
    try:
        _refused(lambda: enrol.channel().queue_declare("rpc-agent-x", auto_delete=False))
        _refused(lambda: enrol.channel().basic_get("rpc-registrar"))
        _refused(lambda: enrol.channel().basic_consume("rpc-registrar"))
        _refused(lambda: enrol.channel().queue_purge("rpc-registrar"))
        _refused(lambda: enrol.channel().queue_delete("rpc-registrar"))
        _refused(lambda: enrol.channel().exchange_declare("mine", "topic"))
        _refused(lambda: enrol.channel().exchange_declare("amq.gen-mine", "topic"))
        _refused(lambda: enrol.channel().exchange_delete("nameko-rpc"))
        _refused(lambda: enrol.channel().queue_bind("rpc-registrar", "nameko-rpc", "#"))
    finally:
        coordinator.channel().queue_delete("rpc-registrar")


def test_enrol_and_nodes_have_no_access_to_the_management_api(
    broker: BrokerAccess, accounts: BrokerAccounts
) -> None:
    node = accounts.create_node_account("a-0", POOL, [])
    for account in (broker.accounts["enrol"], node):
        answer = requests.get(
            f"{broker.management_url}/api/queues", auth=(account.user, account.password), timeout=5
        )
        assert answer.status_code == 401


def test_the_coordinator_reads_queue_statistics_but_makes_no_accounts(
    broker: BrokerAccess,
) -> None:
    account = broker.accounts["coordinator"]
    auth = (account.user, account.password)
    assert requests.get(f"{broker.management_url}/api/queues/epu", auth=auth, timeout=5).ok
    refused = requests.put(
        f"{broker.management_url}/api/users/x", auth=auth, json={"password": "x"}, timeout=5
    )
    assert refused.status_code == 401


def test_the_default_user_is_gone(broker: BrokerAccess) -> None:
    with pytest.raises(amqp.exceptions.AccessRefused):
        Login(broker, BrokerAccount(user="guest", password="guest"))


# ------------------------------------------------------------------ nodes


def test_a_node_can_be_an_agent(
    node_a: Login, coordinator: Login, seen: Callable[[], list[Any]], eventually: Callable[..., Any]
) -> None:
    channel = node_a.channel()
    queue = agent_queue("a-0")
    limits = {"x-expires": 60_000, "x-message-ttl": 15_000}
    channel.queue_declare(queue, durable=True, auto_delete=True, arguments=limits)
    channel.queue_bind(queue, "nameko-rpc", "agent-a-0.*")
    key = str(uuid.uuid4())
    answers, answer_queue = coordinator.own_queue(key)
    coordinator.publish("nameko-rpc", "agent-a-0.describe", reply_to=key)
    asked = eventually(lambda: channel.basic_get(queue, no_ack=True))
    node_a.publish("nameko-rpc", asked.properties["reply_to"], "here")
    assert eventually(lambda: answers.basic_get(answer_queue, no_ack=True)).body == "here"

    node_a.own_queue(str(uuid.uuid4()))
    node_a.publish("nameko-rpc", "registrar.starting")
    node_a.publish("nameko-rpc", "registrar.ready")
    node_a.publish("agent.events", beat_key(POOL, "a-0"), user_id="node-a-0")
    node_a.publish("agent.events", job_key(POOL, "a-0"))
    keys = [key for _, key, _ in seen()]
    told = ["registrar.starting", "registrar.ready", "beat.web.ish.a-0", "job.web.ish.a-0"]
    assert keys[-4:] == told


def test_a_base_node_is_an_agent_and_nobodys_worker(
    accounts: BrokerAccounts,
    coordinator: Login,
    login: Callable[[BrokerAccount], Login],
    seen: Callable[[], list[Any]],
) -> None:
    coordinator.channel().queue_declare("jobs.web", exclusive=True)
    base = login(accounts.create_node_account("broker-1-0", BASE_POOL, ()))
    base.own_queue("agent-broker-1-0.*")
    base.publish("nameko-rpc", "registrar.ready")
    base.publish("agent.events", beat_key(BASE_POOL, "broker-1-0"))
    assert [key for _, key, _ in seen()][-2:] == ["registrar.ready", "beat._base.broker-1-0"]
    _refused(lambda: base.channel().basic_get("jobs.web"))
    _refused(lambda: base.publish("agent.events", beat_key(POOL, "broker-1-0")))


@pytest.mark.parametrize(
    "name",
    [
        "junk",
        "rpc-agent-b-0",
        "rpc-agent-a-0-1",
        "rpc-agent-a-0x",
        "rpc-registrar",
        "rpc.reply-agent-a-0-0c8dbd4e-6d1e-4c3a-9a53-3f2b1c9e7a55",
        "amq.gen-mine",
        "agent.events2",
    ],
)
def test_a_node_can_declare_nothing_but_its_own_queue(node_a: Login, name: str) -> None:
    _refused(lambda: node_a.channel().queue_declare(name, exclusive=True))
    _refused(lambda: node_a.channel().exchange_declare(name, "topic"))


def test_a_node_can_touch_no_queue_and_no_exchange_of_others(
    node_a: Login, enrol: Login, coordinator: Login
) -> None:
    """Even if it knew the name that the broker gave to somebody's queue of replies."""
    key = str(uuid.uuid4())
    channel, name = coordinator.own_queue(key)
    for login in (node_a, enrol):
        for attempt in ("basic_get", "basic_consume", "queue_purge", "queue_delete"):
            with pytest.raises(amqp.exceptions.ResourceLocked):
                getattr(login.channel(), attempt)(name)
        with pytest.raises(amqp.exceptions.ResourceLocked):
            login.channel().queue_bind(name, "nameko-rpc", str(uuid.uuid4()))
        for exchange in ("nameko-rpc", "agent.events"):
            _refused(lambda: login.channel().exchange_delete(exchange))  # noqa: B023
    coordinator.publish("nameko-rpc", key, "untouched")
    assert channel.basic_get(name, no_ack=True).body == "untouched"


def test_one_machine_that_enrols_reads_no_answer_to_another(
    broker: BrokerAccess, enrol: Login, login: Callable[[BrokerAccount], Login]
) -> None:
    """Both have the same, public, account."""
    _, answers = enrol.own_queue(str(uuid.uuid4()))
    other = login(broker.accounts["enrol"])
    for attempt in ("basic_get", "basic_consume", "queue_purge", "queue_delete"):
        with pytest.raises(amqp.exceptions.ResourceLocked):
            getattr(other.channel(), attempt)(answers)


@pytest.mark.parametrize("exchange", ["", "agent.events", "amq.rabbitmq.event", "amq.topic"])
def test_a_node_can_have_nothing_forwarded_where_it_may_not_write_itself(
    node_a: Login, exchange: str
) -> None:
    """But to nameko-rpc and agent.events, whose receivers look at the road it took."""
    letters = {"x-dead-letter-exchange": exchange, "x-dead-letter-routing-key": "queue.deleted"}
    aside = {"alternate-exchange": exchange}

    def dead_letters() -> None:
        node_a.own_queue(**letters)

    def unrouted() -> None:
        node_a.channel().exchange_declare("rpc-agent-a-0", "fanout", arguments=aside)

    def bound() -> None:
        node_a.channel().exchange_declare("rpc-agent-a-0", "fanout", auto_delete=True)
        node_a.channel().exchange_bind(exchange, "rpc-agent-a-0", "")

    if exchange != "agent.events":
        for attempt in (dead_letters, unrouted, bound):
            _refused(attempt)
    # Nor may it hear, through an exchange of its own, what it may not hear itself.
    if exchange:
        channel = node_a.channel()
        channel.exchange_declare("rpc-agent-a-0", "fanout")
        _refused(lambda: channel.exchange_bind("rpc-agent-a-0", exchange, "#"))
        node_a.channel().exchange_delete("rpc-agent-a-0")
    for key in FOREIGN_BINDINGS:
        channel = node_a.channel()
        channel.exchange_declare("rpc-agent-a-0", "fanout", auto_delete=True)
        _refused(lambda: channel.exchange_bind("rpc-agent-a-0", "nameko-rpc", key))  # noqa: B023


def test_accounts_open_no_other_virtual_host(
    broker: BrokerAccess, accounts: BrokerAccounts
) -> None:
    elsewhere = replace(broker, vhost="/")
    for account in (broker.accounts["enrol"], accounts.create_node_account("a-0", POOL, [])):
        with pytest.raises((amqp.exceptions.NotAllowed, amqp.exceptions.AccessRefused)):
            Login(elsewhere, account)


def test_a_node_that_was_called_hears_nothing_that_others_answer_to_its_caller(
    broker: BrokerAccess, node_a: Login, coordinator: Login, eventually: Callable[..., Any]
) -> None:
    """It learns where its caller wants the answer, and may listen to any UUID."""
    served = {}
    for name, login in (("agent-a-0", node_a), ("registrar", coordinator)):
        channel = login.channel()
        # The registrar's must not outlive this test: it would keep what later tests call it.
        channel.queue_declare(f"rpc-{name}", exclusive=login is coordinator, auto_delete=True)
        channel.queue_bind(f"rpc-{name}", "nameko-rpc", f"{name}.*")
        served[name] = channel

    def answer(name: str, login: Login, body: str) -> str:
        asked = eventually(lambda: served[name].basic_get(f"rpc-{name}", no_ack=True))
        key = str(asked.properties["reply_to"])
        properties = {
            "correlation_id": asked.properties["correlation_id"],
            "content_type": "application/json",
            "content_encoding": "utf-8",
        }
        login.publish("nameko-rpc", key, body, **properties)
        return key

    with (
        RpcClient(broker.amqp_url("coordinator"), timeout=10) as client,
        ThreadPoolExecutor(1) as aside,
    ):
        described = aside.submit(client.call, "agent-a-0", "describe")
        learned = answer("agent-a-0", node_a, '{"result": "here"}')
        assert described.result(10) == "here"
        ear, queue = node_a.own_queue(learned)

        token = aside.submit(client.call, "registrar", "pool_token")
        answer("registrar", coordinator, '{"result": "a secret"}')
        assert token.result(10) == "a secret"

        coordinator.publish("nameko-rpc", learned, "the first that it hears")
        assert ear.basic_get(queue, no_ack=True).body == "the first that it hears"

        nonsense = aside.submit(client.call, "agent-a-0", "describe")
        answer("agent-a-0", node_a, "[1]")
        with pytest.raises(RemoteError, match="MalformedReply"):
            nonsense.result(10)


@pytest.mark.parametrize(("exchange", "key"), FOREIGN_KEYS)
def test_a_node_can_neither_speak_for_another_nor_call_a_component(
    node_a: Login, seen: Callable[[], list[Any]], exchange: str, key: str
) -> None:
    _refused(lambda: node_a.publish(exchange, key))
    assert seen() == []


def test_a_node_can_not_sign_with_the_name_of_another(
    node_a: Login, seen: Callable[[], list[Any]]
) -> None:
    with pytest.raises(amqp.exceptions.PreconditionFailed):
        node_a.publish("agent.events", beat_key(POOL, "a-0"), user_id="node-b-0")
    assert seen() == []


@pytest.mark.parametrize("key", FOREIGN_BINDINGS)
def test_a_node_can_not_listen_to_another(node_a: Login, key: str) -> None:
    _refused(lambda: node_a.own_queue(key))


def test_a_node_can_not_hear_heartbeats_or_broker_events(node_a: Login) -> None:
    for exchange, key in [
        ("agent.events", "#"),
        ("agent.events", beat_key(POOL, "a-0")),
        ("agent.events", ""),
        ("amq.rabbitmq.event", "#"),
    ]:
        channel, queue = node_a.own_queue()
        _refused(lambda: channel.queue_bind(queue, exchange, key))  # noqa: B023


def test_a_node_reads_the_queues_of_its_pool_and_no_others(
    accounts: BrokerAccounts, coordinator: Login, login: Callable[[BrokerAccount], Login]
) -> None:
    node = login(accounts.create_node_account("a-0", POOL, ["jobs.web"]))
    work = coordinator.channel()
    for queue in ("jobs.web", "jobsxweb", "rpc-agent-b-0"):
        work.queue_declare(queue, auto_delete=False)
    try:
        coordinator.publish("", "jobs.web", "a job")
        assert node.channel().basic_get("jobs.web", no_ack=True).body == "a job"
        for other in ("jobsxweb", "rpc-agent-b-0"):
            _refused(lambda: node.channel().basic_get(other))  # noqa: B023
            _refused(lambda: node.channel().basic_consume(other))  # noqa: B023
        for alter in ("queue_delete", "queue_declare"):
            _refused(lambda: getattr(node.channel(), alter)("jobs.web"))  # noqa: B023
        _refused(lambda: node.channel().queue_bind("jobs.web", "nameko-rpc", str(uuid.uuid4())))
    finally:
        for queue in ("jobs.web", "jobsxweb", "rpc-agent-b-0"):
            work.queue_delete(queue)


def test_names_are_taken_literally_and_not_as_patterns(
    accounts: BrokerAccounts, login: Callable[[BrokerAccount], Login]
) -> None:
    node = login(accounts.create_node_account("a.0", "p+", []))
    node.publish("agent.events", "beat.p+.a.0")
    _refused(lambda: node.publish("agent.events", "beat.pp.a.0"))
    _refused(lambda: node.publish("agent.events", "beat.p+.ax0"))
    _refused(lambda: node.channel().queue_declare("rpc-agent-ax0"))


def test_a_request_on_a_side_road_can_be_told_by_its_receiver(
    node_a: Login, coordinator: Login, eventually: Callable[..., Any]
) -> None:
    """RabbitMQ judges what a client publishes, not what the broker itself passes on.

    So a node that was taken over reaches keys that it may not publish to. This is why
    who serves requests looks at the exchange, the delivered key and ``x-death``.
    """
    provisioner, inbox = coordinator.own_queue("provisioner.*")
    wanted = "provisioner.terminate_all"
    # 1: a message that dies in a queue of the node's own is published again by the broker.
    key = str(uuid.uuid4())
    limits = {
        "x-message-ttl": 0,
        "x-dead-letter-exchange": "nameko-rpc",
        "x-dead-letter-routing-key": wanted,
    }
    node_a.own_queue(key, **limits)
    node_a.publish("nameko-rpc", key, "died")
    # 2: an exchange under the name of the node's own queue, bound to the other.
    channel = node_a.channel()
    channel.exchange_declare("rpc-agent-a-0", "fanout", auto_delete=True)
    channel.exchange_bind("nameko-rpc", "rpc-agent-a-0", "")
    node_a.publish("rpc-agent-a-0", wanted, "by another exchange")
    # 3: a copy to a second key.
    node_a.publish("nameko-rpc", "registrar.ready", "copy", application_headers={"BCC": [wanted]})

    arrived = {}

    def all_three() -> bool:
        message = provisioner.basic_get(inbox, no_ack=True)
        if message is not None:
            arrived[message.body] = message
        return len(arrived) == 3

    eventually(all_three, message=lambda: f"only these arrived: {sorted(arrived)}")
    assert arrived["died"].headers["x-death"]
    assert arrived["by another exchange"].delivery_info["exchange"] == "rpc-agent-a-0"
    assert arrived["copy"].delivery_info["routing_key"] == "registrar.ready"
    channel.exchange_delete("rpc-agent-a-0")


# ------------------------------------------------------------------ the life of an account


def test_an_account_can_be_made_again_and_only_its_newest_password_opens(
    broker: BrokerAccess, accounts: BrokerAccounts
) -> None:
    first = accounts.create_node_account("a-0", POOL, [])
    connected = Login(broker, first)
    second = accounts.create_node_account("a-0", POOL, [])
    assert first.user == second.user == "node-a-0"
    with pytest.raises(amqp.exceptions.AccessRefused):
        Login(broker, first)
    Login(broker, second).connection.close()
    connected.publish("agent.events", beat_key(POOL, "a-0"))
    connected.connection.close()


def test_removing_an_account_closes_its_connections_and_may_be_repeated(
    broker: BrokerAccess, accounts: BrokerAccounts
) -> None:
    made = accounts.create_node_account("a-0", POOL, [])
    connected = Login(broker, made)
    accounts.remove_node_account("a-0")
    with pytest.raises((amqp.exceptions.AMQPError, OSError)):
        connected.connection.drain_events(timeout=10)
    accounts.remove_node_account("a-0")
    with pytest.raises(amqp.exceptions.AccessRefused):
        Login(broker, made)


def test_accounts_are_listed_by_node_id(accounts: BrokerAccounts) -> None:
    accounts.create_node_account("b-0", POOL, [])
    accounts.create_node_account("a-10", POOL, [])
    assert accounts.list_node_accounts() == ["a-10", "b-0"]
    accounts.remove_node_account("b-0")
    assert accounts.list_node_accounts() == ["a-10"]


def test_without_the_management_api_accounts_are_for_later() -> None:
    nowhere = BrokerAccess(
        host="127.0.0.1",
        port=1,
        vhost="epu",
        accounts={"admin": BrokerAccount(user="admin", password="s3cret")},
        management_url="http://127.0.0.1:1",
    )
    accounts = BrokerAccounts(nowhere, "test-run")
    assert not accounts.available()
    with pytest.raises(RetryLater) as refusal:
        accounts.create_node_account("a-0", POOL, [])
    assert "s3cret" not in str(refusal.value)


def test_a_wrong_administrator_is_not_for_later(broker: BrokerAccess) -> None:
    wrong = BrokerAccess(
        host=broker.host,
        port=broker.port,
        vhost=broker.vhost,
        accounts={"admin": BrokerAccount(user="admin", password="wrong")},
        management_url=broker.management_url,
    )
    assert not BrokerAccounts(wrong, "test-run").available()
    with pytest.raises(CredentialsRejected):
        BrokerAccounts(wrong, "test-run").create_node_account("a-0", POOL, [])


def test_on_a_shared_broker_everyone_has_the_one_account(broker: BrokerAccess) -> None:
    one = BrokerAccount(user="team", password="x")
    shared = BrokerAccounts(
        BrokerAccess(
            host="127.0.0.1",
            port=1,
            vhost="epu",
            accounts=dict.fromkeys(("admin", "coordinator", "enrol"), one),
            shared=True,
        ),
        "test-run",
    )
    assert shared.create_node_account("a-0", POOL, []) == one
    shared.remove_node_account("a-0")
    assert shared.list_node_accounts() == []
    assert shared.available()


# ------------------------------------------------------------------ what the broker tells


def test_the_end_of_an_agents_queue_is_told_as_an_event(
    broker: BrokerAccess,
    accounts: BrokerAccounts,
    coordinator: Login,
    eventually: Callable[..., Any],
) -> None:
    assert broker.event_exchange
    channel = coordinator.channel()
    events = channel.queue_declare(exclusive=True).queue
    channel.queue_bind(events, "amq.rabbitmq.event", "queue.deleted")
    node = Login(broker, accounts.create_node_account("gone-0", POOL, []))
    agent = node.channel()
    agent.queue_declare(agent_queue("gone-0"), durable=True, auto_delete=True)
    agent.basic_consume(agent_queue("gone-0"))
    node.connection.collect()  # as if killed: the socket closes, nothing is said

    def told() -> bool:
        message = channel.basic_get(events, no_ack=True)
        return message is not None and message.headers["name"] == agent_queue("gone-0")

    eventually(told, message="the deletion of the agent's queue was not told")


@pytest.mark.parametrize(
    ("queue", "limits"),
    [
        ("rpc-agent-forgetful", {"expires": 60_000, "message-ttl": 15_000}),
        ("rpc-controller-a-pool", {"expires": 600_000}),
        ("rpc-sensors-a-pool", {"expires": 600_000}),
    ],
)
def test_the_policies_limit_queues_that_their_service_may_leave_behind(
    broker: BrokerAccess,
    coordinator: Login,
    eventually: Callable[..., Any],
    queue: str,
    limits: dict[str, int],
) -> None:
    coordinator.channel().queue_declare(queue, exclusive=True)
    account = broker.accounts["coordinator"]

    def policy() -> Any:
        answer = requests.get(
            f"{broker.management_url}/api/queues/epu/{queue}",
            auth=(account.user, account.password),
            timeout=5,
        )
        return json.loads(answer.text).get("effective_policy_definition")

    assert eventually(policy) == limits
