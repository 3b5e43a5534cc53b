"""Where the broker is and with which accounts: part of the wire, and of files. PURE."""

from __future__ import annotations

import re
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
    queues, seconds; 5 is RabbitMQ's default, a private node takes 1.
    """

    host: str
    port: int
    vhost: str
    accounts: dict[str, BrokerAccount] = field(default_factory=dict)
    management_url: str | None = None
    event_exchange: bool = False
    statistics_interval: float = 5.0
    shared: bool = False
    version: int = 1

    def amqp_url(self, account: str) -> str:
        """The AMQP URL of one account, percent-encoded. Raises KeyError for an unknown one."""
        who = self.accounts[account]
        return (
            f"amqp://{quote(who.user, safe='')}:{quote(who.password, safe='')}"
            f"@{self.host}:{self.port}/{quote(self.vhost, safe='')}"
        )

    @property
    def public_url(self) -> str:
        """The address without any account, for records and messages to people."""
        return f"amqp://{self.host}:{self.port}/{quote(self.vhost, safe='')}"


def mask_url(url: str) -> str:
    """``url`` with its password replaced by ``***``; anything else is left as it is."""
    scheme, separator, rest = url.partition("://")
    account, at, place = rest.rpartition("@")
    if not separator or not at or ":" not in account:
        return url
    return f"{scheme}://{account.split(':', 1)[0]}:***@{place}"
