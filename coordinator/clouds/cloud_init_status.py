"""How far cloud-init is on a machine, from what it wrote on its disk. PURE.

The text has the form of ``cloud-init status --long``. Read from its files, it can be had
from a machine that is hung or dead, and costs the machine nothing; and it names warnings,
which older versions of the command keep to themselves although the boot failed for them
(user-data that is not YAML is no error to cloud-init, only ignored).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

STATUS = "var/lib/cloud/data/status.json"
RESULT = "var/lib/cloud/data/result.json"
LOG = "var/log/cloud-init.log"

_GRAVE = re.compile(r"\[(?:WARNING|ERROR|CRITICAL)\]: (?P<what>.*)")
_MOST_WARNINGS = 10


def status_text(status: str | None, result: str | None, log: str | None) -> str:
    """The text from the contents of the three files; None for one that is not there."""
    try:
        known = json.loads(status)["v1"] if status else {}
        stages = {name: value for name, value in known.items() if isinstance(value, Mapping)}
    except (ValueError, KeyError, TypeError, AttributeError):
        known, stages = {}, {}
    errors = [str(error) for stage in stages.values() for error in stage.get("errors") or ()]
    warnings = list(_warnings(log or ""))
    lines = [f"status: {_state(stages, errors, result is not None)}"]
    times = [stage.get(key) or 0 for stage in stages.values() for key in ("start", "finished")]
    if latest := max(times, default=0):
        lines.append(f"last_update: {datetime.fromtimestamp(latest, UTC):%Y-%m-%d %H:%M:%S} UTC")
    lines += ["detail:", _detail(known, errors)]
    for title, found in (("errors", errors), ("warnings", warnings)):
        if found:
            lines += [f"{title}:", *(f"  - {text}" for text in found)]
    return "\n".join(lines) + "\n"


def last_status(told: str) -> str | None:
    """The last whole status.json of a machine that tells each state of it, in turn.

    A record separator stands before each. None when there is none yet: a machine may have
    been killed while it told the first.
    """
    for text in reversed(told.split("\x1e")):
        try:
            if isinstance(json.loads(text)["v1"], Mapping):
                return text
        except (ValueError, KeyError, TypeError):
            continue
    return None


def has_ended(status: str) -> bool:
    """Whether cloud-init's last stage is over, by a status.json that ``last_status`` gave."""
    final = json.loads(status)["v1"].get("modules-final")
    return isinstance(final, Mapping) and bool(final.get("finished"))


def _state(stages: Mapping[str, Mapping[str, Any]], errors: list[str], finished: bool) -> str:
    if not stages:
        return "not run"
    if errors:
        return "error"
    under_way = any(s.get("start") and not s.get("finished") for s in stages.values())
    return "running" if under_way or not finished else "done"


def _detail(known: Mapping[str, Any], errors: list[str]) -> str:
    if errors:
        return errors[-1]
    if known.get("stage"):
        return f"Running in stage: {known['stage']}"
    return str(known.get("datasource") or "No datasource found yet")


def _warnings(log: str) -> Iterator[str]:
    found = dict.fromkeys(match["what"].strip() for match in _GRAVE.finditer(log))
    yield from list(found)[:_MOST_WARNINGS]
