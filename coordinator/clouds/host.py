"""Hosts one cloud driver in a process of its own: ``python -m coordinator.clouds.host <fd>``.

A driver is ordinary blocking Python; here it can hang, fork or read files without anybody
waiting for it but its own caller, and a crash of its library takes nobody along. The other
end is ``coordinator.provisioner.cloud_process``.

Wire: JSON lines over the inherited socket ``<fd>``. The first line names the driver and
holds its settings (never in argv, which everybody on the host can read); the answer to it
says that the driver is ready. Each further line is a call with an id; its answer has the
same id and comes when it is done, not in order. Each method has threads of its own, so
launches that hang don't keep terminations waiting: a driver must stand calls at the same
time. At the end of the stream (the provisioner ended, however) calls that run are
finished, as far as ``FINISHING`` allows, those that wait are dropped, and the process ends.
"""

from __future__ import annotations

import json
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from agent.wire import from_wire, to_wire
from coordinator import errors
from coordinator.clouds.base import CloudDriver, LaunchRequest, batch_limit_of
from coordinator.plugins import find_plugin

#: Calls of each method that may run at the same time.
THREADS = {
    "launch": 4,
    "list_instances": 2,
    "terminate": 4,
    "console_output": 2,
    "boot_status": 2,
}

#: For so long are running calls finished after the stream's end, s: longer than anybody
#: waits for one (``cloud_process.DEADLINES``), and not for ever, since a call may hang.
FINISHING = 150.0

_Call = Mapping[str, Any]


class DriverHost:
    """Answers the calls that come over ``connection`` until its end."""

    def __init__(self, connection: socket.socket, finishing: float = FINISHING) -> None:
        self._connection = connection
        self._finishing = finishing
        self._sending = threading.Lock()
        self._ending = threading.Event()

    def is_ending(self) -> bool:
        """Whether the stream has ended: nothing new is begun."""
        return self._ending.is_set()

    def serve(self) -> None:
        """Load the driver that the first line names, then answer calls."""
        lines = self._connection.makefile("r", encoding="utf-8", newline="\n")
        first = lines.readline()
        if not first:
            return
        try:
            driver = _load(json.loads(first))
        except Exception as problem:
            self._send({"ready": False, "error": _as_error(problem)})
            return
        self._send({"ready": True, **_described(driver)})
        queues = {method: SimpleQueue[_Call | None]() for method in THREADS}
        threads = [
            threading.Thread(target=self._work, args=(driver, queues[method]), daemon=True)
            for method, number in THREADS.items()
            for _ in range(number)
        ]
        for thread in threads:
            thread.start()
        with suppress(ConnectionError):  # the other end was killed with answers unread
            for line in lines:
                call = json.loads(line)
                queues[call["method"]].put(call)
        self._ending.set()
        for method, number in THREADS.items():
            for _ in range(number):
                queues[method].put(None)
        last = time.monotonic() + self._finishing
        for thread in threads:
            thread.join(max(0.0, last - time.monotonic()))

    def _work(self, driver: CloudDriver, queue: SimpleQueue[_Call | None]) -> None:
        while (call := queue.get()) is not None:
            if self._ending.is_set():
                continue
            try:
                answer = {"result": _answer(driver, call["method"], call["arguments"])}
            except Exception as problem:
                answer = {"error": _as_error(problem)}
            self._send({"id": call["id"], **answer})

    def _send(self, message: Mapping[str, Any]) -> None:
        data = json.dumps(message).encode() + b"\n"
        try:
            with self._sending:
                self._connection.sendall(data)
        except OSError:
            pass  # the other end is gone; the stream's end ends this process


def main(descriptor: str) -> None:
    """Serve on the inherited socket ``descriptor``."""
    # A person's Ctrl-C is for the provisioner; what ends this process is the stream's end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=int(descriptor)) as connection:
        connection.set_inheritable(False)
        connection.setblocking(True)  # eventlet made it otherwise on the other side
        DriverHost(connection).serve()


def _load(first: Mapping[str, Any]) -> CloudDriver:
    settings = dict(first["settings"])
    name = first["name"]
    driver_class = find_plugin("epu.clouds", settings.pop("driver", name), f"clouds.{name}.driver")
    driver: CloudDriver = driver_class.from_settings(settings, Path(first["state_dir"]))
    return driver


def _described(driver: CloudDriver) -> dict[str, Any]:
    return {
        "consistency_window": driver.consistency_window,
        "batches": driver.batches,
        "batch_limit": batch_limit_of(driver),
        "machine_knows_id": bool(getattr(driver, "machine_knows_id", True)),
        "user_data_form": getattr(driver, "user_data_form", "cloud-init"),
        "loopback_address": getattr(driver, "loopback_address", ""),
    }


def _answer(driver: CloudDriver, method: str, arguments: Mapping[str, Any]) -> Any:
    if method == "launch":
        return driver.launch(from_wire(LaunchRequest, arguments["request"]))
    if method == "list_instances":
        return to_wire(list(driver.list_instances(arguments["run"], arguments["launch_ids"])))
    if method == "terminate":
        return driver.terminate(arguments["cloud_ids"])
    if method == "boot_status":
        ask_status = getattr(driver, "boot_status", None)  # see ExplainsBoot
        return None if ask_status is None else ask_status(arguments["cloud_id"])
    return driver.console_output(arguments["cloud_id"])


def _as_error(problem: Exception) -> dict[str, Any]:
    """The nearest class of ``coordinator.errors`` by name, and the text.

    Anything else is a defect of the driver: its trace goes to the log, and the caller,
    who knows nothing of what happened, is told to try again.
    """
    for kind in type(problem).__mro__:
        if getattr(errors, kind.__name__, None) is kind and kind is not errors.EpuError:
            break
    else:
        traceback.print_exception(problem)
        return {
            "class": "RetryLater",
            "text": f"driver failed: {type(problem).__name__}: {problem}",
        }
    if isinstance(problem, errors.ConfigProblem):
        return {"class": kind.__name__, "problems": [to_wire(p) for p in problem.problems]}
    return {"class": kind.__name__, "text": str(problem)}


if __name__ == "__main__":
    main(sys.argv[1])
