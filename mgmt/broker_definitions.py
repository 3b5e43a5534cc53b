"""What a run's broker holds from its first second: users, rights, exchanges. PURE.

The same document is loaded by a private node at boot and posted to the management API of
an existing broker. Loading it again changes nothing and leaves node accounts alone.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from agent.broker_access import UUID4
from agent.keeper_names import CONTROLLER, SENSORS
from agent.messages import EVENTS_EXCHANGE, RPC_EXCHANGE, BrokerAccess, BrokerAccount

#: The accounts of a run's broker, as ``accounts.json`` names them.
ACCOUNTS = ("admin", "coordinator", "enrol")
#: ``monitoring`` lets the coordinator read queue statistics, and nothing more.
_TAGS = {"admin": "administrator", "coordinator": "monitoring", "enrol": ""}

#: Matches no resource: every name is at least one character long.
NOTHING = "^$"
EVERYTHING = ".*"
#: Queues that the broker names itself; others can't use one that is exclusive.
SERVER_NAMED = r"amq\.gen-.*"

#: Backstop for agent queues whose declaration forgot its arguments: milliseconds.
AGENT_QUEUE_LIMITS = {"expires": 60_000, "message-ttl": 15_000}
#: For queues that the broker named: of ours each has a consumer or ends with its connection,
#: but a node may declare some that outlive it. Milliseconds without a consumer.
SERVER_NAMED_LIMITS = {"expires": 60_000}
#: Requests to the controllers and sensors services of single pools. One that restarts is back in
#: seconds; one whose pool went back to the shared ones never is. Milliseconds without a consumer.
SINGLE_POOL_LIMITS = {"expires": 600_000}


def definitions(access: BrokerAccess, salt: bytes, *, with_admin: bool = True) -> dict[str, Any]:
    """The definitions document for ``access``; passwords appear as salted hashes only.

    ``salt``: four random bytes. ``with_admin`` is False where the administrator's account
    is not ours to change; it gets its rights in our virtual host all the same.
    """
    users = [name for name in ACCOUNTS if with_admin or name != "admin"]
    return {
        "users": [_user(access.accounts[name], salt, _TAGS[name]) for name in users],
        "vhosts": [{"name": access.vhost}],
        "permissions": [
            _permission(access, "admin", EVERYTHING, EVERYTHING, EVERYTHING),
            _permission(access, "coordinator", EVERYTHING, EVERYTHING, EVERYTHING),
            _permission(
                access,
                "enrol",
                configure=rf"^{SERVER_NAMED}$",
                write=rf"^({RPC_EXCHANGE}|{SERVER_NAMED})$",
                read=rf"^({RPC_EXCHANGE}|{SERVER_NAMED})$",
            ),
        ],
        "topic_permissions": [
            {
                "user": access.accounts["enrol"].user,
                "vhost": access.vhost,
                "exchange": RPC_EXCHANGE,
                "write": r"^registrar\.enrol$",
                "read": f"^{UUID4}$",
            }
        ],
        "exchanges": [_topic(access.vhost, RPC_EXCHANGE), _topic(access.vhost, EVENTS_EXCHANGE)],
        "policies": [
            _policy(access, "agent-queues-expire", "^rpc-agent-", AGENT_QUEUE_LIMITS),
            _policy(
                access,
                "single-pools-queues-expire",
                rf"^rpc-({CONTROLLER}|{SENSORS})-",
                SINGLE_POOL_LIMITS,
            ),
            _policy(access, "unused-queues-expire", rf"^{SERVER_NAMED}", SERVER_NAMED_LIMITS),
        ],
    }


def password_hash(password: str, salt: bytes) -> str:
    """RabbitMQ's form of a salted SHA-256; ``salt`` is four random bytes."""
    digest = hashlib.sha256(salt + password.encode()).digest()
    return base64.b64encode(salt + digest).decode()


def _user(account: BrokerAccount, salt: bytes, tags: str) -> dict[str, Any]:
    return {
        "name": account.user,
        "password_hash": password_hash(account.password, salt),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": tags,
    }


def _permission(
    access: BrokerAccess, account: str, configure: str, write: str, read: str
) -> dict[str, str]:
    return {
        "user": access.accounts[account].user,
        "vhost": access.vhost,
        "configure": configure,
        "write": write,
        "read": read,
    }


def _policy(
    access: BrokerAccess, name: str, pattern: str, limits: dict[str, int]
) -> dict[str, Any]:
    return {
        "vhost": access.vhost,
        "name": name,
        "pattern": pattern,
        "apply-to": "queues",
        "priority": 0,
        "definition": limits,
    }


def _topic(vhost: str, name: str) -> dict[str, Any]:
    return {
        "vhost": vhost,
        "name": name,
        "type": "topic",
        "durable": True,
        "auto_delete": False,
        "internal": False,
        "arguments": {},
    }
