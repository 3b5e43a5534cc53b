"""What cloud-init says of a boot, from its own status.json. PURE."""

from __future__ import annotations

import json
from typing import Any

#: In the order in which they run.
STAGES = ("init-local", "init", "modules-config", "modules-final")


def status_text(status_json: str) -> str | None:
    """The words of ``cloud-init status --long`` for the content of ``status.json``.

    None when it is not such content: a machine may have been killed while it wrote.
    """
    try:
        stages = json.loads(status_json)["v1"]
        errors = [f"{name}: {error}" for name in STAGES for error in _of(stages, name, "errors")]
        started = [name for name in STAGES if _of(stages, name, "start")]
        ended = [name for name in STAGES if _of(stages, name, "finished")]
        datasource = str(stages.get("datasource") or "none yet")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if errors:
        state, detail = "error", "\n".join(errors)
    elif STAGES[-1] in ended:
        state, detail = "done", datasource
    elif started:
        state, detail = "running", f"Running in stage: {started[-1]}"
    else:
        state, detail = "not run", "cloud-init has not begun"
    return f"status: {state}\ndetail:\n{detail}\n"


def _of(stages: Any, name: str, key: str) -> Any:
    found = stages.get(name) or {}
    return found.get(key) or ([] if key == "errors" else None)
