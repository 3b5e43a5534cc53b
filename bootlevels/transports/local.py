"""Programs on this machine, each in a process group of its own.

A program starts behind a gate: a fixed two-word shell script waits for one line before it
becomes the program (``exec``, same pid). So its pid is in the record before its first
instruction, and a boot tool killed in between leaves nothing running.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import IO

from bootlevels.transports.program import ProgramEnd, ProgramRun, Started

#: Words arrive as arguments and are never read as shell text.
_GATE = ["/bin/sh", "-c", 'read -r go && exec "$@" </dev/null', "sh"]
#: Seconds between SIGTERM and SIGKILL.
GRACE = 2.0
TAIL_LINES = 20
_TAIL_BYTES = 8192
_POLL = 0.05


class LocalTransport:
    """See ``Transport``. Output goes straight into the file, never through our memory."""

    def run(
        self, program: ProgramRun, stop: Event, on_started: Callable[[Started], None]
    ) -> ProgramEnd:
        try:
            output = _open_output(program.log)
        except OSError as error:
            return ProgramEnd(exit_code=None, problem=f"its log can't be written: {error}")
        with output:
            begin = output.seek(0, os.SEEK_END)
            try:
                child = subprocess.Popen(
                    [*_GATE, *program.words],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=program.directory,
                    env={**os.environ, **program.environment},
                    start_new_session=True,
                )
            except (OSError, ValueError) as error:
                return ProgramEnd(exit_code=None, problem=f"can't be started: {error}")
            end = _follow(child, program.timeout, stop, on_started)
            return ProgramEnd(
                exit_code=end.exit_code,
                timed_out=end.timed_out,
                interrupted=end.interrupted,
                tail=_tail(output, begin),
            )

    def end_leftover(self, started: Started) -> bool:
        """End the group of a program whose boot tool died, if it is still that program."""
        if not started.mark or mark_of(started.pid) != started.mark:
            return False
        end_group(started.pid)
        return True


def _follow(
    child: subprocess.Popen[bytes],
    timeout: float,
    stop: Event,
    on_started: Callable[[Started], None],
) -> ProgramEnd:
    """Open the gate and wait; whatever happens, no part of the group is left by us."""
    assert child.stdin is not None
    try:
        on_started(Started(child.pid, mark_of(child.pid)))
        with suppress(BrokenPipeError):
            child.stdin.write(b"go\n")
            child.stdin.close()
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            with suppress(subprocess.TimeoutExpired):
                return ProgramEnd(exit_code=child.wait(_POLL))
            if stop.is_set():
                end_group(child.pid, child)
                return ProgramEnd(exit_code=None, interrupted=True)
        end_group(child.pid, child)
        return ProgramEnd(exit_code=None, timed_out=True)
    except BaseException:
        end_group(child.pid, child)
        raise
    finally:
        with suppress(OSError):
            child.stdin.close()


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


def mark_of(pid: int) -> str:
    """What tells a process from a later one with the same pid; "" when there is none."""
    try:
        started = _fields(Path(f"/proc/{pid}/stat"))[19]
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (OSError, ValueError, IndexError):
        return ""
    return f"{boot}/{started}"


def _open_output(log: Path | None) -> IO[bytes]:
    if log is None:
        return tempfile.TemporaryFile()
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    number = os.open(log, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    return os.fdopen(number, "a+b")


def _tail(output: IO[bytes], begin: int) -> tuple[str, ...]:
    """The last lines written after ``begin``, safe to print."""
    with suppress(OSError):
        end = output.seek(0, os.SEEK_END)
        start = max(begin, end - _TAIL_BYTES)
        output.seek(start)
        text = output.read(_TAIL_BYTES).decode("utf-8", "replace")
        lines = text.splitlines()
        if start > begin and len(lines) > 1:
            lines = lines[1:]  # it starts in the middle of a line
        return tuple(_printable(line) for line in lines[-TAIL_LINES:])
    return ()


def _printable(line: str) -> str:
    return "".join(c if c.isprintable() or c == "\t" else "?" for c in line)
