"""The smallest guests that QEMU can run, for tests of the driver itself: 512 bytes each.

They say a word on the serial port and then wait (or power off) without using the processor.
"""

import os
import shutil
from pathlib import Path

import pytest

GREETING = "epu-guest\n"
_SAY = "".join(f"b0{byte:02x} ee" for byte in GREETING.encode())  # mov al, byte; out dx, al
_WAITS = bytes.fromhex(f"baf803 {_SAY} fa f4 ebfc".replace(" ", ""))  # mov dx, 0x3f8; …; cli; hlt
_POWERS_OFF = bytes.fromhex("ba0406 b80020 ef fa f4 ebfc")  # mov dx, 0x604; out dx, 0x2000


def need_qemu() -> None:
    """Skip the test where QEMU is not installed; fail in CI."""
    if not all(map(shutil.which, ("qemu-system-x86_64", "qemu-img", "genisoimage"))):
        reason = "QEMU is missing: apt-get install qemu-system-x86 qemu-utils genisoimage"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)


def guest_disk(path: Path, *, powers_off: bool = False) -> Path:
    """A bootable disk image at ``path``."""
    code = _POWERS_OFF if powers_off else _WAITS
    path.write_bytes((code.ljust(510, b"\0") + b"\x55\xaa").ljust(1 << 20, b"\0"))
    return path
