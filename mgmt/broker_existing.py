"""Making a broker that somebody else runs fit for a run: accounts, exchanges, or neither."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import amqp
import requests

from agent.broker_tls import AMQPS_PORT, split_trust
from agent.messages import EVENTS_EXCHANGE, RPC_EXCHANGE, BrokerAccess, BrokerAccount
from coordinator.errors import ConfigProblem
from coordinator.management_api import session_for
from mgmt.broker_definitions import ACCOUNTS, definitions
from mgmt.broker_problems import BrokerSilent, BrokerUnavailable

#: Seconds for one connection or one request.
_PATIENCE = 5.0
_EVENT_EXCHANGE = "amq.rabbitmq.event"
#: Who consumes this queue of a virtual host is the coordinator that has it.
_PROVISIONER_QUEUE = "rpc-provisioner"


@dataclass(frozen=True)
class _Address:
    host: str
    port: int
    vhost: str
    account: BrokerAccount = field(repr=False)
    tls: bool = False
    ca: str = ""

    def __str__(self) -> str:
        return self.access().public_url

    def access(self, **more: Any) -> BrokerAccess:
        """Where it is and whom to trust there; ``more`` as BrokerAccess has it."""
        return BrokerAccess(
            host=self.host, port=self.port, vhost=self.vhost, tls=self.tls, ca=self.ca, **more
        )


def adopt(
    amqp_url: str,
    management_url: str | None,
    vhost: str | None,
    kept: BrokerAccess | None,
    say: Callable[[str], None],
    ca: str = "",
) -> BrokerAccess:
    """The access to the broker at ``amqp_url``; ``kept`` is of an earlier call, if any;
    ``ca``: whom to trust there with amqps, "" for the authorities of this machine.

    Raises BrokerUnavailable (not there, wrong password, no such virtual host), ConfigProblem
    (a URL that can't be; another run lives on that virtual host).
    """
    address = _parse(amqp_url, vhost, ca)
    management = management_url or _management_of(address)
    ours = kept is not None and _is_of(address, kept)
    if _is_administrator(address, management.rstrip("/"), named=bool(management_url)):
        if not ours and _is_taken_as_administrators_see(address, management.rstrip("/")):
            raise _taken(address)
        access = _with_accounts(address, management.rstrip("/"), kept)
        say(f"The broker {access.public_url} has the accounts of this run now.")
    else:
        access = address.access(
            accounts=dict.fromkeys(ACCOUNTS, address.account),
            management_url=management_url,
            shared=True,
        )
        say(
            f"accounts: shared. {access.public_url} gives no administrator's rights, so the"
            f" coordinator and EVERY NODE use the account {address.account.user!r}: whoever"
            " has one node has the whole run."
        )
    event_exchange = _prepare_exchanges(access, alone=access.shared and not ours)
    if not event_exchange:
        say(
            f"The exchange {_EVENT_EXCHANGE} is missing there (plugin rabbitmq_event_exchange),"
            " so a lost node is noticed by its silence only."
        )
    return replace(access, event_exchange=event_exchange)


def _management_of(address: _Address) -> str:
    scheme, port = ("https", 15671) if address.tls else ("http", 15672)
    return f"{scheme}://{address.host}:{port}"


def _parse(url: str, vhost: str | None, ca: str) -> _Address:
    """Raises ConfigProblem; its text never holds the URL, which has a password in it."""
    try:
        parts = urlsplit(url)
        tls = parts.scheme == "amqps"
        port = parts.port or (AMQPS_PORT if tls else 5672)
    except ValueError:
        raise ConfigProblem("the broker's URL has a port that is no number") from None
    if parts.scheme not in ("amqp", "amqps") or not parts.hostname:
        raise ConfigProblem(
            "the broker's URL must look like amqp[s]://USER:PASSWORD@HOST:PORT/VHOST"
        )
    if parts.username is None or parts.password is None:
        raise ConfigProblem("the broker's URL names no user and password")
    named = unquote(parts.path[1:]) if len(parts.path) > 1 else "/"
    account = BrokerAccount(user=unquote(parts.username), password=unquote(parts.password))
    return _Address(
        host=parts.hostname, port=port, vhost=vhost or named, account=account,
        tls=tls, ca=ca if tls else "",
    )  # fmt: skip


def _is_administrator(address: _Address, management: str, named: bool) -> bool:
    """Whether the management API takes the account of ``address`` as administrator.

    ``named``: a person gave its URL, so that it must answer.
    """
    try:
        answer = _request("GET", address, management, "/api/whoami")
    except requests.RequestException as problem:
        if not named:
            return False
        raise BrokerSilent(
            f"the management API at {management} does not answer: {type(problem).__name__}"
            " (check its URL, or leave it away to work with one shared account)"
        ) from None
    if answer.status_code != 200:
        return False
    try:
        tags = answer.json().get("tags", [])
    except (ValueError, AttributeError):
        return False  # something else listens on that port
    return "administrator" in (tags.split(",") if isinstance(tags, str) else tags)


def _is_of(address: _Address, kept: BrokerAccess) -> bool:
    there = (address.host, address.port, address.vhost)
    return there == (kept.host, kept.port, kept.vhost)


def _taken(address: _Address) -> ConfigProblem:
    return ConfigProblem(
        f"another run's coordinator lives on the virtual host {address.vhost!r} of {address}; two"
        " would end each other's workers (give this run a name or virtual host of its own, or"
        " tear that run down)"
    )


def _is_taken_as_administrators_see(address: _Address, management: str) -> bool:
    """Whether a coordinator lives there, before anything is made there."""
    with suppress(amqp.exceptions.AMQPError, OSError), _connection(address) as connection:
        return _is_taken(connection)
    # No virtual host of that name, or none that this account may enter yet. The management
    # API knows of both, but of a consumer only seconds after it came.
    path = f"/api/consumers/{quote(address.vhost, safe='')}"
    try:
        answer = _request("GET", address, management, path)
        if answer.status_code == 404:
            return False  # no such virtual host yet
        answer.raise_for_status()
        consumers = answer.json()
    except (requests.RequestException, ValueError) as problem:
        raise BrokerSilent(
            f"the management API at {management} does not say who uses the virtual host"
            f" {address.vhost!r}: {type(problem).__name__} (try again)"
        ) from None
    return any(consumer["queue"]["name"] == _PROVISIONER_QUEUE for consumer in consumers)


def _with_accounts(address: _Address, management: str, kept: BrokerAccess | None) -> BrokerAccess:
    fresh = address.access(
        accounts={"admin": address.account, **_accounts_to_make(address, kept)},
        management_url=management,
    )
    wanted = definitions(fresh, secrets.token_bytes(4), with_admin=False)
    try:
        answer = _request("POST", address, management, "/api/definitions", wanted)
    except requests.RequestException as problem:
        raise BrokerSilent(
            f"the management API at {management} did not take the accounts:"
            f" {type(problem).__name__} (try again)"
        ) from None
    if answer.status_code >= 300:
        raise BrokerUnavailable(
            f"the management API at {management} refused the accounts: {answer.status_code}"
            f" {answer.text[:200]} (try again, or ask its administrator)"
        )
    return fresh


def _accounts_to_make(address: _Address, kept: BrokerAccess | None) -> dict[str, BrokerAccount]:
    """The same as before where this directory has some; names that no other run uses."""
    if kept is not None and not kept.shared and kept.vhost == address.vhost:
        return {name: kept.accounts[name] for name in ACCOUNTS if name != "admin"}
    suffix = secrets.token_hex(4)
    return {
        name: BrokerAccount(user=f"epu-{name}-{suffix}", password=secrets.token_urlsafe(24))
        for name in ACCOUNTS
        if name != "admin"
    }


def _prepare_exchanges(access: BrokerAccess, alone: bool) -> bool:
    """Log in as the coordinator will, declare its exchanges; is the event exchange there?

    ``alone``: only if no coordinator is there. Raises ConfigProblem otherwise.
    """
    account = access.accounts["coordinator"]
    try:
        address = _Address(access.host, access.port, access.vhost, account, access.tls, access.ca)
        with _connection(address) as connection:
            if alone and _is_taken(connection):
                raise _taken(address)
            channel = connection.channel()
            for exchange in (RPC_EXCHANGE, EVENTS_EXCHANGE):
                channel.exchange_declare(exchange, "topic", durable=True, auto_delete=False)
            try:
                channel.exchange_declare(_EVENT_EXCHANGE, "topic", passive=True)
            except amqp.exceptions.NotFound:
                return False
            return True
    except amqp.exceptions.AccessRefused as refusal:
        raise BrokerUnavailable(
            f"{access.public_url} refuses the account {account.user!r}:"
            f" {refusal.reply_text} (check user, password and rights)"
        ) from None
    except amqp.exceptions.NotAllowed as refusal:
        raise BrokerUnavailable(
            f"{access.public_url} does not let {account.user!r} in: {refusal.reply_text}"
            " (check the virtual host in the URL)"
        ) from None
    except (amqp.exceptions.AMQPError, OSError) as problem:
        raise BrokerSilent(
            f"no broker answers at {access.public_url}: {problem} (check the address, and that"
            " the broker runs)"
        ) from None


def _connection(address: _Address) -> amqp.Connection:
    """Connects when entered."""
    _, trust = split_trust(address.access(accounts={"-": address.account}).amqp_url("-"))
    return amqp.Connection(
        host=f"{address.host}:{address.port}",
        ssl=trust or False,
        userid=address.account.user,
        password=address.account.password,
        virtual_host=address.vhost,
        connect_timeout=_PATIENCE,
        read_timeout=_PATIENCE,
        write_timeout=_PATIENCE,
    )


def _is_taken(connection: amqp.Connection) -> bool:
    try:
        found = connection.channel().queue_declare(_PROVISIONER_QUEUE, passive=True)
    except amqp.exceptions.NotFound:
        return False
    return int(found.consumer_count) > 0


def _request(
    method: str, address: _Address, management: str, path: str, body: object | None = None
) -> requests.Response:
    with session_for(address.access(), address.account) as session:
        return session.request(method, management + path, json=body, timeout=_PATIENCE)
