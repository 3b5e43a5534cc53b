"""A private RabbitMQ node in a directory of ours; or an existing broker made fit for a run.

All calls may be repeated: they look first at what is there. The ports, accounts and data
of a directory stay the same over restarts, because agents and coordinator processes keep
them. The directory's layout is told in ``broker_files``.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from agent.messages import BrokerAccess
from coordinator.errors import ConfigProblem
from mgmt.broker_address import find_authority
from mgmt.broker_existing import adopt
from mgmt.broker_files import BrokerFiles
from mgmt.broker_problems import BrokerUnavailable, file_problems
from mgmt.broker_processes import (
    StoppedProcess,
    beam_of,
    end_node,
    node_processes,
    resident_bytes,
)
from mgmt.broker_start import ANY_OWN, NodeStart, is_own_address, is_ready, listens

__all__ = [
    "BrokerStatus",
    "BrokerUnavailable",
    "StoppedProcess",
    "broker_status",
    "run_broker",
    "start_broker",
    "stop_broker",
    "use_existing_broker",
]

_VHOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}")


@dataclass(frozen=True)
class BrokerStatus:
    """``state`` is one of:

    ``absent`` nothing was ever started here · ``stopped`` · ``starting`` (the process
    lives but does not answer, not yet or no longer) · ``running`` · ``existing``
    (somebody else's broker, listening) · ``unreachable`` (the same, not listening).
    ``address`` holds no password. ``memory`` is resident, in bytes.
    """

    directory: Path
    state: str
    address: str = ""
    management_url: str = ""
    pid: int = 0
    memory: int = 0
    processes: int = 0
    shared: bool = False
    event_exchange: bool = False

    @property
    def usable(self) -> bool:
        return self.state in ("running", "existing")


#: Seconds that a node may take to be ready where a supervisor keeps it.
_SUPERVISED_START = 900.0


def _silent(_: str) -> None:
    return None


def start_broker(
    directory: Path,
    vhost: str = "epu",
    timeout: float = 60.0,
    say: Callable[[str], None] = _silent,
    host: str | None = None,
    insecure: bool = False,
) -> BrokerAccess:
    """Start the private node of ``directory``, or find that it runs already.

    Returns when the node takes connections and holds its accounts and exchanges; it goes
    on running when the caller ends. ``say`` is told what was done, one sentence.
    ``accounts.json`` appears with the first successful start. ``timeout`` is in seconds.
    ``host``: the IPv4 address of this machine on which it is to listen, ``auto`` for the one
    that others see, None for where it listened before, else 127.0.0.1; it stays the same over
    restarts. Beyond loopback everything goes by TLS,
    with a certificate of the run's own authority, unless ``insecure``. Raises
    BrokerUnavailable, ConfigProblem (a virtual host or address that can't be).
    """
    deadline = time.monotonic() + timeout
    if not _VHOST.fullmatch(vhost):
        raise ConfigProblem(f"{vhost!r} can't name a virtual host: letters, digits and ._- only")
    if host not in (None, ANY_OWN) and not is_own_address(host or ""):
        raise ConfigProblem(
            f"no broker can listen on {host!r} (give an IPv4 address of this machine, or {ANY_OWN})"
        )
    files = BrokerFiles(directory.resolve())
    with file_problems(files.directory):
        files.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with files.only_one(deadline):
            return NodeStart(files, vhost, host, deadline, timeout, say, insecure).run()


def run_broker(
    directory: Path,
    vhost: str,
    host: str | None,
    say: Callable[[str], None] = _silent,
    insecure: bool = False,
) -> int:
    """``start_broker``, and stay until the node ends (1) or SIGTERM or Ctrl-C ends it (0).

    For a supervisor that starts it again: nobody waits for the first start, so it may take
    minutes, as it does on an emulated processor.
    """

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    try:
        start_broker(directory, vhost, _SUPERVISED_START, say, host, insecure)
        identity = BrokerFiles(directory.resolve()).read_identity()
        beam = None if identity is None else beam_of(node_processes(identity.mark))
        while beam is not None and beam.alive:
            time.sleep(0.5)
    except KeyboardInterrupt:
        stop_broker(directory)
        return 0
    say(f"The broker in {directory} ended.")
    return 1


def stop_broker(directory: Path, timeout: float = 30.0) -> tuple[StoppedProcess, ...]:
    """End every process of the private node of ``directory``: what was ended, () if nothing.

    The node has most of ``timeout`` seconds to close its files in peace, else it is
    killed. An existing broker is nobody's to stop: (). Raises BrokerUnavailable when a
    process can't be ended even so.
    """
    files = BrokerFiles(directory.resolve())
    if not files.directory.is_dir():
        return ()
    with file_problems(files.directory), files.only_one(time.monotonic() + timeout):
        identity = files.read_identity()
        return () if identity is None else end_node(identity.mark, timeout)


def broker_status(directory: Path) -> BrokerStatus:
    """How the broker of ``directory`` is, looked at now; answers within a few seconds."""
    files = BrokerFiles(directory.resolve())
    with file_problems(files.directory):
        access, identity = files.read_access(), files.read_identity()
    if access is None and identity is None:
        return BrokerStatus(directory=files.directory, state="absent")
    status = BrokerStatus(directory=files.directory, state="stopped")
    if access is not None:
        status = replace(
            status,
            address=access.public_url,
            management_url=access.management_url or "",
            shared=access.shared,
            event_exchange=access.event_exchange,
        )
    if identity is None:
        answers = access is not None and listens(access.host, access.port)
        return replace(status, state="existing" if answers else "unreachable")
    processes = node_processes(identity.mark)
    beam = beam_of(processes)
    if beam is None:
        return replace(status, processes=len(processes))
    return replace(
        status,
        state="running" if access is not None and is_ready(access) else "starting",
        pid=beam.pid,
        memory=sum(resident_bytes(process) for process in processes),
        processes=len(processes),
    )


def use_existing_broker(
    directory: Path,
    amqp_url: str,
    management_url: str | None = None,
    vhost: str | None = None,
    timeout: float = 30.0,
    say: Callable[[str], None] = _silent,
) -> BrokerAccess:
    """Make a broker that somebody else runs fit for a run, and keep its ``accounts.json``.

    ``amqp_url`` names the account to start with; ``vhost`` goes before the URL's. With an
    administrator's account and a reachable management API (``management_url``, else port
    15672 of the same host, 15671 with TLS), the virtual host, accounts and exchanges are
    made there. Otherwise the one account does everything: ``BrokerAccess.shared``, told by
    ``say``. With amqps the authority in the file EPU_BROKER_CA is trusted, else the machine's.
    Raises BrokerUnavailable, ConfigProblem (a URL that can't be).
    """
    files = BrokerFiles(directory.resolve())
    deadline = time.monotonic() + timeout
    with file_problems(files.directory):
        files.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with files.only_one(deadline):
            if files.read_identity() is not None:
                raise BrokerUnavailable(
                    f"{files.directory} belongs to a private broker"
                    " (choose another directory for an existing one)"
                )
            ca = find_authority(os.environ)
            access = adopt(amqp_url, management_url, vhost, files.read_access(), say, ca)
            files.write_access(access)
            return access
