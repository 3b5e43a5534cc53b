"""What a node is for: programs, checks, queues. Part of the wire, and of plans. PURE."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from agent.sensor_text import MAX_FIGURES, selector

#: For values that people also write in plans: their parser refuses unknown keys.
STRICT: dict[str, str] = {"extra": "forbid"}


@dataclass(frozen=True, kw_only=True)
class ProgramSpec:
    """A program that the node's supervisord keeps running.

    ``worker``: it takes jobs; draining the node stops it with SIGTERM and waits for its
    end. ``command`` is a list of words, never a shell line.
    """

    __pydantic_config__: ClassVar = STRICT

    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    worker: bool = True
    directory: str | None = None
    start_seconds: float = 1.0
    copies: int = 1

    def __post_init__(self) -> None:
        if not self.command:
            raise ValueError("command must name a program")
        if not 0 <= self.start_seconds <= 3600:
            raise ValueError(f"start_seconds must be between 0 and 3600, not {self.start_seconds}")
        if not 1 <= self.copies <= 1000:
            raise ValueError(f"copies must be between 1 and 1000, not {self.copies}")


@dataclass(frozen=True, kw_only=True)
class CheckSpec:
    """One readiness check. Exactly one of ``tcp``, ``http``, ``file``, ``run`` is set.

    ``tcp`` is ``host:port``; ``http`` a URL that must answer below 400; ``file`` a path
    that must exist; ``run`` words of a command that must exit 0.
    """

    __pydantic_config__: ClassVar = STRICT

    tcp: str | None = None
    http: str | None = None
    file: str | None = None
    run: tuple[str, ...] | None = None
    timeout: float = 30.0
    interval: float = 0.5

    def __post_init__(self) -> None:
        given = [name for name in ("tcp", "http", "file", "run") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(f"a check needs exactly one of tcp, http, file, run, not {given}")


#: Figures that every node has; no sensor may be called like one.
HOST_FIGURES = (
    "load1", "cpu_percent", "memory_percent", "memory_available", "disk_percent",
    "network_sent", "network_received", "agent_rss", "agent_cpu_percent", "program",
)  # fmt: skip
#: Sensors of one node.
MAX_SENSORS = 16


@dataclass(frozen=True, kw_only=True)
class NodeSensor:
    """What a node measures for its pool, beside its own figures. Of ``program`` and
    ``prometheus`` exactly one is set.

    ``program``: words of a command that prints a number, or lines ``name value``;
    ``prometheus``: URL of a page in that text format, of which ``names`` are taken.
    ``interval`` from one start to the next, ``timeout`` of one measurement: seconds.
    """

    __pydantic_config__: ClassVar = STRICT

    program: tuple[str, ...] = ()
    prometheus: str = ""
    names: tuple[str, ...] = ()
    interval: float = 10.0
    timeout: float = 5.0

    def __post_init__(self) -> None:
        problems = []
        if bool(self.program) == bool(self.prometheus):
            problems.append("a sensor needs either program or prometheus")
        if self.prometheus and not self.prometheus.startswith(("http://", "https://")):
            problems.append(f"prometheus must be an http URL, not '{self.prometheus}'")
        if self.prometheus and not self.names:
            problems.append("names must say which metrics of the page are wanted")
        if len(self.names) > MAX_FIGURES or len(set(self.names)) < len(self.names):
            problems.append(f"names must name up to {MAX_FIGURES} figures, each once")
        for name in self.names if self.prometheus else ():
            try:
                selector(name)
            except ValueError as problem:
                problems.append(f"names: {problem}")
        if not 1 <= self.interval <= 3600:
            problems.append(f"interval must be 1 to 3600 s, not {self.interval:g}")
        if not 0.1 <= self.timeout <= 60:
            problems.append(f"timeout must be 0.1 to 60 s, not {self.timeout:g}")
        if problems:
            raise ValueError("; ".join(problems))


@dataclass(frozen=True, kw_only=True)
class BusySource:
    """How a node knows whether its workers have work in hand. Exactly one source is named.

    ``queue``: deliveries of that queue which the node's consumers have not acknowledged, as the
    broker sees them. ``file``: below the node's directory; ``means`` says what about it counts:
    its ``content`` (``busy`` or ``idle``; older than ``max_age`` seconds it says nothing), that
    it ``exists``, or that it is ``fresh`` (changed within ``max_age``). ``socket``: a unix socket
    below the node's directory, or ``host:port``, that answers ``busy`` or ``idle``. ``program``:
    exits 0 when busy, 1 when idle. ``cpu``: busy unless the machine used less than so many
    percent for ``over`` seconds. ``timeout``: of a socket or program.
    """

    __pydantic_config__: ClassVar = STRICT

    queue: str | None = None
    file: str | None = None
    means: str = "content"
    max_age: float = 0.0
    socket: str | None = None
    program: tuple[str, ...] | None = None
    cpu: float | None = None
    over: float = 60.0
    timeout: float = 5.0

    def __post_init__(self) -> None:
        names = ("queue", "file", "socket", "program", "cpu")
        given = [name for name in names if getattr(self, name) not in (None, "", ())]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"exactly one of {', '.join(names)} must be given, not {found}")
        if self.means not in ("content", "exists", "fresh"):
            raise ValueError(f"means must be content, exists or fresh, not '{self.means}'")
        if self.means == "fresh" and self.max_age <= 0:
            raise ValueError("means: fresh needs max_age, seconds above 0")
        if not 0 <= self.max_age <= 7 * 86400:
            raise ValueError(f"max_age must be between 0 s and a week, not {self.max_age:g}")
        if self.cpu is not None and not 0 < self.cpu <= 100:
            raise ValueError(f"cpu must be above 0 and at most 100 %, not {self.cpu:g}")
        if not 1 <= self.over <= 86400:
            raise ValueError(f"over must be between 1 s and a day, not {self.over:g}")
        if not 0.1 <= self.timeout <= 60:
            raise ValueError(f"timeout must be between 0.1 and 60 s, not {self.timeout:g}")


@dataclass(frozen=True, kw_only=True)
class DrainProgram:
    """How a node's workers are told to take no more jobs, where SIGTERM is not the way.

    ``command`` must exit 0 once no more jobs are taken; it is run again until it does, each
    time for ``timeout`` seconds at most. When the busy source says idle after that, the
    workers are stopped. ``undo`` takes it back when the drain is cancelled; without it they
    are started anew. Lists of words, never shell lines.
    """

    __pydantic_config__: ClassVar = STRICT

    command: tuple[str, ...]
    undo: tuple[str, ...] = ()
    timeout: float = 30.0

    def __post_init__(self) -> None:
        if not self.command:
            raise ValueError("command must name a program")
        if not 0.1 <= self.timeout <= 3600:
            raise ValueError(f"timeout must be between 0.1 s and an hour, not {self.timeout:g}")


@dataclass(frozen=True, kw_only=True)
class Hook:
    """A program at a turning point of a node's life. ``command`` is a list of words.

    It has ``timeout`` seconds; with ``heartbeat`` it may go on after that for as long as it
    prints something, or touches the file that ``EPU_HOOK_BEAT`` names, at least every so many
    seconds, up to ``longest``. ``default`` says what a failure or time-out means: ``abandon``
    or ``continue``.
    """

    __pydantic_config__: ClassVar = STRICT

    command: tuple[str, ...]
    timeout: float = 60.0
    heartbeat: float = 0.0
    longest: float = 3600.0
    default: str = "abandon"

    def __post_init__(self) -> None:
        if not self.command:
            raise ValueError("command must name a program")
        if self.default not in ("continue", "abandon"):
            raise ValueError(f"default must be continue or abandon, not '{self.default}'")
        if not 0.1 <= self.timeout <= self.longest <= 7 * 86400:
            raise ValueError(
                "timeout must be at least 0.1 s and at most longest, longest at most a week"
            )
        if not (self.heartbeat == 0 or 0.1 <= self.heartbeat <= self.longest):
            raise ValueError("heartbeat must be 0 (none), or between 0.1 s and longest")

    @property
    def at_most(self) -> float:
        """Seconds after which it has ended, whatever it does."""
        return self.longest if self.heartbeat else self.timeout


@dataclass(frozen=True, kw_only=True)
class NodeRole:
    """What a node is for: handed out at enrolment, never part of user-data.

    ``busy_file``: short for a ``busy`` source that is a file with ``busy`` or ``idle`` in it;
    ``work_queues``: queues its account may read. ``on_ready`` runs before *ready* is reported,
    ``on_drain`` when the work has ended and before *drained*.
    """

    __pydantic_config__: ClassVar = STRICT

    programs: dict[str, ProgramSpec] = field(default_factory=dict)
    checks: tuple[CheckSpec, ...] = ()
    outputs: dict[str, str] = field(default_factory=dict)
    work_queues: tuple[str, ...] = ()
    busy_file: str | None = None
    heartbeat_interval: float = 10.0
    drain_timeout: float = 300.0
    sensors: dict[str, NodeSensor] = field(default_factory=dict)
    busy: BusySource | None = None
    drain: DrainProgram | None = None
    on_ready: Hook | None = None
    on_drain: Hook | None = None

    @property
    def busy_source(self) -> BusySource | None:
        """What says whether its workers are busy; None where nothing does."""
        if self.busy is None and self.busy_file:
            return BusySource(file=self.busy_file)
        return self.busy

    @property
    def busy_queue(self) -> str:
        """The queue whose deliveries say it, which not the node but its broker knows."""
        return (self.busy.queue or "") if self.busy is not None else ""
