"""A run and its outcome as plain JSON values, for ``--json`` and ``-o``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bootlevels.api import Run, Service
from bootlevels.attributes import masked
from bootlevels.moments import Outcome
from bootlevels.record import ServiceRecord


def described_outcome(outcome: Outcome) -> dict[str, Any]:
    """Whether it went well, and each failure with the last lines of output."""
    failures = [
        {"service": f.service, "action": f.action, "error": f.text, "output": list(f.tail)}
        for f in outcome.failures
    ]
    return {
        "ok": outcome.ok,
        "failures": failures,
        "repaired": list(outcome.repaired),
        "idle": list(outcome.idle),
    }


def described_run(run: Run) -> dict[str, Any]:
    """A run for ``--json`` and ``-o``: no secret that the environment knows is in it."""
    secrets, values, info = run.secrets, run.values(), run.info
    found = run.services()
    services = [
        {
            "name": service.spec.name,
            "level": service.level,
            "kind": service.spec.kind.value,
            "state": service.record.state.value,
            "error": masked(service.record.error, secrets),
            "launches": service.record.launches,
            "times": service_times(service.record),
            "attributes": {k: masked(v, secrets) for k, v in values.of(service.spec.name).items()},
        }
        for service in found
    ]
    return {
        "run": run.name,
        "directory": str(run.directory),
        "plan": run.plan.name,
        "profile": run.plan.profile,
        "created_at": info.created_at,
        "booted_at": info.booted_at,
        "terminated_at": info.terminated_at,
        "levels": level_times(found),
        "services": services,
    }


def service_times(record: ServiceRecord) -> dict[str, float | None]:
    """When a service's last launch was how far (epoch seconds), and what it took (seconds)."""
    launched, booted, verified = record.launched_at, record.booted_at, record.verified_at
    return {
        "launched_at": launched,
        "booted_at": booted,
        "verified_at": verified,
        "seen_well_at": record.seen_well_at,
        "terminated_at": record.terminated_at,
        "boot_seconds": _between(launched, booted),
        "verify_seconds": _between(booted, verified),
        "seconds": _between(launched, verified),
    }


def level_times(services: Sequence[Service]) -> list[dict[str, Any]]:
    """From the first launch of each level to its last verification; open ends are None."""
    levels: dict[int, list[ServiceRecord]] = {}
    for service in services:
        levels.setdefault(service.level, []).append(service.record)
    times = []
    for number, records in levels.items():
        began = min((r.launched_at for r in records if r.launched_at), default=None)
        ends = [record.verified_at for record in records]
        ended = None if None in ends else max((e for e in ends if e), default=None)
        times.append(
            {
                "level": number,
                "launched_at": began,
                "verified_at": ended,
                "seconds": _between(began, ended),
            }
        )
    return times


def _between(began: float | None, ended: float | None) -> float | None:
    return None if began is None or ended is None else round(ended - began, 6)


def write_private(path: Path, text: str) -> None:
    """Replace the file at ``path`` as a whole; 0600 from the start."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    number = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(number, "w", encoding="utf-8") as file:
        file.write(text)
    new.replace(path)
