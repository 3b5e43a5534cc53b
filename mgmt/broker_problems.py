"""What can be wrong with a broker, each as one sentence with its remedy."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coordinator.errors import EpuError
from mgmt.exit_codes import ExitCode


class BrokerUnavailable(EpuError):
    """There is no broker to work with; the text says why and what to do."""


class BrokerSilent(BrokerUnavailable):
    """A broker that somebody else runs does not answer."""

    exit_code = ExitCode.UNREACHABLE


@contextmanager
def file_problems(directory: Path) -> Iterator[None]:
    """Trouble with the broker's directory itself, as BrokerUnavailable."""
    try:
        yield
    except TimeoutError:
        raise BrokerUnavailable(
            f"another command is starting or stopping the broker in {directory} (wait for it)"
        ) from None
    except OSError as problem:
        if problem.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "free some space, or choose another directory"
        else:
            remedy = "choose a directory that you can write"
        where = problem.filename or directory
        raise BrokerUnavailable(
            f"{where} can't be used for a broker: {problem.strerror or problem} ({remedy})"
        ) from None
