"""Logs of a node that no program of its supervisord writes: cloud-init's, supervisord's own."""

from __future__ import annotations

import os
from pathlib import Path

from agent.messages import mask_url

#: Bytes of one file that are looked at.
_LOOKED_AT = 512 * 1024
CLOUD_INIT_LOGS = (Path("/var/log/cloud-init-output.log"), Path("/var/log/cloud-init.log"))


def system_logs(directory: Path) -> dict[str, tuple[Path, ...]]:
    """Name → files, of those that this node has. ``directory`` is the node's own."""
    logs = directory / "logs"
    known = {
        "cloud-init": CLOUD_INIT_LOGS,
        "supervisord": (logs / "supervisord.log",),
        "console": (logs / "console.log",),
    }
    found = {name: tuple(path for path in paths if path.is_file()) for name, paths in known.items()}
    return {name: paths for name, paths in found.items() if paths}


def tail_of(name: str, path: Path, lines: int) -> str:
    """The last ``lines`` lines under a heading, passwords in addresses blotted out.

    A file that can't be read says so in its place.
    """
    heading = f"== {name} {path}"
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _LOOKED_AT))
            text = file.read().decode("utf-8", "replace")
    except OSError as problem:
        return f"{heading}\n(can't be read: {problem.strerror})"
    return "\n".join([heading, *map(_without_password, text.splitlines()[-lines:])])


def _without_password(line: str) -> str:
    return " ".join(map(mask_url, line.split(" "))) if "://" in line else line
