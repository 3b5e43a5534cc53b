"""A system known by its broker's address alone, and the password for it. Never from argv.

``amqp[s]://[USER@]HOST[:PORT]/VHOST``; a run's vhost is called like the run. The password is
EPU_BROKER_PASSWORD, or in a file that only its owner may read, or is asked for. Whom to
trust, where the machine's own authorities are not meant, is in the file EPU_BROKER_CA.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urlsplit

from agent.broker_tls import AMQPS_PORT, trusting
from agent.messages import BrokerAccess, BrokerAccount
from coordinator.errors import ConfigProblem, Problem

#: The account with which a person's commands talk to the coordinator.
ACCOUNT = "coordinator"
PASSWORD = "EPU_BROKER_PASSWORD"
AUTHORITY = "EPU_BROKER_CA"
_OPTION = "--broker"
_FORM = "write amqp[s]://[USER@]HOST[:PORT]/VHOST"


@dataclass(frozen=True)
class BrokerAddress:
    """Where a broker is, and as whom we come. ``str`` of it is for people."""

    user: str
    host: str
    port: int
    vhost: str
    tls: bool = False

    def __str__(self) -> str:
        scheme = "amqps" if self.tls else "amqp"
        return f"{scheme}://{self.user}@{self.host}:{self.port}/{quote(self.vhost, safe='')}"

    def access(self, password: str, ca: str = "") -> BrokerAccess:
        """What a client needs, with this one account; ``ca``: see ``find_authority``."""
        account = BrokerAccount(user=self.user, password=password)
        host = f"[{self.host}]" if ":" in self.host else self.host
        return BrokerAccess(
            host=host,
            port=self.port,
            vhost=self.vhost,
            accounts={ACCOUNT: account},
            tls=self.tls,
            ca=ca if self.tls else "",
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
    if parts.scheme not in ("amqp", "amqps"):
        raise _problem("it is not amqp://", _FORM)
    if not parts.hostname:
        raise _problem("it names no host", _FORM)
    return BrokerAddress(
        user=unquote(parts.username or ACCOUNT),
        host=parts.hostname,
        port=port or (AMQPS_PORT if parts.scheme == "amqps" else 5672),
        vhost=_vhost(parts),
        tls=parts.scheme == "amqps",
    )


def find_authority(environment: Mapping[str, str]) -> str:
    """The certificate (PEM) in the file that EPU_BROKER_CA names; "" when nothing is named.

    Raises ConfigProblem for a file that can't be read or holds none.
    """
    file = environment.get(AUTHORITY)
    if not file:
        return ""
    remedy = f"set {AUTHORITY} to the broker's tls/ca.pem, or leave it unset"
    try:
        text = Path(file).expanduser().read_text("ascii")
        trusting(text)
    except OSError as problem:
        raise _problem(str(problem.strerror), remedy, file) from None
    except ValueError:
        raise _problem("it holds no certificate", remedy, file) from None
    return text


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
