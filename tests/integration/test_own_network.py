"""The network that tests have of their own is really another one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.own_network import own_network as fixture

_REACH = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)"


def _network() -> str:
    return os.readlink("/proc/thread-self/ns/net")


def test_what_a_test_starts_in_its_own_network_meets_there_and_nothing_outside_changes(
    request: pytest.FixtureRequest,
) -> None:
    outside = _network()
    host = request.getfixturevalue(fixture.__name__)
    assert _network() != outside
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "1"
    assert [name for _, name in socket.if_nameindex()] == ["lo"]
    with socket.create_server((host, 0)) as server:
        port = str(server.getsockname()[1])
        subprocess.run([sys.executable, "-c", _REACH, host, port], check=True, timeout=60)
