"""Recorded decisions from a controller's store file, which is only read.

The file may be in use, or a copy that somebody sent. SQLite's own backup makes a second
copy, so that nothing is written beside the first one and an older one can be migrated.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from coordinator.controller.records import PoolRecords
from coordinator.errors import ConfigProblem, Problem
from coordinator.store.session import open_store

#: What SQLite says of a file as a whole is in so many bytes at its beginning.
_HEADER = 100


def recordings_in(
    file: Path, pool: str | None = None, at: float | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(pool, row) of each stored decision, newest first; ``at``: the one in force then.

    Rows are those of ``PoolRecords.recordings``. Raises ConfigProblem for a file that is none
    of a controller's.
    """
    with _opened(file) as records:
        for name in records.pools_recorded():
            if pool is not None and name != pool:
                continue
            before = None
            while page := records.recordings(name, before, at, limit=1 if at else 50):
                yield from ((name, row) for row in page)
                before = page[-1]["id"]
                if at is not None:
                    break


def explanations_in(file: Path) -> Iterator[dict[str, Any]]:
    """Each stored decision's explanation, pool by pool, oldest first. Raises ConfigProblem."""
    with _opened(file) as records:
        for name in records.pools_recorded():
            since = 0.0
            while page := records.decisions(name, since):
                yield from page
                since = float(page[-1]["time"])


def may_lack_the_newest(file: Path) -> str:
    """Why the newest rows may be missing from a copy, and how to make a whole one; "" if not.

    What was written last is beside the store, in its ``-wal`` file. One that was copied alone
    looks just like one that has been written back; made by VACUUM INTO it does not.
    """
    with suppress(OSError), file.open("rb") as opened:
        in_wal_mode = opened.read(_HEADER)[18:20] == b"\x02\x02"
        if in_wal_mode and not file.with_name(f"{file.name}-wal").exists():
            how = f"sqlite3 {file.name} \"VACUUM INTO 'copy.db'\""
            return (
                f"{file} has no {file.name}-wal beside it: if it was copied from a run, the newest"
                f" decisions may be missing (to copy: {how})"
            )
    return ""


@contextmanager
def _opened(file: Path) -> Iterator[PoolRecords]:
    with TemporaryDirectory(prefix="epu-replay-") as directory:
        copy = Path(directory) / "controller.db"
        _copied(file, copy)
        yield PoolRecords(open_store(copy))


def _copied(file: Path, copy: Path) -> None:
    try:
        source = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)
        with closing(source), closing(sqlite3.connect(copy)) as target:
            source.backup(target)
            target.execute("select 1 from decisions limit 1")
    except sqlite3.Error as problem:
        raise ConfigProblem(
            [
                Problem(
                    where=str(file),
                    what=f"it is no store of a controller that can be read: {problem}",
                    remedy="give the controller.db of a run's coordinator, or a copy of it",
                )
            ]
        ) from None
