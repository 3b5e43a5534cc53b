"""Lays the cable of a virtual machine with a network of its own, and becomes its QEMU.

Started by ``machine_launcher`` in the machine's directory, without site-packages. The host's
end of the cable is a tap device, which QEMU holds open as the descriptor TAP: the kernel takes
it away with QEMU, so none is left behind, whatever is killed. The address that the machine was
told is in its file ADDRESS; whoever got its block meanwhile keeps it, and another is chosen.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import struct
import sys
from ipaddress import IPv4Address

from coordinator.clouds.machine_launcher import LASTING, PROBLEMS
from coordinator.clouds.machine_network import (
    ADDRESS,
    PREFIX,
    alone,
    host_of,
    interface,
    ip,
    is_taken,
)
from coordinator.clouds.qemu_command import TAP

_TUN = "/dev/net/tun"
_TUNSETIFF = 0x400454CA
#: Whole frames; no header of the driver's own; QEMU's header, by which neither side computes
#: checksums; never a device that is there already.
_FLAGS = 0x0002 | 0x1000 | 0x4000 | 0x8000
#: The kernel puts a number there.
_ANY_NAME = "epu-try%d"
_LASTING = {errno.EPERM, errno.EACCES, errno.ENOENT, errno.ENODEV, errno.ENXIO}


def main() -> None:
    """Run with the machine's directory as the working one. Never returns."""
    os.set_inheritable(PROBLEMS, False)
    try:
        mark, *words = sys.argv[2:]
        name = interface(mark)
        with open(ADDRESS, encoding="utf-8") as file:
            own = IPv4Address(file.read())
        tap = _open_tap(name)
        with alone():
            if is_taken(own):
                raise OSError(errno.EADDRINUSE, f"the address {own} was given away meanwhile")
            ip("address", "add", f"{host_of(own)}/{PREFIX}", "dev", name)
        ip("link", "set", name, "up")
        os.dup2(tap, TAP)
        os.set_inheritable(TAP, True)
        os.execv(words[0], words)
    except BaseException as problem:
        lasting = not isinstance(problem, OSError) or problem.errno in _LASTING
        said = f"{LASTING if lasting else ''}{_why(problem)}".replace("\n", " ")
        os.write(PROBLEMS, said.encode(errors="replace")[:4000])
    finally:
        os._exit(127)


def problem_here() -> str:
    """Why no machine of this host can have such a network, with the remedy; empty if it can.

    Found by making a tap device, which is gone when this returns.
    """
    if shutil.which("ip") is None:
        return "network: private takes the command ip (install the package iproute2)"
    try:
        os.close(_open_tap(_ANY_NAME))
    except OSError as problem:
        return _why(problem)
    return ""


def _open_tap(name: str) -> int:
    descriptor = os.open(_TUN, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _FLAGS))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _why(problem: BaseException) -> str:
    if not isinstance(problem, OSError):
        return repr(problem)
    if problem.errno in {errno.EPERM, errno.EACCES}:
        return "network: private takes root, or CAP_NET_ADMIN (network: user takes neither)"
    if problem.errno in _LASTING and problem.filename in {None, _TUN}:
        return f"network: private takes {_TUN}: {problem.strerror} (as root: modprobe tun)"
    return f"{problem.filename or 'the cable'}: {problem.strerror}"
