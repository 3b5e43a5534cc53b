"""Makes one machine of the container cloud and becomes its first process.

Started by ``machine_launcher`` in the machine's directory, as root, without site-packages.
It leaves this host's namespaces, lays the machine's disk over the root file system, hides
everything else, gives up the rights that reach past the machine, and executes the init.
Mounts are made inside the new mount namespace only: they end with its last process, and
the host never sees one.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from typing import Any

from coordinator.clouds import container_kernel as kernel
from coordinator.clouds.machine_launcher import LASTING, PROBLEMS

#: What this program reads in the machine's directory: see ``container_disk``.
CONSTRUCTION = "construction.json"
#: Where the init is on the machine's disk, and how it is run there.
INIT = "/usr/lib/epu/init.py"
PYTHON = "/usr/bin/python3"
#: Where the host's root is for a moment.
FORMER_ROOT = "/.host"

_OVERLAY = "lowerdir=lower,upperdir=disk/upper,workdir=disk/work"
#: Quicker and dearer options, tried in this order: a machine's disk ends with the machine,
#: so nothing on it needs to reach a platter.
_OPTIONS = (",redirect_dir=on,volatile", ",redirect_dir=on", "")
_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9)}
_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
    "core": "/proc/kcore",
}
#: Of /proc: what tells of the host's memory and keys, and what changes the host.
_HIDDEN = ("kcore", "keys", "timer_list", "sched_debug", "kmsg", "cmdline")
_FIXED = ("sys", "sysrq-trigger", "irq", "bus", "fs", "acpi", "scsi")
_PASSING = {errno.ENOSPC, errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.EDQUOT}


def main() -> None:
    """Run with the machine's directory as the working one. Never returns."""
    os.set_inheritable(PROBLEMS, False)
    try:
        with open(CONSTRUCTION, encoding="utf-8") as file:
            construction = json.load(file)
        is_private = construction["network"] == "private"
        # Two pipes to agree with the machine about its network: it asks, this answers.
        asked, asking = os.pipe()
        answered, answering = os.pipe()
        kernel.leave("mnt", "uts", "ipc", "pid")
        if os.fork() == 0:
            os.close(asked)
            os.close(answering)
            _become_init(construction, (asking, answered) if is_private else None)
        os.close(asking)
        os.close(answered)
        if is_private and os.read(asked, 1):
            # Only who needs it pays for loading it.
            from coordinator.clouds.container_network import connect

            connect(construction["mark"])
            os.write(answering, b".")
    except BaseException as problem:
        _say(problem)
    os._exit(0)


def _become_init(construction: dict[str, Any], network: tuple[int, int] | None) -> None:
    try:
        os.setsid()
        kernel.make_private()
        if network:
            _connect(*network)
        _change_root(construction["rootfs"])
        _kernel_file_systems()
        for place, behind in construction["shown"].items():
            kernel.bind(f"{FORMER_ROOT}{behind}", place, kernel.READ_ONLY | kernel.NO_DEVICES)
        kernel.detach(FORMER_ROOT)
        os.rmdir(FORMER_ROOT)
        kernel.set_hostname(construction["hostname"])
        kernel.drop_rights(network_is_own=network is not None)
        os.chdir("/")
        os.umask(0o022)
        os.execv(PYTHON, [PYTHON, "-I", "-S", INIT, *construction["boot_command"]])
    except BaseException as problem:
        _say(problem)
    finally:
        os._exit(127)


def _connect(asking: int, answered: int) -> None:
    """Have a network of one's own, with a cable that the parent lays from the host's."""
    kernel.leave("net")
    os.write(asking, b".")
    if not os.read(answered, 1):
        os._exit(127)  # the parent has said why
    from coordinator.clouds.container_network import set_up_inside

    set_up_inside()


def _change_root(rootfs: str) -> None:
    # Names that people chose never get into the options: all of these are relative.
    kernel.bind(rootfs, "lower")
    for more in _OPTIONS:
        try:
            kernel.mount("overlay", "merged", "overlay", options=_OVERLAY + more)
            break
        except OSError:
            if not more:
                raise
    os.chdir("merged")
    kernel.pivot_root(".", FORMER_ROOT.lstrip("/"))
    os.chdir("/")


def _kernel_file_systems() -> None:
    quiet = kernel.NO_SUID | kernel.NO_DEVICES
    kernel.mount("proc", "/proc", "proc", quiet | kernel.NO_PROGRAMS)
    kernel.mount("sysfs", "/sys", "sysfs", quiet | kernel.NO_PROGRAMS | kernel.READ_ONLY)
    kernel.mount("tmpfs", "/run", "tmpfs", quiet, "mode=755,size=20%")
    os.mkdir("/run/lock", 0o777)
    os.chmod("/run/lock", 0o1777)
    kernel.mount("tmpfs", "/dev", "tmpfs", kernel.NO_SUID, "mode=755,size=64k")
    for name, (major, minor) in _DEVICES.items():
        os.mknod(f"/dev/{name}", stat.S_IFCHR, os.makedev(major, minor))
        os.chmod(f"/dev/{name}", 0o666)
    for name, target in _LINKS.items():
        os.symlink(target, f"/dev/{name}")
    os.mkdir("/dev/pts")
    options = "newinstance,ptmxmode=0666,mode=0620,gid=5"
    kernel.mount("devpts", "/dev/pts", "devpts", kernel.NO_SUID | kernel.NO_PROGRAMS, options)
    os.mkdir("/dev/shm")
    kernel.mount("tmpfs", "/dev/shm", "tmpfs", quiet, "mode=1777,size=50%")
    for name in _HIDDEN:
        if os.path.exists(f"/proc/{name}"):
            kernel.bind("/dev/null", f"/proc/{name}")
    for name in _FIXED:
        if os.path.exists(f"/proc/{name}"):
            kernel.bind(f"/proc/{name}", f"/proc/{name}", quiet | kernel.READ_ONLY)


def _say(problem: BaseException) -> None:
    passing = isinstance(problem, OSError) and problem.errno in _PASSING
    what = problem.strerror if isinstance(problem, OSError) else repr(problem)
    os.write(PROBLEMS, f"{'' if passing else LASTING}{what}".replace("\n", " ").encode()[:4000])
