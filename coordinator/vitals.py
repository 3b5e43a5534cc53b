"""How a machine with parts of a coordinator is: its clock, disk, and what ends too often there."""

from __future__ import annotations

import re
import shutil
import socket
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

#: Ends of a process that are counted: not older than this, s.
RESTARTS_WITHIN = 600.0
_ENDED = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d+ [A-Z]+ exited: (\S+) ")
_TAIL = 256 * 1024


def vitals(state_dir: Path, now: float) -> dict[str, Any]:
    """Plain JSON values; ``now`` is this machine's wall clock, epoch s; ``free`` in bytes."""
    disk = shutil.disk_usage(state_dir)
    logs = state_dir / "logs"
    ends = recent_ends(_tail(logs / "supervisord.log").splitlines(), now)
    return {
        "host": socket.gethostname(),
        "directory": str(state_dir),
        "now": now,
        "free": disk.free,
        "total": disk.total,
        "restarts": {
            name: {"count": count, "last": _last_line(_tail(logs / f"{name}.log"))}
            for name, count in sorted(ends.items())
        },
    }


def recent_ends(lines: Iterable[str], now: float) -> Counter[str]:
    """How often each program ended within RESTARTS_WITHIN seconds before ``now``.

    ``lines`` are of a supervisord's log, whose times are local.
    """
    found: Counter[str] = Counter()
    for line in lines:
        if match := _ENDED.match(line):
            at = time.mktime(time.strptime(match.group(1), "%Y-%m-%d %H:%M:%S"))
            if now - at <= RESTARTS_WITHIN:
                found[match.group(2)] += 1
    return found


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _last_line(text: str) -> str:
    from agent.messages import mask_url

    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(map(mask_url, lines[-1].split(" ")))[:300] if lines else ""
