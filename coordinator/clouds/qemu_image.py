"""What a QEMU machine boots from, and where images are kept.

An image of ``epu image build`` is a directory that never changes: the disk, the kernel and
its initrd beside it (so no boot loader is needed), and ``image.json``. In the store it is
called by its recipe's digest, and each name is a link to one of these. Any other bootable
disk image with cloud-init in it, a distribution's cloud image for instance, will do as well.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from coordinator.clouds.qemu_settings import QemuImage
from coordinator.errors import NotFound

DESCRIPTION = "image.json"
DISK = "disk.qcow2"
KERNEL = "vmlinuz"
INITRD = "initrd"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


@dataclass(frozen=True, kw_only=True)
class ImageDescription:
    """The content of ``image.json``. ``built_at`` in epoch s; ``agent``: its version, if any."""

    digest: str
    command_line: str
    suite: str
    kernel: str
    packages: int
    built_at: float
    agent: str = ""
    version: int = 1

    def document(self) -> dict[str, Any]:
        """As JSON can say it."""
        return asdict(self)


def image_store(environment: Mapping[str, str] | None = None) -> Path:
    """Where images are kept: $EPU_IMAGES, or ``epu/images`` in the user's cache directory."""
    given = os.environ if environment is None else environment
    if given.get("EPU_IMAGES"):
        return Path(given["EPU_IMAGES"]).expanduser().absolute()
    cache = given.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser().absolute() / "epu" / "images"


def find_image(wanted: str, store: Path) -> QemuImage:
    """The image of that name in ``store``, or at that path (anything with a ``/``).

    Links are followed: a machine keeps the image that it was started from when the name
    is given to a newer one. Raises NotFound saying what to do.
    """
    by_name = "/" not in wanted
    if by_name and not NAME.match(wanted):
        raise NotFound(f"'{wanted}' is neither the name of an image nor a path")
    place = (store / wanted if by_name else Path(wanted).expanduser()).resolve()
    if (place / DESCRIPTION).is_file():
        return _built(place)
    if place.is_file():
        return QemuImage(disk=str(place), disk_format=_format(place))
    if by_name:
        raise NotFound(f"no image '{wanted}' in {store} (make it: epu image build {wanted})")
    what = "is no image of epu image build" if place.is_dir() else "does not exist"
    raise NotFound(f"image {place} {what}")


def describe(place: Path) -> ImageDescription:
    """What ``image.json`` of the image directory ``place`` says. Raises NotFound."""
    try:
        return ImageDescription(**json.loads((place / DESCRIPTION).read_text()))
    except (OSError, ValueError, TypeError):
        raise NotFound(f"{place / DESCRIPTION} can't be read") from None


def _built(place: Path) -> QemuImage:
    missing = [name for name in (DISK, KERNEL, INITRD) if not (place / name).is_file()]
    if missing:
        raise NotFound(f"image {place} is not whole: {', '.join(missing)} missing")
    return QemuImage(
        disk=str(place / DISK),
        disk_format="qcow2",
        kernel=str(place / KERNEL),
        initrd=str(place / INITRD),
        command_line=describe(place).command_line,
    )


def _format(disk: Path) -> str:
    """By the file's first bytes; never left to QEMU, which would believe what a guest wrote."""
    try:
        with disk.open("rb") as file:
            return "qcow2" if file.read(4) == b"QFI\xfb" else "raw"
    except OSError as problem:
        raise NotFound(f"image {disk} can't be read: {problem.strerror}") from None
