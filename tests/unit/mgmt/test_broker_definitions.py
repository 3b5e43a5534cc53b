"""The definitions document that a run's broker is loaded with."""

from __future__ import annotations

import json
import re
import uuid

from agent.messages import BrokerAccess, BrokerAccount
from mgmt.broker_definitions import ACCOUNTS, UUID4, definitions, password_hash

ACCESS = BrokerAccess(
    host="127.0.0.1",
    port=5672,
    vhost="epu",
    accounts={
        name: BrokerAccount(user=f"{name}-user", password=f"{name}-secret") for name in ACCOUNTS
    },
)


def test_a_password_is_hashed_as_rabbitmq_hashes_it() -> None:
    # The example of RabbitMQ's own documentation.
    hashed = password_hash("test12", bytes.fromhex("908DC60A"))
    assert hashed == "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"


def test_no_password_is_in_the_document() -> None:
    assert "secret" not in json.dumps(definitions(ACCESS, b"salt"))


def test_only_the_administrator_is_one() -> None:
    tags = {user["name"]: user["tags"] for user in definitions(ACCESS, b"salt")["users"]}
    assert tags == {
        "admin-user": "administrator",
        "coordinator-user": "monitoring",
        "enrol-user": "",
    }


def test_an_administrator_who_is_not_ours_keeps_account_and_password() -> None:
    document = definitions(ACCESS, b"salt", with_admin=False)
    assert "admin-user" not in {user["name"] for user in document["users"]}
    assert "admin-user" in {permission["user"] for permission in document["permissions"]}


def test_keys_of_replies_are_version_four_uuids_only() -> None:
    assert all(re.fullmatch(UUID4, str(uuid.uuid4())) for _ in range(100))
    assert not re.fullmatch(UUID4, str(uuid.uuid1()))
    assert not re.fullmatch(UUID4, "provisioner.apply")
