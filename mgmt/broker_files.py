"""The directory of one private broker node: what is kept in it and in which form.

::

    accounts.json      where the broker is, and its accounts      (0600)
    node.json          ports, node name and mark; kept for ever, as agents know the ports
    definitions.json   users (hashed), rights, exchanges           (0600, made at each start)
    rabbitmq.conf      made at each start
    tls/               certificate, its key and authority, where others may connect (0600)
    home/              HOME of the node, with its Erlang cookie    (0600)
    data/  logs/       RabbitMQ's own
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent.messages import BrokerAccess
from agent.wire import from_wire, to_wire

LOOPBACK = "127.0.0.1"
#: RabbitMQ stops taking messages below this much free disk; starting needs twice as much.
DISK_RESERVE = 64 * 1024 * 1024
_EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


@dataclass(frozen=True)
class Ports:
    """TCP ports of a node; the one for distribution is on 127.0.0.1 wherever it listens."""

    amqp: int
    management: int
    distribution: int

    def taken(self) -> list[int]:
        """Those on which another program listens now."""
        return [port for port in asdict(self).values() if not _is_free(port)]


@dataclass(frozen=True)
class NodeIdentity:
    """What stays the same over restarts. ``mark``: see ``broker_processes``; ``host``: the
    address of this machine on which the node listens, and by which others know it; ``tls``:
    it takes no other connections.
    """

    name: str
    mark: str
    vhost: str
    ports: Ports
    host: str = LOOPBACK
    tls: bool = False


@dataclass(frozen=True)
class BrokerFiles:
    """Paths below the directory of one node, and its small files."""

    directory: Path

    @property
    def accounts(self) -> Path:
        return self.directory / "accounts.json"

    @property
    def identity(self) -> Path:
        return self.directory / "node.json"

    @property
    def definitions(self) -> Path:
        return self.directory / "definitions.json"

    @property
    def config(self) -> Path:
        return self.directory / "rabbitmq.conf"

    @property
    def plugins(self) -> Path:
        return self.directory / "enabled_plugins"

    @property
    def home(self) -> Path:
        return self.directory / "home"

    @property
    def cookie(self) -> Path:
        return self.home / ".erlang.cookie"

    @property
    def tls(self) -> Path:
        """The directory of the certificate, where there is one."""
        return self.directory / "tls"

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def logs(self) -> Path:
        return self.directory / "logs"

    @property
    def log(self) -> Path:
        return self.logs / "rabbitmq.log"

    @property
    def startup_log(self) -> Path:
        return self.logs / "startup.log"

    def read_identity(self) -> NodeIdentity | None:
        """The identity of a node that was started here before."""
        text = _read(self.identity)
        if text is None:
            return None
        kept = json.loads(text)
        return NodeIdentity(**{**kept, "ports": Ports(**kept["ports"])})

    def write_identity(self, identity: NodeIdentity) -> None:
        write_private(self.identity, json.dumps(asdict(identity), indent=1))

    def read_access(self) -> BrokerAccess | None:
        """The content of ``accounts.json``."""
        text = _read(self.accounts)
        return None if text is None else from_wire(BrokerAccess, json.loads(text))

    def write_access(self, access: BrokerAccess) -> None:
        write_private(self.accounts, json.dumps(to_wire(access), indent=1))

    def write_json(self, path: Path, value: Any) -> None:
        write_private(path, json.dumps(value, indent=1))

    def last_lines(self, count: int = 8) -> str:
        """The last lines of what the node wrote, its own log first."""
        for path in (self.log, self.startup_log):
            lines = (_read(path) or "").rstrip().splitlines()
            if lines:
                return "\n".join(line[:300] for line in lines[-count:])
        return ""

    def put_logs_aside(self) -> None:
        """So that what is read after a start was written by it."""
        for log in (self.log, self.startup_log):
            if log.exists():
                log.replace(log.with_suffix(".previous.log"))

    @contextmanager
    def only_one(self, deadline: float) -> Iterator[None]:
        """Two commands never start or stop one node at the same time: the later waits.

        Raises TimeoutError at ``deadline`` (monotonic).
        """
        with open(self.directory / "lock", "a") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise TimeoutError from None
                    time.sleep(0.1)
            yield


def write_private(path: Path, text: str) -> None:
    """Replace ``path`` at once by a file that only its owner can read, from the first byte."""
    draft = path.with_name(f".{path.name}.new")
    with suppress(FileNotFoundError):
        draft.unlink()
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def choose_ports() -> Ports:
    """Three free ports below the range from which the system takes source ports.

    Inside that range a client that keeps connecting to a dead broker sooner or later gets
    the broker's own port as its source, is connected to itself, and holds the port.
    """
    low = int(_EPHEMERAL_RANGE.read_text().split()[0]) if _EPHEMERAL_RANGE.exists() else 32768
    candidates = range(10_000, low) if low > 12_000 else range(61_000, 65_000)
    chosen: list[int] = []
    for port in random.SystemRandom().sample(candidates, k=min(500, len(candidates))):
        if _is_free(port):
            chosen.append(port)
        if len(chosen) == 3:
            return Ports(*chosen)
    raise OSError("no free port on 127.0.0.1")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As RabbitMQ does: connections of the last node that linger do not matter.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return None
