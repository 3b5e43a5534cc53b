"""What a node is for: programs, checks, queues. Part of the wire, and of plans. PURE."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

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


@dataclass(frozen=True, kw_only=True)
class NodeRole:
    """What a node is for: handed out at enrolment, never part of user-data.

    ``busy_file``: path, relative to the node's directory, in which a worker writes
    ``busy`` or ``idle``; ``work_queues``: queues its account may read.
    """

    __pydantic_config__: ClassVar = STRICT

    programs: dict[str, ProgramSpec] = field(default_factory=dict)
    checks: tuple[CheckSpec, ...] = ()
    outputs: dict[str, str] = field(default_factory=dict)
    work_queues: tuple[str, ...] = ()
    busy_file: str | None = None
    heartbeat_interval: float = 10.0
    drain_timeout: float = 300.0
