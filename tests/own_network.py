"""A network of a test's own: what it sets up changes nothing of this host's.

Linux namespaces belong to threads: the test's own thread moves into a new network, and
whatever it starts there, threads and processes, begins there too.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

#: By which all machines in that network reach this host, whatever cable they have to it.
HOST = "100.64.0.1"
_NEW_NETWORK = 0x40000000  # CLONE_NEWNET
_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")


@pytest.fixture
def own_network() -> Iterator[str]:
    """The test runs in an empty network that forwards; gives the address of this host in it.

    Nothing outside is reached from it: what a test needs, such as a broker, it starts inside,
    after this. Needs root: else the test is skipped, and fails in CI.
    """
    if os.geteuid() != 0 or shutil.which("ip") is None:
        reason = "a network of its own takes root and iproute2"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(libc.unshare(_NEW_NETWORK))
        try:
            for words in (
                ["link", "set", "lo", "up"],
                ["address", "add", f"{HOST}/32", "dev", "lo"],
            ):
                subprocess.run(["ip", *words], check=True, timeout=30)
            _FORWARD.write_text("1")
            yield HOST
        finally:
            _check(libc.setns(before, _NEW_NETWORK))
    finally:
        os.close(before)


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
