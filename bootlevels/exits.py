"""How a command ends: exit codes, the sentence for each known problem, signals."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from coordinator.errors import ConfigProblem

EXIT_PROBLEM = 1
EXIT_USAGE = 2
EXIT_NO_SUCH = 3
EXIT_WORKERS_REMAIN = 4
EXIT_UNREACHABLE = 5
EXIT_INTERRUPTED = 130
#: Where a problem is that was typed and stands in no file: wrong usage.
COMMAND_LINE = "command line"


@contextmanager
def said() -> Iterator[None]:
    """Turn every known problem into its sentence and exit code."""
    from bootlevels.record import RecordProblem
    from bootlevels.run_lock import RunIsBusy
    from bootlevels.run_store import RunIsTerminating, WorkersRemain
    from bootlevels.runner import Interrupted
    from coordinator.errors import ConfigProblem, NotFound

    try:
        yield
    except ConfigProblem as found:
        typed = all(problem.where == COMMAND_LINE for problem in found.problems)
        end(EXIT_USAGE if typed else EXIT_PROBLEM, problem_lines(found))
    except NotFound as problem:
        end(EXIT_NO_SUCH, str(problem))
    except WorkersRemain as problem:
        end(EXIT_WORKERS_REMAIN, str(problem))
    except (RunIsBusy, RunIsTerminating, RecordProblem) as problem:
        end(EXIT_PROBLEM, str(problem))
    except OSError as problem:
        end(EXIT_PROBLEM, str(problem))
    except (Interrupted, KeyboardInterrupt):
        end(EXIT_INTERRUPTED, "interrupted; the same command goes on from here")


def end(code: int, text: str = "") -> NoReturn:
    """Leave with ``code`` after saying ``text`` on stderr."""
    if text:
        print(f"epu: {text}", file=sys.stderr)
    sys.exit(code)


def problem_lines(found: ConfigProblem) -> str:
    """All problems, one a line."""
    lines = [str(problem) for problem in found.problems]
    return lines[0] if len(lines) == 1 else f"{len(lines)} problems:\n  " + "\n  ".join(lines)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP interrupt as Ctrl-C does: programs are ended, the record is right."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = {
        number: signal.getsignal(number)
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN  # nohup wants it so
    }
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
