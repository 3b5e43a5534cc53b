"""What a reload would change: the plan of a run against another one. PURE."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from bootlevels.boot_sequence import ServiceState, States
from bootlevels.inputs import Staleness, dependencies_of, staleness
from bootlevels.plan import LaunchPlan, Program, ServiceKind, ServiceSpec


class ChangeKind(str, Enum):
    """What a reload does with a service.

    ADDED: boots it. REMOVED: ends it. REPLACED: ends it as the old plan says, boots it as
    the new one says. CONFIGURED: boots it again where it is. CHECKED: looks at it again.
    DEPENDENT: configures it anew if values of what it depends on turn out to be others.
    """

    ADDED = "added"
    REMOVED = "removed"
    REPLACED = "replaced"
    CONFIGURED = "configured"
    CHECKED = "checked"
    DEPENDENT = "dependent"


@dataclass(frozen=True, kw_only=True)
class Change:
    """One service that a reload touches; ``level`` is the new plan's if it is in it."""

    service: str
    kind: ChangeKind
    level: int
    why: str


#: By service: the digest of the values it would be booted with now.
Digests = Callable[[ServiceSpec], str]


def plan_changes(
    old: LaunchPlan,
    new: LaunchPlan,
    states: States,
    booted_with: Mapping[str, str],
    digest: Digests,
) -> tuple[Change, ...]:
    """Every service that is not as it was, lowest level first.

    ``booted_with``: the digests that are on record; ``digest`` knows the new plan.
    """
    before = {service.name: service for service in old.services()}
    changes: dict[str, Change] = {}
    for service in new.services():
        found = _change(old, new, before.get(service.name), service)
        if found is None and states.get(service.name) is ServiceState.VERIFIED:
            found = _changed_values(service, booted_with.get(service.name, ""), digest)
        if found is None:
            touched = dependencies_of(new, service) & {
                name for name, change in changes.items() if change.kind is not ChangeKind.CHECKED
            }
            if touched:
                found = ChangeKind.DEPENDENT, f"depends on {', '.join(sorted(touched))}"
        if found is not None:
            kind, why = found
            level = new.level_of(service.name)
            changes[service.name] = Change(service=service.name, kind=kind, level=level, why=why)
    names = {service.name for service in new.services()}
    removed = tuple(
        Change(
            service=service.name,
            kind=ChangeKind.REMOVED,
            level=old.level_of(service.name),
            why="the plan has it no more",
        )
        for service in before.values()
        if service.name not in names
    )
    return tuple(sorted((*changes.values(), *removed), key=lambda change: change.level))


def to_end(changes: tuple[Change, ...]) -> frozenset[str]:
    """Services that must be ended, by the old plan, before the new one is booted."""
    ending = (ChangeKind.REMOVED, ChangeKind.REPLACED)
    return frozenset(change.service for change in changes if change.kind in ending)


def _change(
    old: LaunchPlan, new: LaunchPlan, was: ServiceSpec | None, is_now: ServiceSpec
) -> tuple[ChangeKind, str] | None:
    if was is None:
        return ChangeKind.ADDED, "the plan has it now"
    ours, theirs = _essence(old, was), _essence(new, is_now)
    keys = sorted(key for key in ours if ours[key] != theirs[key])
    if keys:
        if was.kind is is_now.kind and is_now.kind in (ServiceKind.POOL, ServiceKind.ATTRIBUTES):
            return ChangeKind.CONFIGURED, f"other {', '.join(keys)}"
        return ChangeKind.REPLACED, f"other {', '.join(keys)}"
    if was != is_now:
        return ChangeKind.CHECKED, "other checks or time-outs"
    if old.level_of(was.name) != new.level_of(is_now.name):
        return ChangeKind.CHECKED, f"was in level {old.level_of(was.name)}"
    return None


def _changed_values(
    service: ServiceSpec, before: str, digest: Digests
) -> tuple[ChangeKind, str] | None:
    match staleness(before, digest(service)):
        case Staleness.MACHINE:
            return ChangeKind.REPLACED, "values that its machine was launched with have changed"
        case Staleness.CONFIGURATION:
            return ChangeKind.CONFIGURED, "values that it was booted with have changed"
    return None


def _essence(plan: LaunchPlan, service: ServiceSpec) -> dict[str, object]:
    """What of ``service`` can't change under it while it runs."""
    values: dict[str, object] = dict(vars(service))
    del values["ready"]
    for key in ("boot", "terminate"):
        program = values[key]
        values[key] = replace(program, timeout=1.0) if isinstance(program, Program) else None
    if service.pool is not None:
        values["pool"] = service.pool.section
    if service.machine is not None:
        values["machine"] = replace(service.machine, timeout=1.0)
        values["cloud"] = _lasting(plan.clouds.get(service.machine.cloud, {}))
    else:
        values["cloud"] = None
    return values


def _lasting(settings: Mapping[str, str]) -> dict[str, str]:
    """A cloud's settings without credentials: these may be renewed."""
    words = ("key", "secret", "token", "password")
    return {k: v for k, v in settings.items() if not any(word in k.lower() for word in words)}
