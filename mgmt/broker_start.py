"""Bringing a private node up: the first time, again, or finding that it runs already."""

from __future__ import annotations

import secrets
import shutil
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from urllib.parse import quote

import requests

from agent.messages import RPC_EXCHANGE, BrokerAccess, BrokerAccount
from coordinator.errors import ConfigProblem
from coordinator.management_api import session_for
from mgmt.broker_certificates import AUTHORITY, make_certificate
from mgmt.broker_definitions import ACCOUNTS, definitions
from mgmt.broker_files import (
    DISK_RESERVE,
    LOOPBACK,
    BrokerFiles,
    NodeIdentity,
    choose_ports,
    write_private,
)
from mgmt.broker_launch import SCRIPT_VARIABLE, STATISTICS_INTERVAL, launch, server_script
from mgmt.broker_problems import BrokerUnavailable
from mgmt.broker_processes import beam_of, end_node, has_ended, node_processes

#: In place of an address: whichever of this machine's others see.
ANY_OWN = "auto"
_LOOK_EVERY = 0.1
_LOOK_AT_LEAST_EVERY = 5.0
#: What a node that could not start is given to end in peace, seconds.
_CLEAN_UP = 5.0


class _PortLost(BrokerUnavailable):
    """Another program took a port between our look and the node's start."""


@dataclass(frozen=True)
class NodeStart:
    """One call of ``start_broker``. ``deadline``: monotonic; ``timeout``: the seconds given."""

    files: BrokerFiles
    vhost: str
    host: str | None
    deadline: float
    timeout: float
    say: Callable[[str], None]
    insecure: bool = False

    def run(self) -> BrokerAccess:
        """The running node's access. Raises BrokerUnavailable, ConfigProblem, OSError."""
        identity, access = self.files.read_identity(), self.files.read_access()
        if identity is not None and access is not None:
            return self._again(identity, access)
        if access is not None:
            raise BrokerUnavailable(
                f"{self.files.directory} belongs to the existing broker {access.public_url}"
                " (choose another directory for a private one)"
            )
        return self._first_time(identity)

    def _again(self, identity: NodeIdentity, access: BrokerAccess) -> BrokerAccess:
        directory = self.files.directory
        if identity.vhost != self.vhost:
            raise ConfigProblem(
                f"the broker in {directory} serves the virtual host {identity.vhost!r},"
                f" not {self.vhost!r} (use one directory for each run)"
            )
        if self.host not in (identity.host, ANY_OWN, None):
            raise ConfigProblem(
                f"the broker in {directory} listens on {identity.host}, not on {self.host}"
                " (agents and coordinators know it by its address: use another directory)"
            )
        if beam_of(node_processes(identity.mark)) is not None:
            self._wait_ready(identity, access)
            self.say(f"The broker in {directory} is already running at {access.public_url}.")
            return access
        script = self._script()
        end_node(identity.mark, _CLEAN_UP)  # helpers that outlived a killed node
        taken = self._taken_for_good(identity)
        if taken:
            raise BrokerUnavailable(
                f"port {taken[0]} of this machine, which belongs to the broker in {directory},"
                " is taken by another program (end that program: the coordinator and the"
                " agents of this run know the broker by its ports)"
            )
        return self._bring_up(script, identity, access)

    def _taken_for_good(self, identity: NodeIdentity) -> list[int]:
        """Ports that a node killed a moment ago may still be closing are waited for."""
        patience = min(self.deadline, time.monotonic() + _CLEAN_UP)
        while (taken := identity.ports.taken()) and time.monotonic() < patience:
            time.sleep(_LOOK_EVERY)
        return taken

    def _first_time(self, leftover: NodeIdentity | None) -> BrokerAccess:
        """``leftover`` is of a start that never succeeded: nobody knows its ports."""
        script = self._script()
        while True:
            if leftover is not None:
                end_node(leftover.mark, _CLEAN_UP)
            if self.files.data.exists():
                shutil.rmtree(self.files.data)
            host = own_address(self.host or LOOPBACK)
            tls = not self.insecure and not IPv4Address(host).is_loopback
            identity = leftover = _new_identity(self.vhost, host, tls)
            if tls:
                make_certificate(self.files.tls, host, self.vhost)
            try:
                return self._bring_up(script, identity, _new_access(identity, self.files.tls))
            except _PortLost:
                if time.monotonic() >= self.deadline:
                    raise

    def _bring_up(self, script: Path, identity: NodeIdentity, access: BrokerAccess) -> BrokerAccess:
        files = self.files
        for directory in (files.home, files.logs, files.data):
            directory.mkdir(mode=0o700, exist_ok=True)
        if not files.cookie.exists():
            write_private(files.cookie, secrets.token_hex(24))
        files.write_identity(identity)
        files.write_json(files.definitions, definitions(access, secrets.token_bytes(4)))
        files.put_logs_aside()
        launch(script, files, identity)
        try:
            self._wait_ready(identity, access)
        except BrokerUnavailable:
            end_node(identity.mark, _CLEAN_UP)
            raise
        files.write_access(access)
        self.say(f"The broker in {files.directory} is running at {access.public_url}.")
        return access

    def _wait_ready(self, identity: NodeIdentity, access: BrokerAccess) -> None:
        while True:
            began = time.monotonic()
            if is_ready(access):
                return
            # The scripts in front of Erlang carry the mark too, so none means it ended.
            if has_ended(identity.mark):
                if "eaddrinuse" in self.files.last_lines(60):
                    raise _PortLost(self._failure("found one of its ports taken"))
                raise BrokerUnavailable(self._failure("ended while it was starting"))
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise BrokerUnavailable(self._failure(f"is not ready after {self.timeout:g} s"))
            # On a slow machine a look is dear, and the node has more use for the processor.
            took = time.monotonic() - began
            time.sleep(max(_LOOK_EVERY, min(9 * took, _LOOK_AT_LEAST_EVERY, left / 2)))

    def _failure(self, what: str) -> str:
        lines = self.files.last_lines()
        full = "enospc" in lines.lower()
        remedy = "its disk is full: free some space" if full else f"look into {self.files.logs}"
        text = f"the broker in {self.files.directory} {what} ({remedy})"
        return f"{text}; its last lines:\n{lines}" if lines else text

    def _script(self) -> Path:
        """RabbitMQ's start script, once it is clear that a start has a chance."""
        script = server_script()
        if script is None:
            raise BrokerUnavailable(
                "rabbitmq-server is not installed (apt-get install rabbitmq-server, or name"
                f" its script in {SCRIPT_VARIABLE}, or give the URL of an existing broker)"
            )
        if shutil.which("erl") is None:
            raise BrokerUnavailable(
                "Erlang's command erl is not in PATH (add its directory to PATH;"
                " apt-get install rabbitmq-server installs it)"
            )
        free = shutil.disk_usage(self.files.directory).free
        if free < 2 * DISK_RESERVE:
            raise BrokerUnavailable(
                f"only {free // 2**20} MB are free on the disk of {self.files.directory}, and a"
                f" broker needs {2 * DISK_RESERVE // 2**20} (free some space, or choose another"
                " directory)"
            )
        return script


def is_ready(access: BrokerAccess) -> bool:
    """Whether the node takes connections. AMQP is the last thing that a node opens.

    The exchange, asked for with our own password, tells that it is *our* node.
    """
    if access.management_url is None or not listens(access.host, access.port):
        return False
    vhost = quote(access.vhost, safe="")
    try:
        with session_for(access, access.accounts["admin"]) as session:
            answer = session.get(
                f"{access.management_url}/api/exchanges/{vhost}/{RPC_EXCHANGE}", timeout=2.0
            )
    except requests.RequestException:
        return False
    return answer.status_code == 200


def listens(host: str, port: int) -> bool:
    """Whether something accepts TCP connections there, within two seconds."""
    try:
        with socket.create_connection((host, port), timeout=2.0):
            return True
    except OSError:
        return False


def own_address(host: str) -> str:
    """``host``; for ``ANY_OWN`` the address of this machine that others see. Sends nothing."""
    if host != ANY_OWN:
        return host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return LOOPBACK
        return str(probe.getsockname()[0])


def is_own_address(host: str) -> bool:
    """Whether ``host`` is an IPv4 address on which programs of this machine can listen."""
    with socket.socket() as probe:
        try:
            address = IPv4Address(host)
            probe.bind((host, 0))
        except (OSError, ValueError):
            return False
        return not address.is_unspecified


def _new_identity(vhost: str, host: str, tls: bool) -> NodeIdentity:
    mark = str(uuid.uuid4())
    return NodeIdentity(
        name=f"epu-{mark[:8]}@localhost",
        mark=mark,
        vhost=vhost,
        ports=choose_ports(),
        host=host,
        tls=tls,
    )


def _new_access(identity: NodeIdentity, certificates: Path) -> BrokerAccess:
    scheme = "https" if identity.tls else "http"
    return BrokerAccess(
        host=identity.host,
        port=identity.ports.amqp,
        vhost=identity.vhost,
        accounts={
            name: BrokerAccount(user=name, password=secrets.token_urlsafe(24)) for name in ACCOUNTS
        },
        management_url=f"{scheme}://{identity.host}:{identity.ports.management}",
        event_exchange=True,
        statistics_interval=STATISTICS_INTERVAL,
        tls=identity.tls,
        ca=(certificates / AUTHORITY).read_text() if identity.tls else "",
    )
