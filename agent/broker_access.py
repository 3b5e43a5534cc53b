"""Where the broker is and with which accounts: part of the wire, and of files. PURE."""

from __future__ import annotations

import base64
import re
import textwrap
from dataclasses import dataclass, field
from urllib.parse import quote

#: Keys of replies: what ``str(uuid.uuid4())`` makes, as RabbitMQ and Python both read it.
UUID4 = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


def is_reply_key(key: object) -> bool:
    """Whether ``key`` is one that replies are sent to, and no method of a service."""
    return isinstance(key, str) and re.fullmatch(UUID4, key) is not None


@dataclass(frozen=True, kw_only=True)
class BrokerAccount:
    """One user of the broker. The password never appears in ``repr``."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class BrokerAccess:
    """Where the broker is and the accounts a program holds for it.

    The content of an ``accounts.json`` (mode 0600): the whole set beside a private broker,
    a single account on a node. ``statistics_interval``: how often the broker samples its
    queues, seconds; 5 is RabbitMQ's default, a private node takes 1. ``tls``: the broker
    takes no other connections; ``ca``: the authority that its certificate is of (PEM), empty
    for those that the machine itself trusts.
    """

    host: str
    port: int
    vhost: str
    accounts: dict[str, BrokerAccount] = field(default_factory=dict)
    management_url: str | None = None
    event_exchange: bool = False
    statistics_interval: float = 5.0
    shared: bool = False
    tls: bool = False
    ca: str = ""
    version: int = 1

    def amqp_url(self, account: str) -> str:
        """The address of one account, percent-encoded. Raises KeyError for an unknown one.

        With TLS it says whom to trust (see ``agent.broker_tls``), which other libraries'
        URLs don't: take it apart by ``split_trust`` or open it by ``connection_to``.
        """
        who = self.accounts[account]
        trust = f"?ca={_url_text_of(self.ca)}" if self.tls and self.ca else ""
        return (
            f"{self._scheme}://{quote(who.user, safe='')}:{quote(who.password, safe='')}"
            f"@{self.host}:{self.port}/{quote(self.vhost, safe='')}{trust}"
        )

    @property
    def _scheme(self) -> str:
        return "amqps" if self.tls else "amqp"

    @property
    def public_url(self) -> str:
        """The address without any account, for records and messages to people."""
        return f"{self._scheme}://{self.host}:{self.port}/{quote(self.vhost, safe='')}"


def _url_text_of(ca: str) -> str:
    """The certificate of a PEM text as base64url, for an address."""
    lines = [line.strip() for line in ca.strip().splitlines()]
    inner = "".join(line for line in lines if line and not line.startswith("-----"))
    return inner.replace("+", "-").replace("/", "_").rstrip("=")


def ca_of_url_text(text: str) -> str:
    """The PEM text of a certificate in an address. Raises ValueError."""
    whole = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    body = "\n".join(textwrap.wrap(base64.b64encode(whole).decode(), 64))
    return f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"


def mask_url(url: str) -> str:
    """``url`` with its password replaced by ``***``; anything else is left as it is.

    The certificate of its authority, which nobody reads, is left out.
    """
    if url.startswith("amqps://"):
        url = url.partition("?ca=")[0]
    scheme, separator, rest = url.partition("://")
    account, at, place = rest.rpartition("@")
    if not separator or not at or ":" not in account:
        return url
    return f"{scheme}://{account.split(':', 1)[0]}:***@{place}"
