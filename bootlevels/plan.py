"""What is to be booted, as frozen values. PURE.

Both readers (native YAML, classic ``.conf``) end in these values, and everything after
them knows nothing of files. Texts may still hold references (``${service.attribute}``);
``bootlevels.attributes`` says what they mean. A LaunchPlan goes into the run's record as
it is here: ``env:NAME`` values are still names, so no secret is copied.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class ServiceKind(str, Enum):
    """Where a service lives.

    ``LOCAL``: programs on this machine; ``ATTRIBUTES``: nothing but values for others;
    ``POOL``: workers that the coordinator keeps.
    """

    LOCAL = "local"
    ATTRIBUTES = "attributes"
    POOL = "pool"


class CheckKind(str, Enum):
    """How a service is asked whether it is ready."""

    TCP = "tcp"
    HTTP = "http"
    AMQP = "amqp"
    FILE = "file"
    RUN = "run"


#: Service that hands nodes their accounts; its attribute ``accounts`` is the broker's file.
REGISTRAR = "registrar"


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program as words, each a text of its own; ``timeout`` in seconds."""

    words: tuple[str, ...]
    timeout: float
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ReadyCheck:
    """Asked every ``interval`` seconds until it passes, at most ``timeout`` seconds.

    ``target`` is what the kind asks: ``host:port``, a URL, the path of an accounts file
    or an AMQP URL, a path. A RUN check has a program instead.
    """

    kind: CheckKind
    target: str = ""
    program: Program | None = None
    interval: float
    timeout: float


class PoolCheck(str, Enum):
    """When a pool counts as verified: all workers there, or a first one."""

    STABLE = "stable"
    LAUNCH_ONE = "launch_one"


@dataclass(frozen=True, kw_only=True)
class PoolRequest:
    """A pool as the coordinator gets it: the section's own keys, references in its texts.

    The plan's registrar leads to the coordinator.
    """

    section: dict[str, Any]
    verify: PoolCheck = PoolCheck.STABLE
    timeout: float


@dataclass(frozen=True, kw_only=True)
class ServiceSpec:
    """One service of a level.

    ``outputs`` are attributes that only its boot program knows; ``provides`` are roles
    that other services look for (``registrar``).
    """

    name: str
    kind: ServiceKind
    attributes: dict[str, str] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    boot: Program | None = None
    ready: tuple[ReadyCheck, ...] = ()
    terminate: Program | None = None
    pool: PoolRequest | None = None

    @property
    def is_checked(self) -> bool:
        """Whether anything but the success of its boot program verifies it."""
        return bool(self.ready) or self.pool is not None


@dataclass(frozen=True, kw_only=True)
class BootLevel:
    """Services that start together once every lower level is verified."""

    number: int
    services: tuple[ServiceSpec, ...]
    description: str = ""


@dataclass(frozen=True, kw_only=True)
class LaunchPlan:
    """A whole plan, profile and given globals already applied.

    ``directory`` is the plan file's own, absolute; ``clouds`` are the settings by name.
    """

    name: str
    levels: tuple[BootLevel, ...]
    description: str = ""
    directory: str = ""
    source: str = ""
    profile: str = ""
    globals: dict[str, str] = field(default_factory=dict)
    clouds: dict[str, dict[str, str]] = field(default_factory=dict)

    def services(self) -> Iterator[ServiceSpec]:
        """All services, lower levels first, in the order they were written."""
        for level in self.levels:
            yield from level.services

    def service(self, name: str) -> ServiceSpec:
        """The service called ``name``. Raises KeyError."""
        for service in self.services():
            if service.name == name:
                return service
        raise KeyError(name)

    def level_of(self, name: str) -> int:
        """The number of the level in which ``name`` is. Raises KeyError."""
        for level in self.levels:
            if any(service.name == name for service in level.services):
                return level.number
        raise KeyError(name)

    def registrar(self) -> ServiceSpec | None:
        """The service that provides the registrar, and with it the coordinator."""
        return next((s for s in self.services() if REGISTRAR in s.provides), None)
