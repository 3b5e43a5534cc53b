"""From an exception to an exit code and the lines a person reads."""

from __future__ import annotations

import errno
import os
from enum import IntEnum

from coordinator.errors import ConfigProblem, EpuError, NotFound


class ExitCode(IntEnum):
    """What the ``epu`` command's exit codes mean; scripts rely on them."""

    WELL = 0
    PROBLEM = 1
    USAGE = 2
    NOT_FOUND = 3
    WORKERS_REMAIN = 4
    UNREACHABLE = 5
    INTERRUPTED = 130


class NoSuchRun(NotFound):
    """No such run, or none that could be meant."""


class WorkersRemain(EpuError):
    """Workers can't be confirmed gone, so what stands below them was left standing."""

    exit_code = ExitCode.WORKERS_REMAIN


class GaveUpWaiting(EpuError):
    """The deadline of a wait passed; nothing is broken by that."""


class WrongFile(EpuError):
    """What a file says can't be used; wrong usage of the command line it is not."""


def verdict(problem: BaseException) -> tuple[int, list[str]]:
    """The exit code for ``problem`` and what to print, one problem a line.

    An ``EpuError`` may carry an ``exit_code`` of its own. Anything unforeseen is a defect
    of ours: exit 1, and the line says how to see the traceback.
    """
    if isinstance(problem, (KeyboardInterrupt, EOFError)):
        return ExitCode.INTERRUPTED, ["interrupted"]
    if isinstance(problem, ConfigProblem):
        lines = [line for each in problem.problems for line in str(each).splitlines()]
        return ExitCode.USAGE, lines or ["the configuration can't be used"]
    if isinstance(problem, EpuError):
        ordinary = ExitCode.NOT_FOUND if isinstance(problem, NotFound) else ExitCode.PROBLEM
        return int(getattr(problem, "exit_code", ordinary)), _lines(problem)
    if isinstance(problem, OSError) and problem.errno is not None:
        return ExitCode.PROBLEM, [_of_system(problem)]
    # Only now: importing the wire costs more than all of the above.
    from agent.rpc_client import CallFailed, RemoteError

    if isinstance(problem, RemoteError):
        return ExitCode.PROBLEM, _lines(problem)
    if isinstance(problem, CallFailed):
        *before, last = _lines(problem)
        return ExitCode.UNREACHABLE, [*before, f"{last} (see: epu doctor)"]
    what = f"{type(problem).__name__}: {problem}".splitlines()[0]
    return ExitCode.PROBLEM, [f"{what} (a defect; EPU_DEBUG=1 shows where)"]


def _lines(problem: BaseException) -> list[str]:
    return str(problem).splitlines() or [type(problem).__name__]


def _of_system(problem: OSError) -> str:
    what = os.strerror(problem.errno or 0)
    where = f"{problem.filename}: " if problem.filename else ""
    hint = "; free some space and run it again" if problem.errno == errno.ENOSPC else ""
    return f"{where}{what}{hint}"
