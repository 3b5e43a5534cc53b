"""Which processes of this host belong to which machine of the process cloud.

A machine's processes share a random mark in their environment (``EPU_MARK``), which
children inherit. A program that scrubs its environment is still found by its session or
its parent. Linux only: one pass over ``/proc`` answers for all machines together, and
pid file descriptors make sure that a signal never reaches a reused pid.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple

MARK_VARIABLE = "EPU_MARK"

_PROC = "/proc"
_KERNEL_THREAD = 0x00200000
#: Pause between two looks at processes that are about to end, seconds.
_PAUSE = 0.02


class StillRunning(Exception):
    """Processes did not end in the time given. The text names them."""


@dataclass(frozen=True, slots=True)
class RunningProcess:
    """One process; ``started`` (clock ticks since boot) tells it from a later one of its pid."""

    pid: int
    started: int
    parent: int
    session: int
    name: str
    mark: str | None


class _Stat(NamedTuple):
    """The fields of ``/proc/<pid>/stat`` that matter here (see ``man 5 proc``)."""

    name: str
    state: str
    parent: int
    session: int
    flags: int
    started: int
    environment: tuple[int, int]


class ProcessTable:
    """Finds processes by mark. Remembers marks between looks; safe for several threads."""

    def __init__(self) -> None:
        # The address of the environment is part of the key: it changes at exec, and with
        # it, possibly, the mark; pid and start time do not.
        self._known: dict[tuple[int, int, tuple[int, int]], str | None] = {}

    def by_mark(self) -> dict[str, list[RunningProcess]]:
        """Every live process (zombies are not) of every machine on this host, by mark."""
        processes = {process.pid: process for process in self._look()}
        owners = _owners(processes)
        found: dict[str, list[RunningProcess]] = {}
        for pid, mark in owners.items():
            found.setdefault(mark, []).append(processes[pid])
        return found

    def of(self, marks: Collection[str]) -> list[RunningProcess]:
        """The live processes of these machines, but never the process that asks."""
        found = self.by_mark()
        own = os.getpid()
        return [p for mark in marks for p in found.get(mark, ()) if p.pid != own]

    def stop(self, marks: Collection[str]) -> None:
        """SIGSTOP all of them, until a look finds none that was not stopped."""
        self._freeze(marks)

    def resume(self, marks: Collection[str]) -> None:
        """SIGCONT all of them."""
        for process in self.of(marks):
            send_signal(process, signal.SIGCONT)

    def end(self, marks: Collection[str], timeout: float) -> None:
        """SIGKILL all of them and return once two looks in a row find none.

        They are frozen first, so that no supervisor among them starts another meanwhile.
        Raises StillRunning after ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        quiet = 0
        while quiet < 2:
            for process in self._freeze(marks):
                send_signal(process, signal.SIGKILL)
                quiet = 0
            if time.monotonic() > deadline:
                raise StillRunning(_named(self.of(marks)))
            time.sleep(_PAUSE)
            quiet = 0 if self.of(marks) else quiet + 1

    def _freeze(self, marks: Collection[str]) -> list[RunningProcess]:
        stopped: dict[tuple[int, int], RunningProcess] = {}
        members: list[RunningProcess] = []
        for _ in range(50):
            members = self.of(marks)
            fresh = [p for p in members if (p.pid, p.started) not in stopped]
            if not fresh:
                break
            for process in fresh:
                send_signal(process, signal.SIGSTOP)
                stopped[process.pid, process.started] = process
        # One that became another machine's by exec between the look and the signal.
        for strayed in stopped.keys() - {(p.pid, p.started) for p in members}:
            send_signal(stopped[strayed], signal.SIGCONT)
        return members

    def _look(self) -> Iterator[RunningProcess]:
        known: dict[tuple[int, int, tuple[int, int]], str | None] = {}
        for entry in os.listdir(_PROC):
            if not entry.isdigit():
                continue
            stat = _stat(entry)
            if stat is None or stat.state in "ZX" or stat.flags & _KERNEL_THREAD:
                continue
            pid = int(entry)
            key = (pid, stat.started, stat.environment)
            mark = self._known[key] if key in self._known else _mark(entry)
            if stat.environment[1] > stat.environment[0]:  # else: in the middle of exec
                known[key] = mark
            yield RunningProcess(pid, stat.started, stat.parent, stat.session, stat.name, mark)
        self._known = known


def send_signal(process: RunningProcess, number: signal.Signals) -> bool:
    """Signal exactly this process; False when it is gone (even if its pid is in use)."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    except OSError:
        return _send_without_descriptor(process, number)
    try:
        if not _is_still(process):
            return False
        signal.pidfd_send_signal(descriptor, number)
        return True
    except (ProcessLookupError, PermissionError):
        return False
    finally:
        os.close(descriptor)


def command_line(pid: int) -> str:
    """The command of a process, words joined by spaces; empty when it is gone."""
    raw = _read(f"{_PROC}/{pid}/cmdline") or b""
    return raw.replace(b"\0", b" ").decode(errors="replace").strip()


def is_first_of_its_machine(pid: int) -> bool:
    """Whether it is process 1 of a pid namespace whose parent is ours."""
    numbers, own = _numbers(pid), _numbers(os.getpid())
    return len(numbers) == len(own) + 1 and numbers[-1] == 1


def _numbers(pid: int) -> list[int]:
    """A process's numbers in the pid namespaces from ours inward; empty when it is gone."""
    for line in (_read(f"{_PROC}/{pid}/status") or b"").splitlines():
        if line.startswith(b"NSpid:"):
            return [int(word) for word in line.split()[1:]]
    return []


def start_time(process: RunningProcess) -> float:
    """When the process started, seconds since the epoch (the kernel's boot time is ±1 s)."""
    for line in (_read(f"{_PROC}/stat") or b"").splitlines():
        if line.startswith(b"btime "):
            return int(line.split()[1]) + process.started / os.sysconf("SC_CLK_TCK")
    return 0.0


def _owners(processes: dict[int, RunningProcess]) -> dict[int, str]:
    """pid → mark: by the own environment, else by the session, else by the parent.

    A session counts only when a marked process is in it and its leader is either marked
    the same or gone: whoever merely set the variable in a login shell does not give the
    shell away. A process with a mark of its own never belongs to another machine.
    """
    owners = {p.pid: p.mark for p in processes.values() if p.mark}
    sessions: dict[int, str] = {}
    for process in processes.values():
        if process.mark and process.session:
            leader = processes.get(process.session)
            if leader is None or leader.mark == process.mark:
                sessions[process.session] = process.mark
    children: dict[int, list[int]] = {}
    for process in processes.values():
        if process.mark is None:
            children.setdefault(process.parent, []).append(process.pid)
            if process.session in sessions:
                owners[process.pid] = sessions[process.session]
    waiting = list(owners)
    while waiting:
        parent = waiting.pop()
        for child in children.get(parent, ()):
            if child not in owners:
                owners[child] = owners[parent]
                waiting.append(child)
    return owners


def _stat(pid: str) -> _Stat | None:
    raw = _read(f"{_PROC}/{pid}/stat")
    if not raw:
        return None
    # The name stands in brackets and may hold anything, brackets and spaces included.
    opening, closing = raw.index(b"("), raw.rindex(b")")
    fields = raw[closing + 2 :].split()
    return _Stat(
        name=raw[opening + 1 : closing].decode(errors="replace"),
        state=fields[0].decode(),
        parent=int(fields[1]),
        session=int(fields[3]),
        flags=int(fields[6]),
        started=int(fields[19]),
        environment=(int(fields[47]), int(fields[48])),
    )


def _mark(pid: str) -> str | None:
    raw = _read(f"{_PROC}/{pid}/environ")
    if not raw:
        return None
    _, found, rest = (b"\0" + raw).partition(f"\0{MARK_VARIABLE}=".encode())
    return (rest.partition(b"\0")[0].decode(errors="replace") or None) if found else None


def _is_still(process: RunningProcess) -> bool:
    stat = _stat(str(process.pid))
    return stat is not None and stat.started == process.started


def _send_without_descriptor(process: RunningProcess, number: signal.Signals) -> bool:
    """For kernels and sandboxes without pid descriptors: look, then signal at once."""
    try:
        if not _is_still(process):
            return False
        os.kill(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _named(processes: list[RunningProcess]) -> str:
    return ", ".join(f"{p.name} (pid {p.pid})" for p in processes) or "none"


def _read(path: str) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        parts = []
        while part := os.read(descriptor, 65536):
            parts.append(part)
        return b"".join(parts)
    except OSError:
        return None
    finally:
        os.close(descriptor)
