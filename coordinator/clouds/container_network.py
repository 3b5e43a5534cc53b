"""A network of its own for a machine of the container cloud: one cable to this host.

The cable is a pair of virtual interfaces with two addresses of a block of four: the host's
end is ``epu<mark>``, the machine's is ``eth0``. A machine reaches this host by it, and what
the host forwards for it; nothing is set up for that. The kernel takes the cable away with the
machine's last process, so none is left behind, whatever is killed.

Used by ``container_setup``, without site-packages; takes the command ``ip``.
"""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network

#: Blocks of four addresses are taken of this, which no network should use elsewhere.
RANGE = IPv4Network("100.96.0.0/16")
#: Where a machine's own address is written, in its directory.
ADDRESS = "address"
#: Whoever chooses an address holds a lock on this: a place that every process here has.
_LOCKED = "/sys/class/net"
_BLOCKS = RANGE.num_addresses // 4
_TIMEOUT = 10


def connect(mark: str) -> None:
    """Lay the cable from this network to the machine's; write the machine's address down.

    Called by whoever has forked the machine's first process: its children are on the
    machine already, where that process is number 1. Raises OSError.
    """
    name = interface(mark)
    with _alone():
        block = _free_block(int(mark, 16) % _BLOCKS)
        host, machine = block + 1, block + 2
        _ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", "1")
        _ip("address", "add", f"{host}/30", "dev", name)
    _ip("link", "set", name, "up")
    with open(ADDRESS + ".new", "w", encoding="utf-8") as file:
        file.write(str(machine))
    os.rename(ADDRESS + ".new", ADDRESS)


def set_up_inside() -> None:
    """On the machine's side, once the cable is there. Raises OSError."""
    with open(ADDRESS, encoding="utf-8") as file:
        own = IPv4Address(file.read())
    _ip("link", "set", "lo", "up")
    _ip("address", "add", f"{own}/30", "dev", "eth0")
    _ip("link", "set", "eth0", "up")
    _ip("route", "add", "default", "via", str(own - 1))


def interface(mark: str) -> str:
    """Name of the host's end of the cable of the machine with that mark."""
    return f"epu{mark[:12]}"


def _free_block(first: int) -> IPv4Address:
    """The base of a block that no interface here uses, from the ``first`` on."""
    taken = set(_addresses())
    for step in range(_BLOCKS):
        base = RANGE.network_address + 4 * ((first + step) % _BLOCKS)
        if base + 1 not in taken:
            return base
    raise OSError(errno.ENOSPC, f"no address is left in {RANGE}")


def _addresses() -> Iterator[IPv4Address]:
    for line in _ip("-4", "-oneline", "address", "show").splitlines():
        words = line.split()
        yield IPv4Address(words[words.index("inet") + 1].partition("/")[0])


@contextmanager
def _alone() -> Iterator[None]:
    descriptor = os.open(_LOCKED, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _ip(*words: str) -> str:
    done = subprocess.run(
        ["ip", *words], capture_output=True, text=True, timeout=_TIMEOUT, stdin=subprocess.DEVNULL
    )
    if done.returncode != 0:
        raise OSError(errno.EAGAIN, f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout
