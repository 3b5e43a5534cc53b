"""Is it ready? Checks that need no program of the service, and the loop that repeats them.

A look never raises and never outlasts its limit: trouble is a Look that is not ok, with
one sentence that a person understands.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Timer
from urllib.parse import urlsplit

from agent.messages import BrokerAccess, mask_url
from agent.wire import MalformedMessage, from_wire
from bootlevels.plan import CheckKind

#: Longest single look, seconds, whatever the check's own deadline is.
LOOK_LIMIT = 10.0
#: Longest rest after a look that took long, seconds.
_LONGEST_REST = 15.0
#: A broker may know its users a moment after it listens; longer, and they are wrong.
REFUSED_PATIENCE = 5.0
#: The account of an accounts file with which a broker is asked.
ACCOUNT = "coordinator"


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one look found. ``detail`` is a sentence for people.

    ``patience``: this trouble is not expected to mend itself; when nothing else has been
    seen for so many seconds, waiting longer is useless. ``unreachable``: nobody could be
    asked. ``tail`` are last lines of a program's output.
    """

    ok: bool
    detail: str
    patience: float | None = None
    unreachable: bool = False
    tail: tuple[str, ...] = ()


def wait_until_ready(
    look: Callable[[float], Look],
    *,
    interval: float,
    timeout: float,
    stop: Event,
    tell: Callable[[str], None] = lambda _: None,
    tries: int = 0,
) -> Look:
    """Look every ``interval`` seconds until it is ok, hopeless, or ``timeout`` is over.

    Less often when a look takes longer than that: see ``rest_after``.
    ``look`` is given its limit in seconds; ``tell`` gets every new detail. The answer is
    the last look, at most the one of number ``tries`` (0: any number); when ``stop`` was
    set meanwhile it is not ok.
    """
    end = time.monotonic() + timeout
    said = ""
    trouble_since: float | None = None
    looks = 0
    while True:
        began = time.monotonic()
        found = look(max(end - began, 0.1))
        looks += 1
        now = time.monotonic()
        if found.ok or stop.is_set() or looks == tries:
            return found
        if found.patience is None:
            trouble_since = None
        else:
            trouble_since = now if trouble_since is None else trouble_since
            if now - trouble_since >= found.patience:
                return found
        if now + interval >= end:
            return found
        if found.detail != said:
            said = found.detail
            tell(said)
        if stop.wait(rest_after(now - began, interval, end - now)):
            return found


def rest_after(took: float, interval: float, left: float) -> float:
    """Seconds until the next look, after one of ``took``, with ``left`` until the deadline.

    As long as the look at least: on a machine that is slow, or still booting, each look by ssh
    costs what the boot could use. Never more than half of the time that is left.
    """
    return max(interval, min(took, _LONGEST_REST, left / 2))


def look_at(kind: CheckKind, target: str, directory: Path, limit: float) -> Look:
    """One look of a check without a program; relative paths are from ``directory``."""
    limit = min(limit, LOOK_LIMIT)
    match kind:
        case CheckKind.TCP:
            return _look_tcp(target, limit)
        case CheckKind.HTTP:
            return _look_http(target, limit)
        case CheckKind.AMQP:
            return _look_amqp(target, directory, limit)
        case CheckKind.FILE:
            return _look_file(directory / target)
        case CheckKind.RUN | CheckKind.POOL:
            raise ValueError("programs and pools are not looked at from here")


def _look_tcp(target: str, limit: float) -> Look:
    host, _, port = target.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        return Look(ok=False, detail=f"'{target}' is not host:port", patience=0)
    try:
        with socket.create_connection((host.strip("[]"), int(port)), limit):
            return Look(ok=True, detail=f"{target} accepts connections")
    except (OSError, UnicodeError) as problem:
        return Look(ok=False, detail=f"{target} does not answer: {_text(problem)}")


def _look_http(target: str, limit: float) -> Look:
    try:
        url = urlsplit(target)
        port = url.port
    except ValueError:
        return Look(ok=False, detail=f"'{target}' is not a URL", patience=0)
    if url.scheme not in ("http", "https") or not url.hostname:
        return Look(ok=False, detail=f"'{mask_url(target)}' is not an http URL", patience=0)
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.hostname, port, timeout=limit)
    path = f"{url.path or '/'}?{url.query}" if url.query else url.path or "/"
    shown = mask_url(target)

    def cut() -> None:
        with suppress(OSError):
            if connection.sock is not None:
                connection.sock.shutdown(socket.SHUT_RDWR)

    # The time-out of the socket is for each read; a server that drips never runs into it.
    timer = Timer(limit, cut)
    timer.daemon = True
    timer.start()
    try:
        with closing(connection):
            connection.request("GET", path, headers={"Connection": "close"})
            status = connection.getresponse().status
    except (OSError, http.client.HTTPException, ValueError) as problem:
        return Look(ok=False, detail=f"{shown} does not answer: {_text(problem)}")
    finally:
        timer.cancel()
    return Look(ok=status < 400, detail=f"{shown} answers {status}")


def _look_file(path: Path) -> Look:
    try:
        path.stat()
    except (OSError, ValueError) as problem:
        return Look(ok=False, detail=f"{path} is not there: {_text(problem)}")
    return Look(ok=True, detail=f"{path} is there")


def _look_amqp(target: str, directory: Path, limit: float) -> Look:
    # kombu takes a tenth of a second to import: only plans that ask a broker pay for it.
    import amqp.exceptions
    from kombu.exceptions import KombuError

    from agent.broker_link import connection_to

    url = target
    if "://" not in target:
        try:
            url = read_accounts(directory / target).amqp_url(ACCOUNT)
        except (OSError, ValueError) as problem:
            return Look(ok=False, detail=_text(problem))
        except KeyError:
            detail = f"{target} holds no account '{ACCOUNT}'"
            return Look(ok=False, detail=detail, patience=REFUSED_PATIENCE)
    shown = mask_url(url)
    options = {"max_retries": 0, "read_timeout": limit, "write_timeout": limit}
    try:
        transport = connection_to(url, connect_timeout=limit, transport_options=options).transport
        # Not Connection.connect(): that sleeps two seconds and tries again, whatever one says.
        transport.close_connection(transport.establish_connection())
    except (amqp.exceptions.AccessRefused, amqp.exceptions.NotAllowed) as problem:
        detail = f"the broker at {shown} refuses the account: {_text(problem)}"
        return Look(ok=False, detail=detail, patience=REFUSED_PATIENCE)
    except (OSError, amqp.exceptions.AMQPError, KombuError, ValueError) as problem:
        detail = f"the broker at {shown} does not answer: {_text(problem)}"
        return Look(ok=False, detail=detail, unreachable=True)
    return Look(ok=True, detail=f"the broker at {shown} accepts the account")


def read_accounts(path: Path) -> BrokerAccess:
    """The accounts file at ``path``. Raises OSError, ValueError; no text of the file in them."""
    text = path.read_text(encoding="utf-8")
    try:
        return from_wire(BrokerAccess, json.loads(text))
    except MalformedMessage as problem:
        raise ValueError(f"{path} is not an accounts file: {problem}") from None
    except ValueError:
        raise ValueError(f"{path} is not an accounts file") from None


def _text(problem: BaseException) -> str:
    """One line of an error without a password."""
    if isinstance(problem, OSError) and problem.strerror:
        where = f" '{problem.filename}'" if problem.filename else ""
        return f"{problem.strerror}{where}"
    text = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
    return mask_url(text) if "://" in text else text
