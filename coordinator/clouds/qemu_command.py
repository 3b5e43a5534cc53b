"""The command line of one virtual machine. PURE. Paths are relative to its directory."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from ipaddress import IPv4Address

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
#: Descriptor by which QEMU has its end of a cable: the next after those of ``machine_launcher``.
TAP = 4


@dataclass(frozen=True, kw_only=True)
class Cable:
    """The one line to this host of a machine that has a network of its own."""

    machine: IPv4Address
    host: IPv4Address
    prefix: int
    hardware: str


def machine_words(
    node_id: str,
    image: QemuImage,
    settings: QemuSettings,
    accelerator: str,
    cable: Cable | None = None,
) -> list[str]:
    """QEMU's arguments. Nothing secret is in them: everybody can read a command line.

    With a ``cable``, QEMU has to be started with the descriptor TAP: see ``qemu_cable``.
    """
    words = ["-name", node_id, "-no-user-config", "-nodefaults", "-display", "none"]
    words += ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny"]
    words += ["-M", "q35", "-accel", accelerator]
    words += ["-cpu", _EMULATED_PROCESSOR if accelerator == "tcg" else "host"]
    words += ["-smp", str(settings.cpus), "-m", str(settings.memory)]
    if image.kernel:
        line = image.command_line
        line = f"{line} {_WHEN_EMULATED}" if accelerator == "tcg" else line
        line = f"{line} {_network_word(cable)}" if cable else line
        words += ["-kernel", image.kernel, "-initrd", image.initrd, "-append", line]
    # What a machine wrote is gone with its host, so nothing waits for the platter.
    words += ["-drive", f"if=virtio,format=qcow2,cache=unsafe,discard=unmap,file={DISK}"]
    words += ["-drive", f"if=virtio,format=raw,readonly=on,file={SEED}"]
    if cable is None:
        words += ["-nic", "user,ipv6=off,model=virtio-net-pci"]
    else:
        words += ["-netdev", f"tap,id=cable,fd={TAP}"]
        words += ["-device", f"virtio-net-pci,netdev=cable,mac={cable.hardware}"]
    words += ["-device", "virtio-rng-pci"]
    words += ["-serial", f"file:logs/{CONSOLE}"]
    words += ["-device", "virtio-serial-pci"]
    words += ["-chardev", f"file,id=status,path=logs/{BOOT_STATUS}"]
    words += ["-device", f"virtserialport,chardev=status,name={STATUS_PORT}"]
    return words


def hardware_address(mark: str) -> str:
    """Of the network card of the machine with that mark, in the range that QEMU has for it."""
    return ":".join(["52", "54", "00", mark[0:2], mark[2:4], mark[4:6]])


def network_config(cable: Cable) -> str:
    """What cloud-init on the machine has to know of its network. No name server is there."""
    card = {
        "match": {"macaddress": cable.hardware},
        "set-name": "eth0",
        "dhcp4": False,
        "addresses": [f"{cable.machine}/{cable.prefix}"],
        "routes": [{"to": "0.0.0.0/0", "via": str(cable.host)}],
    }
    return json.dumps({"version": 2, "ethernets": {"eth0": card}})


def _network_word(cable: Cable) -> str:
    """For images of ours, which tell cloud-init to leave the network alone: this has precedence."""
    return f"network-config={base64.b64encode(network_config(cable).encode()).decode()}"
