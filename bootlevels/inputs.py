"""Which values a service was booted with, so that a change of them is noticed. PURE.

A digest stands for the values of everything a service refers to outside of itself, and for
a pool's section as the coordinator has it: it is stored when the service is booted and
compared when it is looked at again. It holds no value, so no secret.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from enum import Enum

from bootlevels.attribute_graph import uses_of
from bootlevels.attributes import (
    GLOBAL,
    RUN,
    SELF,
    Attributes,
    MalformedReference,
    Reference,
    Unresolved,
    references,
)
from bootlevels.plan import LaunchPlan, ServiceKind, ServiceSpec

#: Parts of a service that work again without a boot when only they have changed.
_LATER = frozenset({"ready", "terminate"})
#: Parts of a service that its programs see, but not its machine's first boot.
_PROGRAMS = _LATER | {"boot", "bootconf"}


class Staleness(Enum):
    """What a changed value means for a service that was booted with another one."""

    NONE = "none"
    CONFIGURATION = "configuration"
    MACHINE = "machine"


def launch_references(service: ServiceSpec) -> set[Reference]:
    """References of ``service`` that its machine must know before it is launched."""
    machine = service.machine
    if machine is None:
        return set()
    without = _PROGRAMS if machine.user_data else _PROGRAMS | {"attributes"}
    return _outside(service, without)


def may_be_early(service: ServiceSpec) -> bool:
    """Whether a machine can be launched for it before any lower level is there."""
    if service.kind is not ServiceKind.MACHINE:
        return False
    return all(reference.owner == GLOBAL for reference in launch_references(service))


def dependencies_of(plan: LaunchPlan, service: ServiceSpec) -> set[str]:
    """Names of the services whose values or machine ``service`` is booted with."""
    names = {r.owner for r in _outside(service, _LATER) if r.owner != GLOBAL}
    if service.kind is ServiceKind.RESIDENT:
        names.add(plan.landlord(service).name)
    return names


def digest_of(service: ServiceSpec, attributes: Attributes, place: str = "") -> str:
    """The digest of what ``service`` would be booted with now.

    ``place`` tells the machine it is on from another one. A pool is on none: it can be given
    anew at any time, so what its section says is one of its values.
    """
    launch = _digest(launch_references(service), service, attributes)
    if service.pool is not None:
        place = json.dumps(service.pool.section, sort_keys=True, default=str)
    boot = _digest(_outside(service, _LATER), service, attributes, place)
    return f"{launch}/{boot}"


def staleness(before: str, now: str) -> Staleness:
    """What it means that a service was booted with digest ``before``."""
    if not before or before == now:
        return Staleness.NONE
    same_launch = before.partition("/")[0] == now.partition("/")[0]
    return Staleness.CONFIGURATION if same_launch else Staleness.MACHINE


def _outside(service: ServiceSpec, without: frozenset[str]) -> set[Reference]:
    """References to other services and globals in all parts but ``without``."""
    found: set[Reference] = set()
    for use in uses_of(service):
        rest = use.key.removeprefix(f"services.{service.name}.")
        part = rest.partition(".")[0].partition("[")[0]
        if part not in without:
            found.update(_readable(use.text))
    return {one for one in found if one.owner not in (SELF, RUN, service.name)}


def _readable(text: str) -> tuple[Reference, ...]:
    try:
        return references(text)
    except MalformedReference:
        return ()  # the plan's reader has refused it


def _digest(
    of: Iterable[Reference], service: ServiceSpec, attributes: Attributes, place: str = ""
) -> str:
    values: list[tuple[str, str | None]] = [("", place)] if place else []
    for reference in sorted(of, key=str):
        try:
            values.append((str(reference), attributes.value(reference, service)))
        except Unresolved:
            values.append((str(reference), None))
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:20] if values else "-"
