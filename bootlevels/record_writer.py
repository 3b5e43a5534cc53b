"""One thread that writes, for all threads that have something to be written.

What was put while a commit was under way goes into the next one together (group commit),
and rows that changed several times meanwhile are written once. Order is kept: whatever was
put earlier is never on the disk later.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

Key = tuple[str, tuple[Any, ...]]
Row = Mapping[str, Any]


class GroupWriter:
    """Collects rows by key and has them written by ``commit``, all of a batch or none.

    After a commit that failed nothing more is written: every later ``put`` and ``flush``
    raises what it raised. The thread starts with the first row.
    """

    def __init__(self, commit: Callable[[Mapping[Key, Row]], None]) -> None:
        self._commit = commit
        self._changed = threading.Condition()
        self._rows: dict[Key, Row] = {}
        self._put = self._written = 0
        self._broken: BaseException | None = None
        self._closed = False
        self._thread: threading.Thread | None = None

    def put(self, key: Key, row: Row) -> None:
        """Have ``row`` written soon."""
        with self._changed:
            self._must_work()
            self._rows.pop(key, None)  # the newest row comes last: order is kept
            self._rows[key] = row
            self._put += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, name="record", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self) -> None:
        """Return when everything put so far is on the disk. Raises what the commit raised."""
        with self._changed:
            wanted = self._put
            while self._written < wanted and self._broken is None:
                self._changed.wait()
            self._must_work()

    def close(self) -> None:
        """Write what is left and end the thread. Raises nothing: ``flush`` tells."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _must_work(self) -> None:
        if self._broken is not None:
            raise self._broken

    def _write(self) -> None:
        while True:
            with self._changed:
                while not self._rows and not self._closed:
                    self._changed.wait()
                if not self._rows:
                    return
                rows, self._rows, upto = self._rows, {}, self._put
            try:
                self._commit(rows)
            except BaseException as problem:
                with self._changed:
                    self._broken = problem
                    self._changed.notify_all()
                return
            with self._changed:
                self._written = upto
                self._changed.notify_all()
