"""A network of its own for a machine of the container cloud: see ``machine_network``.

The cable is a pair of virtual interfaces, the machine's end is ``eth0``. The kernel takes it
away with the machine's last process, so none is left behind, whatever is killed.

Used by ``container_setup``, without site-packages.
"""

from __future__ import annotations

import os
from ipaddress import IPv4Address

from coordinator.clouds.machine_network import (
    ADDRESS,
    PREFIX,
    alone,
    free_address,
    host_of,
    interface,
    ip,
)


def connect(mark: str) -> None:
    """Lay the cable from this network to the machine's; write the machine's address down.

    Called by whoever has forked the machine's first process: its children are on the
    machine already, where that process is number 1. Raises OSError.
    """
    name = interface(mark)
    with alone():
        own = free_address(mark)
        ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", "1")
        ip("address", "add", f"{host_of(own)}/{PREFIX}", "dev", name)
    ip("link", "set", name, "up")
    with open(ADDRESS + ".new", "w", encoding="utf-8") as file:
        file.write(str(own))
    os.rename(ADDRESS + ".new", ADDRESS)


def set_up_inside() -> None:
    """On the machine's side, once the cable is there. Raises OSError."""
    with open(ADDRESS, encoding="utf-8") as file:
        own = IPv4Address(file.read())
    ip("link", "set", "lo", "up")
    ip("address", "add", f"{own}/{PREFIX}", "dev", "eth0")
    ip("link", "set", "eth0", "up")
    ip("route", "add", "default", "via", str(host_of(own)))
