"""The kernel's calls for machines of the container cloud that Python lacks.

Standard library only: it is imported by scripts that run without site-packages, once for
each machine and each program on one.
"""

from __future__ import annotations

import ctypes
import os

NEW_NAMESPACE = {
    "mnt": 0x00020000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "pid": 0x20000000,
    "net": 0x40000000,
}

READ_ONLY = 0x1
NO_SUID = 0x2
NO_DEVICES = 0x4
NO_PROGRAMS = 0x8
REMOUNT = 0x20
BIND = 0x1000
_RECURSIVE = 0x4000
_PRIVATE = 0x40000
_DETACH = 2
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217}

_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_DROP = 24
#: What root on a machine may do (capability numbers): what services need, and nothing that
#: reaches past the machine: no devices, mounts, modules, clock, tracing, raw memory.
#: chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service sys_chroot
#: audit_write setfcap
_KEPT = frozenset({0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 29, 31})
#: net_admin net_raw: on this host's network they would read everybody's traffic.
_OVER_ITS_NETWORK = frozenset({12, 13})
_LAST = 63

_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """``mount(2)``. Paths may be relative. Raises OSError."""
    words = [word.encode() or None for word in (source, kind, options)]
    result = _libc.mount(
        words[0] or b"none", os.fsencode(target), words[1], ctypes.c_ulong(flags), words[2]
    )
    _checked(result, f"{kind or 'mount'} on {target}")


def bind(source: str, target: str, flags: int = 0) -> None:
    """Show ``source`` at ``target`` too, without what is mounted below it."""
    mount(source, target, flags=BIND)
    if flags:
        mount("", target, flags=BIND | REMOUNT | flags)


def make_private() -> None:
    """Let no mount of this namespace reach another one, and none of others come in."""
    mount("", "/", flags=_RECURSIVE | _PRIVATE)


def pivot_root(new: str, old: str) -> None:
    """Make ``new`` the root directory and have the former one at ``old``, below it."""
    number = _PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        raise OSError(38, f"containers are not known on {os.uname().machine}")
    _checked(_libc.syscall(number, os.fsencode(new), os.fsencode(old)), "pivot_root")


def detach(target: str) -> None:
    """Unmount ``target`` and all below it."""
    _checked(_libc.umount2(os.fsencode(target), _DETACH), f"umount of {target}")


def leave(*namespaces: str) -> None:
    """Have new namespaces of these names. ``pid`` is for children only."""
    flags = sum(NEW_NAMESPACE[name] for name in namespaces)
    _checked(_libc.unshare(flags), f"namespaces {', '.join(namespaces)}")


def enter(process: int, *namespaces: str) -> None:
    """Go into the namespaces of a process descriptor's process. ``pid`` is for children only."""
    flags = sum(NEW_NAMESPACE[name] for name in namespaces)
    _checked(_libc.setns(process, flags), "entering the machine")


def set_hostname(name: str) -> None:
    word = name.encode()
    _checked(_libc.sethostname(word, len(word)), "sethostname")


def end_with_parent(number: int) -> None:
    """Get signal ``number`` when the parent ends."""
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0), "prctl")


def drop_rights(network_is_own: bool) -> None:
    """From the next program on have only the rights that a machine's root has."""
    kept = _KEPT | _OVER_ITS_NETWORK if network_is_own else _KEPT
    for number in range(_LAST + 1):
        if number not in kept and _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) != 0:
            if ctypes.get_errno() == 22:  # EINVAL: the kernel has no such right, nor any after
                return
            _checked(-1, "prctl")


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
