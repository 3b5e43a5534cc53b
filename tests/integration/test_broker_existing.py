"""A broker that somebody else runs: with an administrator's account, and without one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import amqp
import pytest
import requests

from agent.messages import BrokerAccess
from coordinator.errors import ConfigProblem
from coordinator.registrar.broker_accounts import BrokerAccounts
from mgmt.broker import (
    BrokerUnavailable,
    broker_status,
    start_broker,
    stop_broker,
    use_existing_broker,
)

pytestmark = pytest.mark.integration


def _publish(access: BrokerAccess, account: str, key: str) -> None:
    who = access.accounts[account]
    with amqp.Connection(
        host=f"{access.host}:{access.port}",
        userid=who.user,
        password=who.password,
        virtual_host=access.vhost,
        connect_timeout=5,
        read_timeout=5,
    ) as connection:
        channel = connection.channel()
        channel.basic_publish(amqp.Message("{}"), "nameko-rpc", key)
        channel.basic_qos(0, 1, False)


def _url(access: BrokerAccess, account: str, password: str | None = None) -> str:
    who = access.accounts[account]
    secret = quote(password or who.password, safe="")
    return f"amqp://{who.user}:{secret}@{access.host}:{access.port}/{access.vhost}"


def test_an_administrator_gets_a_virtual_host_and_accounts_for_the_run(
    broker: BrokerAccess, tmp_path: Path
) -> None:
    said: list[str] = []

    def use(directory: str) -> BrokerAccess:
        return use_existing_broker(
            tmp_path / directory,
            _url(broker, "admin"),
            broker.management_url,
            vhost="second run",
            say=said.append,
        )

    access = use("one")
    try:
        assert not access.shared
        assert access.vhost == "second run"
        assert len({account.user for account in access.accounts.values()}) == 3
        assert (tmp_path / "one/accounts.json").stat().st_mode & 0o777 == 0o600
        assert broker_status(tmp_path / "one").state == "existing"
        assert "accounts of this run" in said[0]

        _publish(access, "coordinator", "provisioner.apply")
        _publish(access, "enrol", "registrar.enrol")
        with pytest.raises(amqp.exceptions.AccessRefused):
            _publish(access, "enrol", "provisioner.apply")

        nodes = BrokerAccounts(access, "second run")
        node = nodes.create_node_account("x-0", "web", [])
        at_node = replace(access, accounts={"node": node})
        _publish(at_node, "node", "registrar.ready")
        assert nodes.list_node_accounts() == ["x-0"]
        assert BrokerAccounts(broker, "first run").list_node_accounts() == []
        nodes.remove_node_account("x-0")

        # Again: the same accounts. For another run: others, and the first keep working.
        assert use("one") == access
        other = use("two")
        assert other.accounts["enrol"].user != access.accounts["enrol"].user
        _publish(access, "enrol", "registrar.enrol")

        # Nobody stops, or starts over, what is not ours.
        assert stop_broker(tmp_path / "one") == ()
        _publish(access, "coordinator", "provisioner.apply")
        with pytest.raises(BrokerUnavailable, match="belongs to the existing broker"):
            start_broker(tmp_path / "one")
    finally:
        admin = broker.accounts["admin"]
        requests.delete(
            f"{broker.management_url}/api/vhosts/second%20run",
            auth=(admin.user, admin.password),
            timeout=10,
        ).raise_for_status()


@contextmanager
def _coordinator_of(access: BrokerAccess) -> Iterator[None]:
    """What others see of a coordinator that runs: its provisioner's queue is consumed."""
    who = access.accounts["coordinator"]
    with amqp.Connection(
        host=f"{access.host}:{access.port}",
        userid=who.user,
        password=who.password,
        virtual_host=access.vhost,
        connect_timeout=5,
        read_timeout=5,
    ) as connection:
        channel = connection.channel()
        channel.queue_declare("rpc-provisioner", durable=True, auto_delete=True)
        channel.basic_consume("rpc-provisioner")
        yield


@pytest.mark.parametrize("account", ["admin", "coordinator"])
def test_a_virtual_host_on_which_another_run_lives_is_refused_and_left_as_it_was(
    broker: BrokerAccess, tmp_path: Path, account: str
) -> None:
    """Two coordinators would hear each other's calls, and end each other's workers."""
    admin = broker.accounts["admin"]

    def use(directory: str) -> BrokerAccess:
        management = broker.management_url if account == "admin" else None
        return use_existing_broker(tmp_path / directory, _url(broker, account), management)

    def users() -> list[str]:
        url = f"{broker.management_url}/api/users"
        answer = requests.get(url, auth=(admin.user, admin.password), timeout=10)
        return sorted(user["name"] for user in answer.json())

    access = use("one")
    before = users()
    with _coordinator_of(access):
        with pytest.raises(ConfigProblem, match="another run") as refusal:
            use("two")
        assert "virtual host 'epu'" in str(refusal.value)
        assert "tear that run down" in str(refusal.value)
        assert users() == before
        assert not (tmp_path / "two/accounts.json").exists()
        assert use("one") == access, "the run itself may come again"
    assert use("two").vhost == access.vhost, "it is free again"


def test_a_virtual_host_that_the_administrator_may_not_enter_yet_is_looked_at_all_the_same(
    broker: BrokerAccess, tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    admin = broker.accounts["admin"]
    who = (admin.user, admin.password)
    there = f"{broker.management_url}/api/vhosts/theirs"

    def use(directory: str) -> BrokerAccess:
        url, management = _url(broker, "admin"), broker.management_url
        return use_existing_broker(tmp_path / directory, url, management, vhost="theirs")

    access = use("one")
    try:
        rights = f"{broker.management_url}/api/permissions/theirs/{admin.user}"
        with _coordinator_of(access):
            requests.delete(rights, auth=who, timeout=10).raise_for_status()
            consumers = f"{broker.management_url}/api/consumers/theirs"
            eventually(lambda: requests.get(consumers, auth=who, timeout=10).json(), 20)
            with pytest.raises(ConfigProblem, match="another run"):
                use("two")
    finally:
        requests.delete(there, auth=who, timeout=10).raise_for_status()


def test_without_an_administrator_the_account_is_shared_and_this_is_said_loudly(
    broker: BrokerAccess, tmp_path: Path
) -> None:
    said: list[str] = []
    access = use_existing_broker(
        tmp_path / "b", _url(broker, "coordinator"), broker.management_url, say=said.append
    )
    assert access.shared
    assert access.event_exchange
    assert set(access.accounts.values()) == {broker.accounts["coordinator"]}
    assert said[0].startswith("accounts: shared.")
    assert broker.accounts["coordinator"].password not in said[0]
    assert broker_status(tmp_path / "b").shared
    account = BrokerAccounts(access, "run").create_node_account("x-0", "web", [])
    assert account == broker.accounts["coordinator"]


def test_without_a_management_api_the_account_is_shared(
    broker: BrokerAccess, tmp_path: Path
) -> None:
    assert use_existing_broker(tmp_path / "b", _url(broker, "admin")).shared


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"password": "wrong"}, "refuses the account 'coordinator'"),
        ({"vhost": "nowhere"}, "does not let 'coordinator' in"),
        ({"port": 1}, "no broker answers at amqp://127.0.0.1:1/epu"),
        ({"management_url": "http://127.0.0.1:1"}, "management API at http://127.0.0.1:1 does not"),
    ],
)
def test_what_is_wrong_with_an_existing_broker_is_one_sentence_with_a_remedy(
    broker: BrokerAccess, tmp_path: Path, change: dict[str, object], sentence: str
) -> None:
    url = _url(broker, "coordinator", password=str(change.get("password", "")) or None)
    if "port" in change:
        url = url.replace(f":{broker.port}/", ":1/")
    with pytest.raises(BrokerUnavailable, match=sentence) as refusal:
        use_existing_broker(
            tmp_path / "b",
            url,
            management_url=str(change.get("management_url", "")) or None,
            vhost=str(change.get("vhost", "")) or None,
        )
    text = str(refusal.value)
    assert text.endswith(")")
    assert "\n" not in text
    assert broker.accounts["coordinator"].password not in text
    assert not (tmp_path / "b/accounts.json").exists()


@pytest.mark.parametrize(
    "url",
    ["http://u:s3cret@h/", "u:s3cret@h", "mqtt://u:s3cret@h/", "amqp://u:s3cret@h:x/", "amqp://h"],
)
def test_a_url_that_can_not_be_used_is_refused_without_showing_it(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigProblem, match="the broker's URL") as refusal:
        use_existing_broker(tmp_path / "b", url)
    assert "s3cret" not in str(refusal.value)
