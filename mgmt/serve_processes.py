"""Which processes belong to the coordinator of one directory. Linux only: /proc.

Everything that ``epu serve`` starts inherits a mark in its environment, the directory, so
its processes are found whatever sessions they make, and even when supervisord was killed
or its starter died at once. Machines of the ``process`` cloud get a fresh environment
without it, and so outlive a coordinator, as machines must.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from mgmt.broker_processes import NodeProcess, send_signal, wait_until_gone

MARK_VARIABLE = "EPU_COORDINATOR_DIR"
_LOOK_EVERY = 0.05


def coordinator_processes(directory: Path) -> tuple[NodeProcess, ...]:
    """Every live process (no zombies) of the coordinator in ``directory``, by pid."""
    wanted = os.fsencode(f"{MARK_VARIABLE}={directory}")
    found = (_look(pid) for pid in _pids() if wanted in _words(pid, "environ"))
    return tuple(sorted(filter(None, found), key=lambda process: process.pid))


def supervisord_of(directory: Path) -> NodeProcess | None:
    """The supervisord of ``directory``, if it lives."""
    config = os.fsencode(directory / "supervisord.conf")
    for process in coordinator_processes(directory):
        if config in _words(process.pid, "cmdline"):
            return process
    return None


def program_of(directory: Path, module: str, config: str) -> NodeProcess | None:
    """The process of the coordinator in ``directory`` that runs ``module``, if it lives.

    ``config``: the name of its configuration file.
    """
    for process in coordinator_processes(directory):
        words = _words(process.pid, "cmdline")
        # A component's own children (a cloud's driver) have its environment, not its module.
        if {os.fsencode(module), os.fsencode(directory / config)} <= set(words):
            return process
    return None


def end_coordinator(directory: Path, timeout: float) -> tuple[NodeProcess, ...]:
    """End a supervisord and all under it; what is left of it (nothing, if all went well).

    First the polite way, in which supervisord stops its programs; at ``timeout`` seconds,
    or when supervisord is dead and can't do it, everybody is killed.
    """
    deadline = time.monotonic() + timeout
    leader = supervisord_of(directory)
    if leader is not None and timeout > 0:
        send_signal(leader, signal.SIGTERM)
        # What its programs started on their own (drivers of clouds) ends after them.
        wait_until_gone(coordinator_processes(directory), deadline)
    last = time.monotonic() + 5
    while left := _surely_left(directory):
        if time.monotonic() >= last:
            return left
        # Again until nobody is left: one may have forked just before it was killed.
        for process in left:
            send_signal(process, signal.SIGKILL)
        wait_until_gone(left, min(last, time.monotonic() + 1))
    return ()


def _surely_left(directory: Path) -> tuple[NodeProcess, ...]:
    """A process has no environment for an instant while it executes: look twice."""
    if left := coordinator_processes(directory):
        return left
    time.sleep(_LOOK_EVERY)
    return coordinator_processes(directory)


def _pids() -> Iterator[int]:
    return (int(entry) for entry in os.listdir("/proc") if entry.isdigit())


def _words(pid: int, name: str) -> list[bytes]:
    """The NUL-separated words of ``/proc/<pid>/<name>``; none when it is not ours to read."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_bytes().split(b"\0")
    return []


def _look(pid: int) -> NodeProcess | None:
    """The process with this pid now; None for none and for a zombie."""
    with suppress(OSError):
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        # "pid (name) state …": the name may hold spaces and parentheses itself.
        head, _, rest = text.rpartition(")")
        fields = rest.split()
        if fields[0] not in ("Z", "X"):
            name = head.partition("(")[2]
            return NodeProcess(pid=pid, started=int(fields[19]), name=name)
    return None
