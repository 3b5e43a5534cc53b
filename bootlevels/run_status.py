"""How a run is: every service asked once, all of them at the same time, nothing changed."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from typing import Protocol

from bootlevels.boot_sequence import ServiceState
from bootlevels.plan import ServiceSpec
from bootlevels.record import ServiceRecord
from bootlevels.service_steps import ServiceSteps

MAX_THREADS = 32


class RecordedService(Protocol):
    """A service with its place and its record."""

    @property
    def spec(self) -> ServiceSpec: ...
    @property
    def level(self) -> int: ...
    @property
    def record(self) -> ServiceRecord: ...


@dataclass(frozen=True, kw_only=True)
class ServiceStatus:
    """What a service says of itself now; ``state`` is the record's.

    ``ok`` needs both: a service that was never verified is not well, whatever it answers.
    """

    name: str
    level: int
    kind: str
    state: ServiceState
    ok: bool
    detail: str
    unreachable: bool = False


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """All services of a run, lower levels first."""

    services: tuple[ServiceStatus, ...]

    @property
    def ok(self) -> bool:
        return all(service.ok for service in self.services)


def look_at_run(
    services: Sequence[RecordedService], steps: ServiceSteps, limit: float
) -> RunStatus:
    """Ask each of ``services`` once; at most ``limit`` seconds for each of its checks."""
    stop = Event()

    def look(service: RecordedService) -> ServiceStatus:
        record, detail, ok, unreachable = service.record, "", False, False
        match record.state:
            case ServiceState.BOOTED | ServiceState.VERIFIED:
                found = steps.look(service.spec, limit, stop)
                ok = found.ok and record.state is ServiceState.VERIFIED
                detail, unreachable = found.detail, found.unreachable
            case ServiceState.NEW:
                detail = "never booted"
            case ServiceState.TERMINATED:
                detail = "terminated"
        if record.error:
            detail = f"{record.step} failed: {record.error}"
        elif not detail:
            detail = f"was being {'booted' if record.state is ServiceState.LAUNCHED else 'ended'}"
        return ServiceStatus(
            name=service.spec.name,
            level=service.level,
            kind=service.spec.kind.value,
            state=record.state,
            ok=ok,
            detail=detail,
            unreachable=unreachable,
        )

    threads = ThreadPoolExecutor(min(max(len(services), 1), MAX_THREADS), "status")
    try:
        return RunStatus(services=tuple(threads.map(look, services)))
    except KeyboardInterrupt:
        stop.set()
        raise
    finally:
        threads.shutdown(wait=True, cancel_futures=True)
