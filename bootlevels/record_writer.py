"""One thread that writes, for all threads that have something to be written.

What was put while a commit was under way goes into the next one together (group commit),
and rows that changed several times meanwhile are written once. Order is kept: whatever was
put earlier is never on the disk later. Rows that nobody waits for are written within TICK.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

Key = tuple[str, tuple[Any, ...]]
Row = Mapping[str, Any]

#: Seconds that a row waits for others to be written with, unless somebody waits for it.
TICK = 0.05


class GroupWriter:
    """Collects rows by key and has them written by ``commit``, all of a batch or none.

    After a commit that failed nothing more is written: every later ``put`` and ``flush``
    raises what it raised. The thread starts with the first row.
    """

    def __init__(self, commit: Callable[[Mapping[Key, Row]], None]) -> None:
        self._commit = commit
        self._work = threading.Condition()
        self._rows: dict[Key, Row] = {}
        #: Done when the rows put by now are on the disk; one for each batch.
        self._batch: Future[None] = Future()
        self._writing: Future[None] | None = None
        self._wanted = self._closed = False
        self._broken: BaseException | None = None
        self._thread: threading.Thread | None = None

    def put(self, key: Key, row: Row) -> None:
        """Have ``row`` written soon."""
        with self._work:
            self._must_work()
            first = not self._rows
            self._rows.pop(key, None)  # the newest row comes last: order is kept
            self._rows[key] = row
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, name="record", daemon=True)
                self._thread.start()
            elif first:
                self._work.notify()

    def flush(self) -> None:
        """Return when everything put so far is on the disk. Raises what the commit raised."""
        with self._work:
            self._must_work()
            batch = self._batch if self._rows else self._writing
            if self._rows and not self._wanted:
                self._wanted = True
                self._work.notify()
        if batch is not None:
            batch.result()

    def close(self) -> None:
        """Write what is left and end the thread. Raises nothing: ``flush`` tells."""
        with self._work:
            self._closed = True
            self._work.notify()
        if self._thread is not None:
            self._thread.join()

    def _must_work(self) -> None:
        if self._broken is not None:
            raise self._broken

    def _write(self) -> None:
        while rows := self._next_rows():
            batch = self._writing
            assert batch is not None
            try:
                self._commit(rows)
            except BaseException as problem:
                with self._work:
                    self._broken = problem
                    later = self._batch
                # Nothing is written after a gap: whoever waits for more is told as well.
                batch.set_exception(problem)
                later.set_exception(problem)
                return
            with self._work:
                self._writing = None
            batch.set_result(None)

    def _next_rows(self) -> dict[Key, Row]:
        """The rows of the next commit; none when all is written and closed."""
        with self._work:
            while not self._rows and not self._closed:
                self._work.wait()
            if not (self._wanted or self._closed):
                self._work.wait_for(lambda: self._wanted or self._closed, TICK)
            rows, self._rows, self._wanted = self._rows, {}, False
            self._writing, self._batch = self._batch, Future()
            return rows
