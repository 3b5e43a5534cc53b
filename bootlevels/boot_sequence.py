"""What comes next: from a plan and what the record says of it. PURE.

Nothing is remembered between the calls, so a second boot tool, started after the first
was killed at any moment, goes on exactly where the record ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from bootlevels.plan import LaunchPlan, ServiceSpec


class ServiceState(str, Enum):
    """How far a service is. Each state is stored before what follows it is tried."""

    NEW = "NEW"
    REQUESTED = "REQUESTED"
    LAUNCHED = "LAUNCHED"
    BOOTED = "BOOTED"
    VERIFIED = "VERIFIED"
    REPLACING = "REPLACING"
    TERMINATING = "TERMINATING"
    TERMINATED = "TERMINATED"


#: Nothing of the service is in the world: there is nothing that a termination must end.
ENDED_STATES = frozenset({ServiceState.NEW, ServiceState.TERMINATED})
STOPPING_STATES = frozenset({ServiceState.TERMINATING, ServiceState.TERMINATED})

NEXT_STATES: dict[ServiceState, frozenset[ServiceState]] = {
    ServiceState.NEW: frozenset(
        {
            ServiceState.REQUESTED,  # its machine is asked for before its level's turn
            ServiceState.LAUNCHED,  # its boot program is about to run
        }
    ),
    ServiceState.REQUESTED: frozenset(
        {
            ServiceState.LAUNCHED,  # its level's turn came: the machine is there already
            ServiceState.REPLACING,  # started for nothing: a lower level failed
            ServiceState.TERMINATING,
        }
    ),
    ServiceState.LAUNCHED: frozenset(
        {
            ServiceState.LAUNCHED,  # it failed or was interrupted: the program runs again
            ServiceState.BOOTED,  # the boot program succeeded, its outputs are stored
            ServiceState.REPLACING,  # a repair found its machine broken, or a reload another plan
            ServiceState.TERMINATING,  # given up half-way; what it left must be ended
        }
    ),
    ServiceState.BOOTED: frozenset(
        {
            ServiceState.LAUNCHED,  # a watcher asked for a restart after a failed check
            ServiceState.VERIFIED,  # every check passed
            ServiceState.REPLACING,
            ServiceState.TERMINATING,
        }
    ),
    ServiceState.VERIFIED: frozenset(
        {
            ServiceState.LAUNCHED,  # values that it was booted with have changed
            ServiceState.VERIFIED,  # it was looked at again, and is well
            ServiceState.REPLACING,  # it was well and is not any more
            ServiceState.TERMINATING,
        }
    ),
    ServiceState.REPLACING: frozenset(
        {
            ServiceState.REPLACING,  # ending what was left of it failed: once more
            ServiceState.NEW,  # nothing of it is left
            ServiceState.TERMINATING,
        }
    ),
    ServiceState.TERMINATING: frozenset(
        {
            ServiceState.TERMINATING,  # the terminate program failed: it runs again
            ServiceState.TERMINATED,  # it succeeded, or there is none
        }
    ),
    ServiceState.TERMINATED: frozenset(),
}

States = Mapping[str, ServiceState]


class ServiceAction(str, Enum):
    """The next thing to do with one service."""

    BOOT = "boot"
    VERIFY = "verify"
    CHECK = "check"
    REPLACE = "replace"
    TERMINATE = "terminate"


@dataclass(frozen=True)
class StartLevel:
    """Bring these services of a level forward, all at once."""

    number: int
    services: tuple[ServiceSpec, ...]
    description: str = ""


@dataclass(frozen=True)
class LevelFailed:
    """The level can't be completed now; nothing above it may start."""

    number: int
    failed: tuple[str, ...]


@dataclass(frozen=True)
class Finished:
    """Every service is where it should be."""


NextStep = StartLevel | LevelFailed | Finished


def next_boot_action(state: ServiceState) -> ServiceAction | None:
    """What a service in ``state`` needs next on its way to VERIFIED."""
    match state:
        case ServiceState.NEW | ServiceState.REQUESTED | ServiceState.LAUNCHED:
            return ServiceAction.BOOT
        case ServiceState.BOOTED:
            return ServiceAction.VERIFY
        case ServiceState.REPLACING:
            return ServiceAction.REPLACE
    return None


def next_boot_step(
    plan: LaunchPlan,
    states: States,
    failed: frozenset[str],
    well: frozenset[str] | None = None,
) -> NextStep:
    """The lowest level that is not verified, or why it can't be.

    ``failed``: services that failed in this very attempt; they are not tried again in it.
    ``well``: services that this attempt found to be well; with it, what an earlier attempt
    verified is not trusted and has to be looked at again.
    """
    for level in plan.levels:
        waiting = tuple(
            service
            for service in level.services
            if _state(states, service.name) is not ServiceState.VERIFIED
            or (well is not None and service.name not in well)
        )
        if not waiting:
            continue
        stuck = tuple(service.name for service in waiting if service.name in failed)
        if stuck:
            return LevelFailed(level.number, stuck)
        return StartLevel(level.number, waiting, level.description)
    return Finished()


def next_termination_step(
    plan: LaunchPlan,
    states: States,
    failed: frozenset[str],
    only: frozenset[str] | None = None,
) -> NextStep:
    """The highest level with something left to end, or why it can't be ended.

    What failed to end may still need the levels below it, so they stay until a repeated
    termination gets through. ``only``: the services that are to be ended, when not all.
    """
    for level in reversed(plan.levels):
        left = tuple(
            service
            for service in level.services
            if _state(states, service.name) not in ENDED_STATES
            and (only is None or service.name in only)
        )
        if not left:
            continue
        stuck = tuple(service.name for service in left if service.name in failed)
        if stuck:
            return LevelFailed(level.number, stuck)
        return StartLevel(level.number, left, level.description)
    return Finished()


def is_stopping(states: States) -> bool:
    """Whether a termination has begun: then the run can only be ended."""
    return any(state in STOPPING_STATES for state in states.values())


def changed_services(old: LaunchPlan, new: LaunchPlan, states: States) -> tuple[str, ...]:
    """Services that stand by the ``old`` plan and are others, elsewhere or gone in ``new``.

    What failed may be corrected in the plan; what is verified may not change under us.
    """
    changed = []
    for service in old.services():
        state = _state(states, service.name)
        if state is ServiceState.NEW:
            continue
        try:
            other = new.service(service.name)
        except KeyError:
            changed.append(service.name)
            continue
        moved = new.level_of(service.name) != old.level_of(service.name)
        if state is ServiceState.VERIFIED and (moved or other != service):
            changed.append(service.name)
    return tuple(changed)


def _state(states: States, name: str) -> ServiceState:
    return states.get(name, ServiceState.NEW)
