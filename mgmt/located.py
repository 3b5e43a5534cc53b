"""What a run's record said last of where its coordinator is, so that it need not be opened.

Opening a record takes most of a second, for a command that only wants two paths out of it. The
note beside the record holds for exactly the record that it was made from: its files' times
and sizes. It has no secrets, and whoever removes it loses nothing.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bootlevels.run_home import RECORD_NAME

NOTE = "located.json"


@dataclass(frozen=True)
class Located:
    """``ended``: the run is terminated; else the paths of its accounts and its coordinator."""

    ended: bool
    accounts: Path | None = None
    state_dir: Path | None = None


def stamp(directory: Path) -> list[list[int]]:
    """What changes with every change of the record in ``directory``."""
    found = []
    for name in (RECORD_NAME, f"{RECORD_NAME}-wal"):
        try:
            status = (directory / name).stat()
        except OSError:
            found.append([0, 0])
        else:
            # Readers make an empty one and remove it again.
            found.append([status.st_mtime_ns, status.st_size] if status.st_size else [0, 0])
    return found


def recall(directory: Path) -> Located | None:
    """What was noted of the record as it is now; None when nothing was."""
    try:
        note = json.loads((directory / NOTE).read_text())
        if note["stamp"] != stamp(directory):
            return None
        found = Located(bool(note["ended"]), _path(note["accounts"]), _path(note["state_dir"]))
        # A record that was copied here may have brought the note of another place.
        return found if found.accounts is None or found.accounts.exists() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def note(directory: Path, found: Located, stamped: list[list[int]]) -> None:
    """Note ``found``, read from the record when it was ``stamped``. Never raises OSError."""
    from mgmt.broker_files import write_private

    document: dict[str, Any] = {
        "stamp": stamped,
        "ended": found.ended,
        "accounts": str(found.accounts) if found.accounts else None,
        "state_dir": str(found.state_dir) if found.state_dir else None,
    }
    with suppress(OSError):  # somebody else's run, or a full disk: it is only slower
        write_private(directory / NOTE, json.dumps(document))


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
