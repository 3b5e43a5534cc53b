"""A cloud whose world outlives every process that talks to it: an SQLite file.

The driver ``tests.shelf_cloud:ShelfCloud`` is hosted as any other, killed with its
provisioner, and started again; what it made is still there and counted. It lags, is slow
(so that a kill lands inside a call) and loses replies after acting.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from coordinator.clouds.base import CloudInstance, LaunchRequest, MachineState
from coordinator.errors import RetryLater

_TABLES = """
create table if not exists launches (launch_id text primary key);
create table if not exists machines (
    cloud_id integer primary key autoincrement, run text, pool text, launch_id text,
    number integer, made_at real, ended_at real);
create index if not exists machines_run on machines (run);
"""


class ShelfCloud:
    """Settings, as text: ``file``; ``lag``, ``slow`` (s); ``lose`` (share of replies);
    ``honours_launch_id`` (``false``: repeats make machines again); ``batch_limit``.
    """

    user_data_form = "agent-config"

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._file = settings["file"]
        self._slow = float(settings.get("slow", "0"))
        self._lose = float(settings.get("lose", "0"))
        self._honours = settings.get("honours_launch_id", "true") == "true"
        self.consistency_window = float(settings.get("lag", "0"))
        self.batch_limit = int(settings.get("batch_limit", "100"))
        self.batches = self.batch_limit > 1
        self._random = random.Random()
        with self._connect() as connection:
            connection.executescript("pragma journal_mode=wal;" + _TABLES)

    @classmethod
    def from_settings(cls, settings: Mapping[str, str], state_dir: Path) -> ShelfCloud:
        return cls(settings)

    # -------------------------------------------------------------- the driver

    def launch(self, request: LaunchRequest) -> None:
        time.sleep(self._random.uniform(0, self._slow))
        with self._connect() as connection:
            connection.execute("begin immediate")
            known = connection.execute(
                "select 1 from launches where launch_id = ?", (request.launch_id,)
            ).fetchone()
            if known is None or not self._honours:
                connection.execute(
                    "insert or ignore into launches values (?)", (request.launch_id,)
                )
                connection.executemany(
                    "insert into machines (run, pool, launch_id, number, made_at)"
                    " values (?, ?, ?, ?, ?)",
                    [
                        (request.run, request.pool, request.launch_id, index, time.time())
                        for index in range(request.count)
                    ],
                )
        self._reply()

    def list_instances(
        self, run: str, launch_ids: Sequence[str] | None = None
    ) -> Sequence[CloudInstance]:
        shown = time.time() - self.consistency_window
        with self._connect() as connection:
            rows = connection.execute(
                "select cloud_id, run, pool, launch_id, number, ended_at from machines"
                " where run = ? and made_at <= ? and (ended_at is null or ended_at > ?)",
                (run, shown, shown - 60.0),
            ).fetchall()
        return [
            CloudInstance(
                cloud_id=f"s-{cloud_id}",
                run=run_name,
                pool=pool,
                launch_id=launch_id,
                index=number,
                state=MachineState.GONE
                if ended_at is not None and ended_at <= shown
                else MachineState.RUNNING,
                price=0.1,
            )
            for cloud_id, run_name, pool, launch_id, number, ended_at in rows
            if launch_ids is None or launch_id in launch_ids
        ]

    def terminate(self, cloud_ids: Sequence[str]) -> None:
        time.sleep(self._random.uniform(0, self._slow))
        with self._connect() as connection:
            connection.executemany(
                "update machines set ended_at = ? where cloud_id = ? and ended_at is null",
                [(time.time(), cloud_id.removeprefix("s-")) for cloud_id in cloud_ids],
            )
        self._reply()

    def console_output(self, cloud_id: str) -> str | None:
        return None

    # -------------------------------------------------------------- for whoever judges

    def alive(self) -> list[str]:
        """Node ids of what really runs, one for each machine."""
        with self._connect() as connection:
            rows = connection.execute(
                "select launch_id, number from machines where ended_at is null"
            ).fetchall()
        return sorted(f"{launch_id}-{number}" for launch_id, number in rows)

    def ages(self) -> dict[str, float]:
        """For how long each living machine runs, s, by node id."""
        with self._connect() as connection:
            rows = connection.execute(
                "select launch_id, number, made_at from machines where ended_at is null"
            ).fetchall()
        return {f"{launch_id}-{number}": time.time() - made for launch_id, number, made in rows}

    def made(self) -> list[str]:
        """Node ids of every machine that ever was, one for each machine."""
        with self._connect() as connection:
            rows = connection.execute("select launch_id, number from machines").fetchall()
        return sorted(f"{launch_id}-{number}" for launch_id, number in rows)

    # -------------------------------------------------------------- inside

    def _reply(self) -> None:
        if self._random.random() < self._lose:
            raise RetryLater("the reply was lost")

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self._file, timeout=20, isolation_level=None)
        try:
            yield connection
            if connection.in_transaction:
                connection.commit()
        finally:
            connection.close()
