"""Networks of machines of this host: one cable to it for each, and the addresses at its ends.

A cable takes a block of four addresses of RANGE: the host's end has the first that can be
used, the machine's the second. A block is free when no interface of this host has it, so the
kernel keeps the books: an interface that goes with its machine gives the block back. A machine
reaches this host by its cable, and what the host forwards for it; nothing is set up for that.

Used without site-packages too (``container_setup``, ``qemu_cable``); takes the command ``ip``.
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
#: Length of a block's prefix.
PREFIX = 30
#: Where a machine's own address is written, in its directory.
ADDRESS = "address"
#: Whoever chooses an address holds a lock on this: a place that every process here has.
_LOCKED = "/sys/class/net"
_BLOCKS = RANGE.num_addresses // 4
_TIMEOUT = 10


def interface(mark: str) -> str:
    """Name of the host's end of the cable of the machine with that mark."""
    return f"epu{mark[:12]}"


def free_address(mark: str) -> IPv4Address:
    """An address for the machine with that mark, of a block that no interface here has.

    It stays free for certain only for who is ``alone``. Raises OSError.
    """
    taken, first = set(_addresses()), int(mark, 16) % _BLOCKS
    for step in range(_BLOCKS):
        base = RANGE.network_address + 4 * ((first + step) % _BLOCKS)
        if base + 1 not in taken:
            return base + 2
    raise OSError(errno.ENOSPC, f"no address is left in {RANGE}")


def is_taken(own: IPv4Address) -> bool:
    """Whether an interface here has the cable of the machine with that address."""
    return host_of(own) in set(_addresses())


def host_of(own: IPv4Address) -> IPv4Address:
    """The address of this host on the cable of the machine with the address ``own``."""
    return own - 1


@contextmanager
def alone() -> Iterator[None]:
    """Nobody else of this host gives addresses meanwhile."""
    descriptor = os.open(_LOCKED, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def ip(*words: str) -> str:
    """The command ``ip``; what it printed. Raises OSError."""
    command = ["ip", *words]
    null = subprocess.DEVNULL
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, stdin=null)
    except subprocess.TimeoutExpired:
        raise OSError(errno.EAGAIN, f"{' '.join(command)} did not end in time") from None
    if done.returncode != 0:
        raise OSError(errno.EAGAIN, f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def _addresses() -> Iterator[IPv4Address]:
    for line in ip("-4", "-oneline", "address", "show").splitlines():
        words = line.split()
        yield IPv4Address(words[words.index("inet") + 1].partition("/")[0])
