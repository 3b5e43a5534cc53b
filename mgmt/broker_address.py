"""A system known by its broker's address alone, and the password for it. Never from argv.

``amqp://[USER@]HOST[:PORT]/VHOST``; a run's vhost is called like the run. The password is
EPU_BROKER_PASSWORD, or in a file that only its owner may read, or is asked for.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urlsplit

from agent.messages import BrokerAccess, BrokerAccount
from coordinator.errors import ConfigProblem, Problem

#: The account with which a person's commands talk to the coordinator.
ACCOUNT = "coordinator"
PASSWORD = "EPU_BROKER_PASSWORD"
_OPTION = "--broker"
_FORM = "write amqp://[USER@]HOST[:PORT]/VHOST"


@dataclass(frozen=True)
class BrokerAddress:
    """Where a broker is, and as whom we come. ``str`` of it is for people."""

    user: str
    host: str
    port: int
    vhost: str

    def __str__(self) -> str:
        return f"amqp://{self.user}@{self.host}:{self.port}/{quote(self.vhost, safe='')}"

    def access(self, password: str) -> BrokerAccess:
        """What a client needs, with this one account."""
        account = BrokerAccount(user=self.user, password=password)
        host = f"[{self.host}]" if ":" in self.host else self.host
        return BrokerAccess(
            host=host, port=self.port, vhost=self.vhost, accounts={ACCOUNT: account}
        )


def parse_address(text: str) -> BrokerAddress:
    """The address in words. Raises ConfigProblem, in which no part of a password is."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise _problem("it is no address", _FORM) from None
    if parts.password is not None:
        remedy = f"leave it out and set {PASSWORD}, or use --password-file"
        raise _problem("a password on a command line is seen by everybody here", remedy)
    if parts.scheme != "amqp":
        what = "TLS is not supported yet" if parts.scheme == "amqps" else "it is not amqp://"
        raise _problem(what, _FORM)
    if not parts.hostname:
        raise _problem("it names no host", _FORM)
    return BrokerAddress(
        user=unquote(parts.username or ACCOUNT),
        host=parts.hostname,
        port=port or 5672,
        vhost=_vhost(parts),
    )


def _vhost(parts: SplitResult) -> str:
    vhost = unquote(parts.path.removeprefix("/"))
    if not vhost or parts.query or parts.fragment or "/" in parts.path.removeprefix("/"):
        raise _problem("it must end in the vhost, which is called like the run", _FORM)
    return vhost


def find_password(
    address: BrokerAddress,
    environment: Mapping[str, str],
    file: Path | None,
    ask: Callable[[], str] | None,
) -> str:
    """From ``file``, else the environment, else by asking (None: nobody can be asked).

    Raises ConfigProblem when there is none, or when others may read the file.
    """
    if file is not None:
        return _from_file(file)
    if environment.get(PASSWORD):
        return environment[PASSWORD]
    if ask is None:
        remedy = f"set {PASSWORD}, or use --password-file"
        raise _problem(f"there is no password for {address}, and no terminal to ask", remedy)
    return ask()


def _from_file(file: Path) -> str:
    try:
        with open(file, encoding="utf-8") as opened:
            if os.fstat(opened.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise _problem("others may read it", f"chmod 600 {file}", str(file))
            password = opened.read().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as problem:
        what = problem.strerror if isinstance(problem, OSError) else "it is not text"
        raise _problem(str(what), "give a file that holds the password", str(file)) from None
    if not password:
        raise _problem("it is empty", "give a file that holds the password", str(file))
    return password


def _problem(what: str, remedy: str, where: str = _OPTION) -> ConfigProblem:
    return ConfigProblem([Problem(where=where, what=what, remedy=remedy)])
