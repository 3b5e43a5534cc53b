"""What machines of the container cloud need of this host, and careful looks at their disks."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from coordinator.clouds.container_init import CLOUD_INIT
from coordinator.clouds.container_setup import PYTHON
from coordinator.errors import Problem

_CAP_SYS_ADMIN = 21
#: File systems that can't carry an overlay's upper layer.
_NO_UPPER = re.compile(r"(overlay|aufs|nfs\d?|cifs|smb3|9p|virtiofs|vfat|exfat|msdos|fuse.*)\Z")
#: Bytes that are read of one file of a machine.
_MOST = 1 << 20


@dataclass(frozen=True, kw_only=True)
class ContainerSettings:
    """How machines of one cloud are made; see ``ContainerCloud.from_settings``."""

    root: Path
    rootfs: Path = Path("/")
    network: str = "host"
    boot_command: tuple[str, ...] = ()


def missing_here(settings: ContainerSettings) -> Iterator[Problem]:
    """Why machines can't be made here."""
    if os.geteuid() != 0 or not _has_right(_CAP_SYS_ADMIN):
        what = "machines of the container cloud take root (CAP_SYS_ADMIN)"
        yield Problem(what=what, remedy="run as root, or use the process cloud")
    kind = _file_system(settings.root)
    if _NO_UPPER.match(kind):
        what = f"'{settings.root}' is on {kind}, which can't carry machines' disks"
        remedy = "set root to a directory on ext4, xfs, btrfs or tmpfs"
        yield Problem(key="root", what=what, remedy=remedy)
    if settings.network == "private" and shutil.which("ip") is None:
        what = "a private network takes the command ip"
        yield Problem(key="network", what=what, remedy="install the package iproute2")
    yield from missing_in(settings)


def missing_in(settings: ContainerSettings) -> Iterator[Problem]:
    """Why machines can't be made of that root file system."""
    rootfs = settings.rootfs
    if not rootfs.is_dir():
        yield Problem(key="rootfs", what=f"'{rootfs}' is no directory")
        return
    needed = (
        {PYTHON: "python3"}
        if settings.boot_command
        else {PYTHON: "python3", CLOUD_INIT: "cloud-init"}
    )
    for path, package in needed.items():
        if not _is_in(rootfs, path):
            what = f"the root file system '{rootfs}' has no {path}"
            yield Problem(key="rootfs", what=what, remedy=f"install the package {package} there")


def read_inside(top: Path, path: str) -> str | None:
    """A file below ``top``, which is a machine's to write; None when there is none.

    Follows no symbolic link: a machine must not choose which file of this host is read.
    """
    descriptors = [os.open(top, os.O_PATH | os.O_DIRECTORY)] if top.is_dir() else []
    try:
        *above, name = path.split("/")
        for part in above:
            flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
            descriptors.append(os.open(part, flags, dir_fd=descriptors[-1]))
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptors.append(os.open(name, flags, dir_fd=descriptors[-1]))
        return os.read(descriptors[-1], _MOST).decode(errors="replace")
    except (OSError, IndexError):
        return None
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _is_in(rootfs: Path, path: str) -> bool:
    """Whether there is such a program; absolute links lead within the root file system."""
    place = rootfs / path.lstrip("/")
    for _ in range(10):
        if not place.is_symlink():
            return place.is_file()
        target = os.readlink(place)
        place = rootfs / target.lstrip("/") if target.startswith("/") else place.parent / target
    return False


def _has_right(number: int) -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False


def _file_system(path: Path) -> str:
    """The kind of file system that ``path`` is, or will be, on."""
    while not path.exists():
        path = path.parent
    real, best, kind = os.path.realpath(path), "", ""
    for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
        fields = line.split()
        point = fields[4].encode().decode("unicode_escape")
        within = real == point or real.startswith(point.rstrip("/") + "/")
        if within and len(point) >= len(best):
            best, kind = point, fields[fields.index("-") + 1]
    return kind
