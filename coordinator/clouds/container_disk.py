"""The disk of a machine of the container cloud: what lies over its root file system.

The root file system is never written to. A machine's own layer begins with what makes it a
machine of its own (its name, its init, cloud-init's seed) and, over this host's root, with
what must not be seen there: everything that is not the operating system's.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from coordinator.clouds.container_setup import FORMER_ROOT
from coordinator.clouds.machine_directory import MOUNT_POINTS

_OPAQUE = "trusted.overlay.opaque"
#: Of this host's root, what a machine sees: the operating system. Symbolic links to these
#: (/bin, /lib …) and directories where kernel file systems go stay as well.
_SYSTEM = {"bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "etc", "var"}
_KERNELS = {"dev", "proc", "sys", "run"}
#: Of /var/lib, what the package system knows of itself. Of all else only the directories,
#: empty, with their owners: packages expect to find them.
_PACKAGES = {"dpkg", "apt", "pam", "python", "ucf"}
#: Not for everybody to read on the host, and a machine is broken without them.
_EXPECTED = {"sudoers", "sudoers.d", "shadow", "gshadow"}


class MachineDisk:
    """The layers of one machine in its directory: ``disk/upper`` over ``rootfs``.

    Every method may raise OSError. ``create`` begins anew, whatever an earlier try left.
    """

    def __init__(self, directory: Path, rootfs: Path) -> None:
        self._directory = directory
        self._rootfs = rootfs
        self.upper = directory / "disk" / "upper"

    def create(self) -> None:
        shutil.rmtree(self._directory / "disk", ignore_errors=True)
        for name in MOUNT_POINTS:
            (self._directory / name).mkdir(mode=0o700, exist_ok=True)
        (self._directory / "disk" / "work").mkdir(mode=0o700, parents=True)
        self.upper.mkdir(mode=0o755)
        _copy_owner(self._rootfs, self.upper)
        for name in (*_KERNELS, FORMER_ROOT.lstrip("/")):
            self.directory(name)

    def directory(self, path: str) -> Path:
        """A directory on the disk, and what is above it, as in the root file system."""
        here, there = self.upper, self._rootfs
        for part in path.split("/") if path else ():
            here, there = here / part, there / part
            try:
                here.mkdir(mode=0o755)
            except FileExistsError:
                continue
            if there.is_dir():
                _copy_owner(there, here)
            else:
                here.chmod(0o755)
        return here

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """A file of root's on the disk, in place of what the root file system has there."""
        above, _, name = path.rpartition("/")
        file = self.directory(above) / name
        file.unlink(missing_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
        file.chmod(mode)

    def link(self, path: str, target: str) -> None:
        """A symbolic link on the disk."""
        above, _, name = path.rpartition("/")
        (self.directory(above) / name).symlink_to(target)

    def empty(self, path: str) -> Path:
        """A directory in which nothing of the root file system is seen."""
        here = self.directory(path)
        os.setxattr(here, _OPAQUE, b"y")
        return here

    def hide(self, path: str) -> None:
        """Let nothing be there (an overlay's whiteout), unless it is on the disk already."""
        above, _, name = path.rpartition("/")
        place = self.directory(above)
        with suppress(FileExistsError):
            os.mknod(place / name, stat.S_IFCHR, os.makedev(0, 0))

    def show_only_the_system(self) -> None:
        """Over this host's own root: hide whatever is not the operating system's."""
        for entry in os.scandir(self._rootfs):
            if entry.name in _KERNELS or entry.name in _SYSTEM:
                continue
            self._hide_entry(entry, entry.name)
        for entry in os.scandir(self._rootfs / "var"):
            if entry.name != "lib" and not entry.is_symlink():
                self._hide_entry(entry, f"var/{entry.name}")
                self._keep_directories(f"var/{entry.name}")
        for entry in os.scandir(self._rootfs / "var/lib"):
            if entry.name not in _PACKAGES and not entry.is_symlink():
                self._hide_entry(entry, f"var/lib/{entry.name}")
                self._keep_directories(f"var/lib/{entry.name}")
        self._hide_unreadable("etc")
        for name in ("shadow", "gshadow"):
            if (self._rootfs / "etc" / name).exists():
                self.write(f"etc/{name}", _locked(self._rootfs / "etc" / name), mode=0o640)

    def _keep_directories(self, path: str) -> None:
        if (self._rootfs / path).is_dir():
            for entry in os.scandir(self._rootfs / path):
                if entry.is_dir(follow_symlinks=False):
                    self.directory(f"{path}/{entry.name}")

    def _hide_unreadable(self, path: str) -> None:
        """What the host's other users can't read, its services keep as a secret."""
        for entry in os.scandir(self._rootfs / path):
            if entry.is_symlink() or entry.name in _EXPECTED:
                continue
            place = f"{path}/{entry.name}"
            mode = entry.stat(follow_symlinks=False).st_mode
            needed = 0o005 if stat.S_ISDIR(mode) else 0o004
            if mode & needed != needed:
                self._hide_entry(entry, place)
            elif stat.S_ISDIR(mode):
                self._hide_unreadable(place)

    def _hide_entry(self, entry: os.DirEntry[str], path: str) -> None:
        if entry.is_dir(follow_symlinks=False):
            self.empty(path)
        else:
            self.hide(path)


def identity(hostname: str, mark: str) -> Iterator[tuple[str, str]]:
    """(path, text) of the files that make a machine one of its own."""
    yield "etc/hostname", f"{hostname}\n"
    yield "etc/hosts", f"127.0.0.1\tlocalhost\n::1\tlocalhost\n127.0.1.1\t{hostname}\n"
    yield "etc/machine-id", f"{mark}{'0' * (32 - len(mark))}\n"
    try:
        yield "etc/resolv.conf", Path("/etc/resolv.conf").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return  # a host without names: the machine has what its root file system has


def _locked(file: Path) -> str:
    """The accounts of a shadow file, each without its password."""
    lines = (line.split(":") for line in file.read_text(encoding="utf-8").splitlines())
    return "".join(":".join([name, "*", *rest]) + "\n" for name, _, *rest in lines)


def _copy_owner(source: Path, target: Path) -> None:
    found = source.stat()
    os.chown(target, found.st_uid, found.st_gid)
    target.chmod(stat.S_IMODE(found.st_mode))
