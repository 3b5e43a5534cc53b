"""The command line of one virtual machine. PURE. Paths are relative to its directory."""

from __future__ import annotations

from coordinator.clouds.qemu_settings import QemuImage, QemuSettings

DISK = "disk.qcow2"
SEED = "seed.iso"
#: Below ``logs``: the serial port, and what cloud-init has to say (see mgmt/images/recipe.py).
CONSOLE = "serial.log"
BOOT_STATUS = "boot-status.log"
STATUS_PORT = "epu.boot-status"
#: Page tables are switched at each system call to keep secrets from a processor's guesses;
#: an emulated one makes none, and pays dearly for the switches.
_WHEN_EMULATED = "mitigations=off"
#: What distributions expect at least (x86-64-v2); wider registers are slow to emulate: with
#: all that QEMU can (``max``), the same boot takes a quarter more of this host's time.
_EMULATED_PROCESSOR = "Nehalem"


def machine_words(
    node_id: str, image: QemuImage, settings: QemuSettings, accelerator: str
) -> list[str]:
    """QEMU's arguments. Nothing secret is in them: everybody can read a command line."""
    words = ["-name", node_id, "-no-user-config", "-nodefaults", "-display", "none"]
    words += ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny"]
    words += ["-M", "q35", "-accel", accelerator]
    words += ["-cpu", _EMULATED_PROCESSOR if accelerator == "tcg" else "host"]
    words += ["-smp", str(settings.cpus), "-m", str(settings.memory)]
    if image.kernel:
        line = image.command_line
        line = f"{line} {_WHEN_EMULATED}" if accelerator == "tcg" else line
        words += ["-kernel", image.kernel, "-initrd", image.initrd, "-append", line]
    # What a machine wrote is gone with its host, so nothing waits for the platter.
    words += ["-drive", f"if=virtio,format=qcow2,cache=unsafe,discard=unmap,file={DISK}"]
    words += ["-drive", f"if=virtio,format=raw,readonly=on,file={SEED}"]
    words += ["-nic", "user,ipv6=off,model=virtio-net-pci"]
    words += ["-device", "virtio-rng-pci"]
    words += ["-serial", f"file:logs/{CONSOLE}"]
    words += ["-device", "virtio-serial-pci"]
    words += ["-chardev", f"file,id=status,path=logs/{BOOT_STATUS}"]
    words += ["-device", f"virtserialport,chardev=status,name={STATUS_PORT}"]
    return words
