"""Which processes belong to one broker node, and how to end them. Linux only: /proc.

Everything a node starts inherits a mark in its environment (``EPU_BROKER_NODE=<uuid>``),
so its processes are found even when the node was killed, or when the command that started
it died before it could write a pid down. A process is its pid *and* its start time: a pid
that was reused is somebody else's and is never signalled.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mgmt.broker_problems import BrokerUnavailable

MARK_VARIABLE = "EPU_BROKER_NODE"
#: The name (``/proc/<pid>/comm``) of the Erlang machine itself.
BEAM = "beam.smp"
#: How often waiting looks again, seconds.
_LOOK_EVERY = 0.05
#: The last part of a stop's time-out, in which a node that did not end is killed.
_KILL_SHARE = 0.2
#: What Erlang's helpers need to notice that Erlang is gone, seconds.
_HELPERS_END = 2.0


@dataclass(frozen=True)
class NodeProcess:
    """One live process of a node. ``started``: clock ticks since the machine's boot."""

    pid: int
    started: int
    name: str

    @property
    def alive(self) -> bool:
        """Whether this very process still runs; a zombie does not."""
        found = _look(self.pid)
        return found is not None and found.started == self.started


@dataclass(frozen=True)
class StoppedProcess:
    """One process that was ended; ``killed`` when it did not go in peace."""

    pid: int
    name: str
    killed: bool = False


def node_processes(mark: str) -> tuple[NodeProcess, ...]:
    """Every live process that carries ``mark``, by pid."""
    wanted = f"{MARK_VARIABLE}={mark}".encode()
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with suppress(OSError):
            environment = Path("/proc", entry, "environ").read_bytes()
            if wanted in environment.split(b"\0") and (process := _look(int(entry))):
                found.append(process)
    return tuple(sorted(found, key=lambda process: process.pid))


def has_ended(mark: str) -> bool:
    """Whether no process of a node lives, looked at more than once.

    A process has no environment to read for the instant in which it executes another
    program, and a node's start scripts do that several times.
    """
    for _ in range(3):
        if node_processes(mark):
            return False
        time.sleep(_LOOK_EVERY)
    return True


def resident_bytes(process: NodeProcess) -> int:
    """Resident memory of a process, 0 when it is gone."""
    try:
        pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def send_signal(process: NodeProcess, number: signal.Signals) -> None:
    """Signal exactly this process; nothing happens when it is gone.

    The descriptor is opened before the start time is looked at again, so the signal can't
    reach a later process with the same pid.
    """
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    except OSError:
        _send_without_descriptor(process, number)
        return
    try:
        if process.alive:
            signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        pass
    finally:
        os.close(descriptor)


def _send_without_descriptor(process: NodeProcess, number: signal.Signals) -> None:
    """For kernels and sandboxes without pid descriptors: look, then signal at once."""
    with suppress(ProcessLookupError):
        if process.alive:
            os.kill(process.pid, number)


def wait_until_gone(processes: Iterable[NodeProcess], deadline: float) -> tuple[NodeProcess, ...]:
    """Wait until none of ``processes`` lives; what still lives at ``deadline`` (monotonic)."""
    left = tuple(process for process in processes if process.alive)
    while left and time.monotonic() < deadline:
        time.sleep(_LOOK_EVERY)
        left = tuple(process for process in left if process.alive)
    return left


def beam_of(processes: Iterable[NodeProcess]) -> NodeProcess | None:
    """The Erlang machine among the processes of a node."""
    return next((process for process in processes if process.name == BEAM), None)


def end_node(mark: str, timeout: float) -> tuple[StoppedProcess, ...]:
    """End all processes of a node, in peace if they can within most of ``timeout`` seconds.

    Returns what was ended. Raises BrokerUnavailable when one lives on.
    """
    deadline = time.monotonic() + timeout
    found = node_processes(mark)
    beam = beam_of(found)
    if beam is not None:
        # Erlang takes SIGTERM as "close the node's files, then end"; its helpers follow.
        send_signal(beam, signal.SIGTERM)
        wait_until_gone([beam], deadline - timeout * _KILL_SHARE)
        wait_until_gone(found, time.monotonic() + _HELPERS_END)
    # Looked up again: a helper may have been started in between.
    stubborn = node_processes(mark)
    for process in stubborn:
        send_signal(process, signal.SIGKILL)
    ended = tuple(dict.fromkeys((*found, *stubborn)))
    left = wait_until_gone(ended, max(deadline, time.monotonic() + _HELPERS_END))
    if left:
        raise BrokerUnavailable(
            f"process {left[0].pid} ({left[0].name}) does not end, even killed"
            " (look for a disk or a kernel that hangs)"
        )
    return tuple(StoppedProcess(one.pid, one.name, one in stubborn) for one in ended)


def _look(pid: int) -> NodeProcess | None:
    """The process with this pid now; None when there is none or it is a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # "pid (name) state …": the name may hold spaces and parentheses itself.
    head, _, rest = text.rpartition(")")
    fields = rest.split()
    # The first thread of a killed process is a zombie while others still close its ports.
    threads = int(fields[17])
    if fields[0] in ("Z", "X") and threads <= 1:
        return None
    return NodeProcess(pid=pid, started=int(fields[19]), name=head.partition("(")[2])
