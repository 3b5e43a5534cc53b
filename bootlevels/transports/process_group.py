"""Processes of this machine: which is which, and ending a whole group of them."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

#: Seconds between SIGTERM and SIGKILL.
GRACE = 2.0
_POLL = 0.05


class Waiter:
    """Waits for a child without waking up for nothing, where the kernel can do that."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self._child = child
        self._descriptor: int | None = None
        with suppress(OSError, AttributeError):
            self._descriptor = os.pidfd_open(child.pid)

    def wait(self, seconds: float) -> int | None:
        """The exit code, or None when the child still runs after ``seconds``."""
        if self._descriptor is None:
            with suppress(subprocess.TimeoutExpired):
                return self._child.wait(seconds)
            return None
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        poll.poll(max(0.0, seconds) * 1000)
        return self._child.poll()

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def end_group(pid: int, child: subprocess.Popen[bytes] | None = None) -> None:
    """SIGTERM to the whole process group, SIGKILL after GRACE to what is left of it."""
    _signal_group(pid, signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    while time.monotonic() < deadline:
        if child is not None:
            child.poll()  # reap it, else the group lives on as a zombie
        if not _signal_group(pid, 0) or not _group_runs(pid):
            return
        time.sleep(_POLL)
    _signal_group(pid, signal.SIGKILL)
    if child is not None:
        child.wait(GRACE)


def _signal_group(pid: int, number: int) -> bool:
    """Whether there still was such a group."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # all that is left belongs to somebody else
        return False
    return True


def _group_runs(pid: int) -> bool:
    """Whether anything in the group still runs: zombies wait for parents that are not us."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            state, _, group = _fields(path)[:3]
            if int(group) == pid and state not in "ZX":
                return True
    return not Path("/proc/self/stat").exists()


def _fields(path: Path) -> list[str]:
    """The fields of a ``stat`` from the state on; the name before it may hold anything."""
    text = path.read_text(errors="replace")
    return text[text.rindex(")") + 2 :].split()


def groups_marked(setting: str) -> set[int]:
    """Process groups, but our own, with a process that has ``NAME=value`` in its environment."""
    found: set[int] = set()
    wanted = setting.encode()
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            if wanted in (path / "environ").read_bytes().split(b"\0"):
                found.add(os.getpgid(int(path.name)))
    return found - {os.getpgrp()}


def mark_of(pid: int) -> str:
    """What tells a process from a later one with the same pid; "" when there is none."""
    try:
        started = _fields(Path(f"/proc/{pid}/stat"))[19]
        return f"{_boot_id()}/{started}"
    except (OSError, ValueError, IndexError):
        return ""


@cache
def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
