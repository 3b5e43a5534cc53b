"""A cloud driver in a process of its own, seen from the provisioner as a CloudDriver.

Every call has a deadline. When one passes, or the process dies, the process is killed, its
callers get RetryLater, and the next call starts a new one. Calls of several greenlets (or
threads) run at the same time. Only ``socket``, ``threading`` and ``subprocess`` are used,
which eventlet makes green, so it works patched and unpatched alike.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from agent.wire import from_wire, to_wire
from coordinator import errors
from coordinator.clouds.base import CloudInstance, LaunchRequest
from coordinator.errors import ConfigProblem, EpuError, Problem, RetryLater

#: Seconds until a call is given up. ``start`` is from the process' start to its readiness.
DEADLINES = {
    "start": 30.0,
    "launch": 120.0,
    "list_instances": 30.0,
    "terminate": 60.0,
    "console_output": 30.0,
    "boot_status": 30.0,
}
#: Seconds in which a process that works takes a line from its socket.
_WRITE_TIMEOUT = 5.0


class CloudProcess:
    """The driver named by ``settings["driver"]``, hosted (see ``coordinator.clouds.host``).

    The first process is started at once, so that wrong settings are a ConfigProblem here
    and not in some later call. RetryLater when it did not start in time.
    """

    def __init__(
        self,
        name: str,
        settings: Mapping[str, str],
        state_dir: Path,
        deadlines: Mapping[str, float] | None = None,
    ) -> None:
        self.name = name
        self._first = {"name": name, "settings": dict(settings), "state_dir": str(state_dir)}
        self._deadlines = {**DEADLINES, **(deadlines or {})}
        self._starting = threading.Lock()
        self._host: _Host | None = None
        ready = self._running_host(time.monotonic() + self._deadlines["start"]).ready
        self.consistency_window = float(ready["consistency_window"])
        self.batches = bool(ready["batches"])
        self.batch_limit = int(ready["batch_limit"])
        self.machine_knows_id = bool(ready["machine_knows_id"])
        self.user_data_form = str(ready["user_data_form"])
        self.loopback_address = str(ready["loopback_address"])

    def __repr__(self) -> str:
        return f"CloudProcess({self.name!r})"

    @property
    def pid(self) -> int | None:
        """The pid of the driver's process; None while there is none."""
        host = self._host
        return None if host is None or host.failure else host.pid

    def launch(self, request: LaunchRequest) -> None:
        """As CloudDriver.launch."""
        self._call("launch", request=to_wire(request))

    def list_instances(
        self, run: str, launch_ids: Sequence[str] | None = None
    ) -> Sequence[CloudInstance]:
        """As CloudDriver.list_instances."""
        limited = None if launch_ids is None else list(launch_ids)
        found = self._call("list_instances", run=run, launch_ids=limited)
        return from_wire(list[CloudInstance], found)

    def terminate(self, cloud_ids: Sequence[str]) -> None:
        """As CloudDriver.terminate."""
        self._call("terminate", cloud_ids=list(cloud_ids))

    def console_output(self, cloud_id: str) -> str | None:
        """As CloudDriver.console_output."""
        said = self._call("console_output", cloud_id=cloud_id)
        return None if said is None else str(said)

    def boot_status(self, cloud_id: str) -> str | None:
        """As ExplainsBoot.boot_status; None for a driver that has no such method."""
        said = self._call("boot_status", cloud_id=cloud_id)
        return None if said is None else str(said)

    def close(self) -> None:
        """End the process; a call that runs is given up. A later call starts a new one."""
        if self._host is not None:
            self._host.end("closed")

    def _call(self, method: str, **arguments: Any) -> Any:
        deadline = time.monotonic() + self._deadlines[method]
        host = self._running_host(deadline)
        waiter = host.ask(method, arguments, deadline)
        if not waiter.answered.wait(max(0.0, deadline - time.monotonic())):
            host.end(f"{method} took longer than {self._deadlines[method]:g} s")
        if waiter.answer is None:
            raise RetryLater(f"cloud {self.name}: {host.failure or 'no answer'}")
        if "error" in waiter.answer:
            raise _as_exception(waiter.answer["error"])
        return waiter.answer["result"]

    def _running_host(self, deadline: float) -> _Host:
        host = self._host
        if host is not None and not host.failure:
            return host
        if not self._starting.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise RetryLater(f"cloud {self.name}: its process does not start")
        try:
            if self._host is None or self._host.failure:
                by = min(deadline, time.monotonic() + self._deadlines["start"])
                self._host = _Host(self.name, self._first, by)
            return self._host
        finally:
            self._starting.release()


class _Waiter:
    """One call that waits. ``answer`` stays None when the process ended first."""

    def __init__(self) -> None:
        self.answered = threading.Event()
        self.answer: dict[str, Any] | None = None


class _Host:
    """One life of a driver's process.

    ``failure`` is empty while it may be used, then says why not. One reader hands answers
    to the callers; whoever calls writes its own line under a lock.
    """

    def __init__(self, name: str, first: Mapping[str, Any], deadline: float) -> None:
        self.failure = ""
        self.ready: dict[str, Any] = {}
        self._name = name
        self._waiters: dict[int, _Waiter] = {}
        self._asked = 0
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._connection, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "coordinator.clouds.host", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        except OSError as problem:
            self._connection.close()
            raise RetryLater(f"cloud {name}: its process can't be started: {problem}") from problem
        finally:
            theirs.close()
        self.pid = self._process.pid
        # For the writer; the reader, which may wait for ever, just goes on after it.
        self._connection.settimeout(_WRITE_TIMEOUT)
        hello = self._waiters[0] = _Waiter()
        threading.Thread(target=self._read, name=f"cloud-{name}", daemon=True).start()
        self._write(first, deadline)
        if not hello.answered.wait(max(0.0, deadline - time.monotonic())):
            self.end("its process did not become ready in time")
        if hello.answer is None:
            raise RetryLater(f"cloud {name}: {self.failure or 'no answer'}")
        if not hello.answer["ready"]:
            self.end("refused its settings")
            raise _as_exception(hello.answer["error"])
        self.ready = hello.answer

    def ask(self, method: str, arguments: Mapping[str, Any], deadline: float) -> _Waiter:
        """Send a call; the waiter is answered by the reader, or when the process ends."""
        waiter = _Waiter()
        with self._lock:
            self._asked += 1
            number = self._asked
            if self.failure:
                waiter.answered.set()
                return waiter
            self._waiters[number] = waiter
        self._write({"id": number, "method": method, "arguments": arguments}, deadline)
        return waiter

    def end(self, why: str) -> None:
        """Kill the process and let every caller go. The first reason stays."""
        with self._lock:
            if self.failure:
                return
            self.failure = why
            waiters = list(self._waiters.values())
            self._waiters.clear()
        # SIGKILL, not a request: it may be stopped or hang. Its drivers stand that.
        with suppress(OSError):
            self._process.kill()
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        for waiter in waiters:
            waiter.answered.set()

    def _write(self, message: Mapping[str, Any], deadline: float) -> None:
        data = json.dumps(message).encode() + b"\n"
        if not self._writing.acquire(timeout=max(0.0, deadline - time.monotonic())):
            self.end("its process does not read")
            return
        try:
            self._connection.sendall(data)
        except OSError:  # a time-out included: half a line was sent, so it is of no use now
            self.end("its process does not read")
        finally:
            self._writing.release()

    def _read(self) -> None:
        buffer = b""
        with suppress(OSError, ValueError):
            while part := self._receive():
                *lines, buffer = (buffer + part).split(b"\n")
                for line in lines:
                    self._hand_over(json.loads(line))
        self.end("its process ended")
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._connection.close()

    def _receive(self) -> bytes:
        while True:
            with suppress(TimeoutError):
                return self._connection.recv(65536)

    def _hand_over(self, answer: dict[str, Any]) -> None:
        with self._lock:
            waiter = self._waiters.pop(answer.get("id", 0), None)
        if waiter is not None:
            waiter.answer = answer
            waiter.answered.set()


def _as_exception(error: Mapping[str, Any]) -> EpuError:
    if error["class"] == "ConfigProblem":
        return ConfigProblem([from_wire(Problem, problem) for problem in error["problems"]])
    kind = getattr(errors, error["class"])
    found: EpuError = kind(error["text"])
    return found
