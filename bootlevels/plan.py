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
from functools import cached_property
from typing import Any


class ServiceKind(str, Enum):
    """Where a service lives.

    ``LOCAL``: programs on this machine; ``MACHINE``: one of its own, launched for it;
    ``HOST``: a machine that exists already; ``RESIDENT``: where another service is
    (``ServiceSpec.on``); ``ATTRIBUTES``: nothing but values for others; ``POOL``: workers
    that the coordinator keeps.
    """

    LOCAL = "local"
    MACHINE = "machine"
    HOST = "host"
    RESIDENT = "resident"
    ATTRIBUTES = "attributes"
    POOL = "pool"


class CheckKind(str, Enum):
    """How a service is asked whether it is ready."""

    TCP = "tcp"
    HTTP = "http"
    AMQP = "amqp"
    FILE = "file"
    POOL = "pool"
    RUN = "run"


class TransportKind(str, Enum):
    """How programs reach their place. ``NONE``: no programs, user-data and checks only."""

    LOCAL = "local"
    EXEC = "exec"
    SSH = "ssh"
    AGENT = "agent"
    NONE = "none"


#: Attribute of a service with the names of the pools that it keeps, commas between them.
KEEPS = "keeps"
#: Service that hands nodes their accounts; its attribute ``accounts`` is the broker's file.
REGISTRAR = "registrar"


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program as words, each a text of its own; ``timeout`` in seconds.

    ``staged``: the first word is a file of the launching machine, to be copied into a
    stage directory at the service's place; so is every relative path and every tarball.
    """

    words: tuple[str, ...]
    timeout: float
    environment: dict[str, str] = field(default_factory=dict)
    staged: bool = False


@dataclass(frozen=True, kw_only=True)
class ReadyCheck:
    """Asked every ``interval`` seconds until it passes, at most ``timeout`` seconds.

    ``target`` is what the kind asks: ``host:port``, a URL, the path of an accounts file
    or an AMQP URL, a path (at the service's place), a pool service's name. A RUN check
    has a program instead. ``tries``: after so many looks it has failed, 0 for any number.
    """

    kind: CheckKind
    target: str = ""
    program: Program | None = None
    interval: float
    timeout: float
    tries: int = 0


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
class MachineRequest:
    """A machine to launch for a service.

    ``settings`` are the driver's own keys (``image``, ``type``, …). What the machine reads
    at its first boot is ``template`` rendered with ``variables``, or the file ``user_data``
    (relative to the plan, ``$key`` from the service's attributes), or nothing. ``timeout``:
    seconds from the launch until it runs and its transport reaches it.
    """

    cloud: str
    settings: dict[str, str] = field(default_factory=dict)
    template: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    user_data: str = ""
    timeout: float


@dataclass(frozen=True, kw_only=True)
class SshAccess:
    """How a machine is reached by ssh; empty texts leave it to the user's ssh settings.

    ``scp_user`` is for people who copy files there; programs go by ``user``.
    ``key`` and ``known_hosts`` are files of this machine, relative to the plan. Without
    ``known_hosts`` a host's key is taken at first contact and held to for the whole run.
    ``stage_directory`` is where files are staged there, below the login directory unless
    it is absolute.
    """

    user: str = ""
    scp_user: str = ""
    port: str = ""
    key: str = ""
    known_hosts: str = ""
    stage_directory: str = ""


@dataclass(frozen=True, kw_only=True)
class ServiceSpec:
    """One service of a level.

    ``outputs`` are attributes that only its boot program knows; ``provides`` are roles
    that other services look for (``registrar``); ``keeps`` are pools that have their own
    controllers there, named also by the attribute KEEPS. ``host`` is the address of a HOST, ``on``
    the service whose place a RESIDENT shares. ``transport`` None: the place's own choice.
    ``bootconf`` is a file (relative to the plan) that programs find beside them as
    ``bootconf.json``, ``$key`` filled from the service's attributes.
    """

    name: str
    kind: ServiceKind
    attributes: dict[str, str] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    keeps: tuple[str, ...] = ()
    boot: Program | None = None
    ready: tuple[ReadyCheck, ...] = ()
    terminate: Program | None = None
    pool: PoolRequest | None = None
    machine: MachineRequest | None = None
    host: str = ""
    on: str = ""
    ssh: SshAccess | None = None
    transport: TransportKind | None = None
    bootconf: str = ""

    @property
    def programs(self) -> tuple[tuple[str, Program], ...]:
        """Its programs with their keys: ``boot``, ``terminate``, ``ready[0]``, …"""
        named = [("boot", self.boot), ("terminate", self.terminate)]
        named += [(f"ready[{at}]", check.program) for at, check in enumerate(self.ready)]
        return tuple((key, program) for key, program in named if program is not None)

    @property
    def keeps_stage(self) -> bool:
        """Whether its programs share one stage directory from its boot to its end.

        Those of classic plans do: what a boot program leaves beside itself is there for
        the ready program, as it was in their time.
        """
        return any(program.staged for _, program in self.programs)


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

    @cached_property
    def _places(self) -> dict[str, tuple[int, ServiceSpec]]:
        found: dict[str, tuple[int, ServiceSpec]] = {}
        for level in self.levels:
            for service in level.services:
                found.setdefault(service.name, (level.number, service))
        return found

    def service(self, name: str) -> ServiceSpec:
        """The service called ``name``. Raises KeyError."""
        return self._places[name][1]

    def level_of(self, name: str) -> int:
        """The number of the level in which ``name`` is. Raises KeyError."""
        return self._places[name][0]

    def landlord(self, service: ServiceSpec) -> ServiceSpec:
        """The service at whose place ``service`` is: itself unless it is a RESIDENT.

        Raises KeyError when ``on`` leads nowhere or in a circle.
        """
        seen: set[str] = set()
        while service.kind is ServiceKind.RESIDENT:
            if service.name in seen:
                raise KeyError(service.name)
            seen.add(service.name)
            service = self.service(service.on)
        return service

    @cached_property
    def _registrar(self) -> ServiceSpec | None:
        return next((s for s in self.services() if REGISTRAR in s.provides), None)

    def registrar(self) -> ServiceSpec | None:
        """The service that provides the registrar, and with it the coordinator."""
        return self._registrar
