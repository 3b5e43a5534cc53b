"""A run and its outcome as plain JSON values, for ``--json`` and ``-o``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bootlevels.api import Run
from bootlevels.attributes import masked
from bootlevels.runner import Outcome


def described_outcome(outcome: Outcome) -> dict[str, Any]:
    """Whether it went well, and each failure with the last lines of output."""
    failures = [
        {"service": f.service, "action": f.action, "error": f.text, "output": list(f.tail)}
        for f in outcome.failures
    ]
    return {"ok": outcome.ok, "failures": failures}


def described_run(run: Run) -> dict[str, Any]:
    """A run for ``--json`` and ``-o``: no secret that the environment knows is in it."""
    secrets = run.secrets
    services = []
    for service in run.services():
        attributes = run.attributes(service.spec.name)
        services.append(
            {
                "name": service.spec.name,
                "level": service.level,
                "kind": service.spec.kind.value,
                "state": service.record.state.value,
                "error": service.record.error,
                "attributes": {k: masked(v, secrets) for k, v in attributes.items()},
            }
        )
    return {
        "run": run.name,
        "directory": str(run.directory),
        "plan": run.plan.name,
        "profile": run.plan.profile,
        "services": services,
    }


def write_private(path: Path, text: str) -> None:
    """Replace the file at ``path`` as a whole; 0600 from the start."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    number = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(number, "w", encoding="utf-8") as file:
        file.write(text)
    new.replace(path)
