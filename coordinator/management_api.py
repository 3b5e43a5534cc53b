"""The way to a broker's HTTP API: never by a proxy, and trusting whom the accounts name."""

from __future__ import annotations

from typing import Any

import requests
from requests.adapters import HTTPAdapter

from agent.broker_tls import context_of
from agent.messages import BrokerAccess, BrokerAccount


def session_for(access: BrokerAccess, account: BrokerAccount | None = None) -> requests.Session:
    """A session for the API of ``access``, as ``account``. Close it, or use it as a context."""
    session = requests.Session()
    session.trust_env = False  # a proxy of the environment has no business here, nor has ~/.netrc
    if account is not None:
        session.auth = (account.user, account.password)
    if access.tls and access.ca:
        session.mount("https://", _OneAuthority(access))
    return session


class _OneAuthority(HTTPAdapter):
    """Trusts the run's own authority alone, by whatever name the broker is reached."""

    def __init__(self, access: BrokerAccess) -> None:
        self._context = context_of(access)
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        options |= {"ssl_context": self._context, "assert_hostname": False}
        super().init_poolmanager(*args, **options)

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Adds no other authority: what requests does here is to take in the public ones."""
        conn.cert_reqs = "CERT_REQUIRED"
