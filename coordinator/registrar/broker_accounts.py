"""One broker account per node, with rights to its own queues and keys and nothing else.

Works over RabbitMQ's management API, as the run's administrator. What the rights can't
stop is told in ``node_rights``: the receivers have to.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import requests

from agent.broker_access import UUID4
from agent.messages import (
    EVENTS_EXCHANGE,
    RPC_EXCHANGE,
    BrokerAccess,
    BrokerAccount,
    agent_queue,
    agent_service,
)
from coordinator.errors import CredentialsRejected, RetryLater
from coordinator.management_api import session_for

#: The key under which a node finds its account in its BrokerAccess.
NODE_ACCOUNT = "node"
#: Seconds for one request to the management API.
PATIENCE = 10.0

_USER_PREFIX = "node-"
_SERVER_NAMED = r"amq\.gen-.*"
_NOTHING = "^$"
_PUNCTUATION = re.compile(r"([^A-Za-z0-9_-])")


@dataclass(frozen=True)
class TopicRights:
    """Regular expressions of routing keys on one topic exchange: publish, bind."""

    exchange: str
    write: str
    read: str


@dataclass(frozen=True)
class NodeRights:
    """Regular expressions of names that a node may declare, write to, read from."""

    configure: str
    write: str
    read: str
    topics: tuple[TopicRights, ...]


def node_user(node_id: str) -> str:
    """The broker's user name of a node; heartbeats carry it as ``user_id``."""
    return f"{_USER_PREFIX}{node_id}"


def node_rights(node_id: str, pool: str, work_queues: Iterable[str]) -> NodeRights:
    """What the account of a node may do. PURE.

    It may be an agent: own its service's queue and server-named reply queues, answer callers
    (keys of replies are random UUIDs), call ``registrar.enrol``, ``starting`` and ``ready``,
    send beats and job events under its own key, and take jobs from the pool's work queues.

    RabbitMQ checks rights when a client publishes to an exchange, not when the broker
    itself passes a message on. A node that is taken over can therefore reach other keys
    of ``nameko-rpc`` through a queue or exchange of its own. Such a request shows it: it
    has an ``x-death`` header, or was delivered from an exchange other than ``nameko-rpc``.
    Who serves requests must refuse both. Nor may it be answered but under a reply's key: the
    answer is sent with the rights of who serves. And since a node may listen to any UUID, no
    caller may show it a key to which others answer, too (``agent.rpc_client``).
    """
    own_queues = (
        _escaped(agent_queue(node_id)),
        _SERVER_NAMED,
    )
    jobs = tuple(_escaped(queue) for queue in work_queues)
    node, group = _escaped(node_id), _escaped(pool)
    return NodeRights(
        configure=_one_of(own_queues),
        write=_one_of((RPC_EXCHANGE, _escaped(EVENTS_EXCHANGE), *own_queues)),
        read=_one_of((RPC_EXCHANGE, *own_queues, *jobs)),
        topics=(
            TopicRights(
                exchange=RPC_EXCHANGE,
                write=rf"^(registrar\.(enrol|starting|ready)|{UUID4})$",
                read=rf"^({_escaped(agent_service(node_id))}\.\*|{UUID4})$",
            ),
            TopicRights(
                exchange=EVENTS_EXCHANGE,
                write=rf"^(beat|job)\.{group}\.{node}$",
                read=_NOTHING,
            ),
        ),
    )


class BrokerAccounts:
    """Makes and removes node accounts on the broker of one run.

    On a shared broker (``access.shared``) every node gets the one account there is, and
    nothing is ever made or removed. Calls block for at most ``PATIENCE`` seconds each and
    may be repeated. Raises RetryLater when the management API does not answer, and
    CredentialsRejected when it does not take the administrator's account.
    """

    def __init__(self, access: BrokerAccess, run: str, patience: float = PATIENCE) -> None:
        self._access = access
        self._run = run
        self._patience = patience

    def create_node_account(
        self, node_id: str, pool: str, work_queues: Iterable[str] = ()
    ) -> BrokerAccount:
        """A new password and the rights of ``node_rights`` for the user of ``node_id``.

        The user may be there already: connections that are open stay open, and only the
        newest password opens others.
        """
        if self._access.shared:
            return self._access.accounts["coordinator"]
        user, password = node_user(node_id), secrets.token_urlsafe(24)
        rights = node_rights(node_id, pool, work_queues)
        # One request, so that no failure leaves a user with half of its rights.
        self._request("POST", "/api/definitions", self._definitions(user, password, rights))
        return BrokerAccount(user=user, password=password)

    def remove_node_account(self, node_id: str) -> None:
        """Delete the user, which closes its connections, and what it could leave behind.

        That is its queue and, under the same name, an exchange; the broker itself ends
        unused queues that it named. Nothing happens where nothing is there any more.
        """
        if self._access.shared:
            return
        self._request("DELETE", f"/api/users/{quote(node_user(node_id), safe='')}")
        left = quote(agent_queue(node_id), safe="")
        for kind in ("queues", "exchanges"):
            self._request("DELETE", f"/api/{kind}/{self._vhost}/{left}")

    def list_node_accounts(self) -> list[str]:
        """Node ids that have an account on this run's virtual host, sorted."""
        if self._access.shared:
            return []
        found = self._request("GET", f"/api/vhosts/{self._vhost}/permissions")
        users = [str(entry["user"]) for entry in found]
        return sorted(
            user.removeprefix(_USER_PREFIX) for user in users if user.startswith(_USER_PREFIX)
        )

    def available(self) -> bool:
        """Whether accounts can be made now; always so on a shared broker."""
        if self._access.shared:
            return True
        try:
            self._request("GET", "/api/whoami")
        except (RetryLater, CredentialsRejected):
            return False
        return True

    @property
    def _vhost(self) -> str:
        return quote(self._access.vhost, safe="")

    def _definitions(self, user: str, password: str, rights: NodeRights) -> dict[str, Any]:
        where = {"user": user, "vhost": self._access.vhost}
        return {
            "users": [
                {
                    "name": user,
                    "password_hash": _password_hash(password),
                    "hashing_algorithm": "rabbit_password_hashing_sha256",
                    "tags": "",
                }
            ],
            "permissions": [
                {
                    **where,
                    "configure": rights.configure,
                    "write": rights.write,
                    "read": rights.read,
                }
            ],
            "topic_permissions": [
                {**where, "exchange": topic.exchange, "write": topic.write, "read": topic.read}
                for topic in rights.topics
            ],
        }

    def _request(self, method: str, path: str, body: object | None = None) -> Any:
        """The decoded answer; None when there is no body, or the thing is not there."""
        admin = self._access.accounts["admin"]
        try:
            with session_for(self._access, admin) as session:
                url = f"{self._access.management_url}{path}"
                answer = session.request(method, url, json=body, timeout=self._patience)
        except requests.RequestException as problem:
            raise RetryLater(
                f"{self._run}: the broker's management API at {self._access.management_url}"
                f" does not answer: {type(problem).__name__}"
            ) from None
        if answer.status_code in (401, 403):
            raise CredentialsRejected(
                f"{self._run}: the broker's management API at {self._access.management_url}"
                f" does not take the account {admin.user!r}"
            )
        if answer.status_code == 404 and method == "DELETE":
            return None
        if answer.status_code >= 300:
            raise RetryLater(
                f"{self._run}: the broker's management API answered {answer.status_code} to"
                f" {method} {path}: {answer.text[:200]}"
            )
        return answer.json() if answer.content else None


def _one_of(patterns: Iterable[str]) -> str:
    return f"^({'|'.join(patterns)})$"


def _escaped(name: str) -> str:
    """``name`` literally, in a PCRE pattern."""
    return _PUNCTUATION.sub(r"\\\1", name)


def _password_hash(password: str) -> str:
    salt = secrets.token_bytes(4)
    digest = hashlib.sha256(salt + password.encode()).digest()
    return base64.b64encode(salt + digest).decode()
