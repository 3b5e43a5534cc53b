"""Files that hold secrets: created with mode 0600, replaced whole, never half written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_private(path: Path, text: str) -> None:
    """Replace ``path`` by ``text`` in one step; only our own user can read it.

    A reader sees the old content or the new one, also after a power cut. Raises OSError.
    """
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.unlink(missing_ok=True)  # left over from a crash, perhaps with another mode
    handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)


def write_private_json(path: Path, value: Any) -> None:
    """``write_private`` of plain JSON values."""
    write_private(path, json.dumps(value, indent=1) + "\n")


def read_json(path: Path) -> Any | None:
    """The JSON value in ``path``; None when the file is absent or not JSON at all."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
