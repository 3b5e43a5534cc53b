"""Whether KVM works here: found by running a guest of thirty instructions, not by a device node.

Hosts that are virtual machines themselves may offer ``/dev/kvm`` and yet run no ordinary
kernel under it: the first guest hangs on its way into the processor's 64-bit mode.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

#: How long the guest may take; under a KVM that works it is a tenth of a second.
_TIMEOUT = 5.0
#: What QEMU ends with when the guest writes 0x10 to its debug-exit port.
_PROVEN = (0x10 << 1) | 1
_ROM_BYTES = 0x10000
_RESET_VECTOR = 0xFFF0

#: The guest, at the beginning of the BIOS's segment (physical 0xf0000): code, then a comment.
_GUEST = """
fa  2e660f0116a800                    ; cli; lgdt [cs:0xa8]
0f20c0 0c01 0f22c0                    ; cr0 |= protected mode
66ea18000f000800                      ; jump to 32-bit code
66b81000 8ed8 8ec0 8ed0               ; data segments
bf00100000 31c0 b9000c0000 fc f3ab    ; clear 0x1000 to 0x3fff for page tables
c7050010000003200000                  ; level 4 -> 0x2000
c7050020000003300000                  ; level 3 -> 0x3000
c7050030000083000000                  ; level 2 -> the first 2 MiB, one page
b820000000 0f22e0                     ; cr4 = physical address extension
b800100000 0f22d8                     ; cr3 = 0x1000
b9800000c0 0f32 0d00010000 0f30       ; EFER |= long mode
0f20c0 0d00000080 0f22c0              ; cr0 |= paging
ea7f000f001800                        ; jump to 64-bit code
b010 e6f4                             ; out 0xf4, 0x10: QEMU ends here
f4 ebfd 6690                          ; else halt for ever
0000000000000000 ffff0000009acf00     ; descriptors: none, 32-bit code,
ffff00000092cf00 ffff0000009aaf00     ; data, 64-bit code
1f00 88000f00                         ; what lgdt loads: 32 bytes at 0xf0088
"""


def kvm_works(qemu: str) -> bool:
    """Whether ``qemu`` runs a 64-bit guest under KVM. Takes at most 5 s.

    Raises OSError when there is no such program.
    """
    return runs_guest(qemu, "kvm", _TIMEOUT)


def runs_guest(qemu: str, accelerator: str, timeout: float) -> bool:
    """Whether the guest got through its last instruction within ``timeout`` seconds."""
    words = [qemu, "-accel", accelerator, "-cpu", "max", "-M", "pc", "-m", "16"]
    words += ["-nodefaults", "-no-user-config", "-display", "none"]
    words += ["-device", "isa-debug-exit,iobase=0xf4,iosize=1"]
    null = subprocess.DEVNULL
    with tempfile.TemporaryDirectory(prefix="epu-kvm-") as directory:
        rom = Path(directory) / "rom"
        rom.write_bytes(_guest_rom())
        words += ["-bios", str(rom)]
        try:
            done = subprocess.run(words, stdin=null, stdout=null, stderr=null, timeout=timeout)
        except subprocess.TimeoutExpired:
            return False
    return done.returncode == _PROVEN


def _guest_rom() -> bytes:
    """The guest as a BIOS image of 64 KiB."""
    code = bytes.fromhex("".join(line.partition(";")[0] for line in _GUEST.splitlines()))
    rom = bytearray(code.ljust(_ROM_BYTES, b"\xf4"))
    rom[_RESET_VECTOR : _RESET_VECTOR + 3] = b"\xe9\x0d\x00"  # jump to offset 0
    return bytes(rom)
