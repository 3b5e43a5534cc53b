"""Asking a system again and again beside the one who draws it, who is never kept waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from agent.rpc_client import CallFailed, RpcClient
from coordinator.errors import EpuError
from mgmt.answers import Call, ask
from mgmt.output import clock_text
from mgmt.watch.screen import Picture

#: Seconds for an answer; a system that is silent is shown as it was.
ANSWER_WITHIN = 8.0


class Looking:
    """A thread that asks every ``interval`` seconds until it is closed."""

    def __init__(self, client: RpcClient, run: str, interval: float) -> None:
        self._client = client
        self._run = run
        self._interval = interval
        self._closing = threading.Event()
        self._again = threading.Event()
        self._opened = ""
        self._picture = Picture(run=run, status={})
        self._at = time.monotonic()
        self._thread = threading.Thread(target=self._look_on, daemon=True)

    def begin(self) -> None:
        """Ask once, here, then go on in the background. Raises EpuError, CallFailed."""
        self._take(look(self._client.call, self._run, ""))
        self._thread.start()

    def picture(self) -> Picture:
        """What is known now, with its age."""
        found, age = self._picture, time.monotonic() - self._at
        return Picture(**{**vars(found), "age": age})

    def open(self, pool: str) -> None:
        """Which pool is asked for beside the list; "" for none."""
        if pool != self._opened:
            self._opened = pool
            self._again.set()

    def close(self) -> None:
        """Ask no more. The thread may still wait for an answer: it dies with the process."""
        self._closing.set()
        self._again.set()

    def _look_on(self) -> None:
        while not self._closing.is_set():
            self._again.wait(self._interval)
            self._again.clear()
            if self._closing.is_set():
                return
            try:
                self._take(look(self._client.call, self._run, self._opened))
            except (CallFailed, EpuError) as problem:
                self._picture = Picture(**{**vars(self._picture), "problem": str(problem)})
            except Exception:
                if self._closing.is_set():
                    return  # its connection was closed under it
                raise

    def _take(self, picture: Picture) -> None:
        self._picture, self._at = picture, time.monotonic()


def look(call: Call, run: str, opened: str) -> Picture:
    """One look at a system and at an ``opened`` pool of it. Raises EpuError, CallFailed."""
    status: Mapping[str, Any] = ask(call, "management", "status", timeout=ANSWER_WITHIN)
    if not opened or opened not in [pool["name"] for pool in status.get("pools") or ()]:
        return Picture(run=run, status=status)
    pool = ask(call, "management", "pool", opened, timeout=ANSWER_WITHIN)
    told = ask(call, "management", "events", None, opened, None, None, 10, timeout=ANSWER_WITHIN)
    events = [
        {**event, "clock": clock_text(event["time"]).partition(" ")[2]} for event in told["events"]
    ]
    return Picture(run=run, status=status, pool=pool, events=events)
