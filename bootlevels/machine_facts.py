"""What is known of a service's machine, under the names that plans use. PURE."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_address

from bootlevels.machine_record import MachineLife, MachineRecord

#: What only a machine has; ``hostname`` is its public address, else its first one.
MACHINE_BUILT_INS = ("hostname", "instance_id", "private_ip", "public_ip")


def machine_facts(machines: Iterable[MachineRecord]) -> dict[str, dict[str, str]]:
    """By service, what its present machine is called; ``machines`` are oldest first."""
    found: dict[str, dict[str, str]] = {}
    for machine in machines:
        if machine.life is not MachineLife.GONE and machine.cloud_id:
            found[machine.service] = facts_of(machine)
    return found


def facts_of(machine: MachineRecord) -> dict[str, str]:
    """The MACHINE_BUILT_INS of ``machine`` that are known."""
    facts = {"instance_id": machine.cloud_id}
    private = next((a for a in machine.addresses if _is_private(a)), "")
    public = next((a for a in machine.addresses if not _is_private(a)), "")
    if machine.addresses:
        facts["hostname"] = public or machine.addresses[0]
        facts["private_ip"] = private or machine.addresses[0]
        facts["public_ip"] = public or machine.addresses[0]
    return facts


def _is_private(address: str) -> bool:
    try:
        return ip_address(address).is_private
    except ValueError:
        return False  # a name


Facts = Mapping[str, Mapping[str, str]]
