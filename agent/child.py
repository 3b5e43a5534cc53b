"""One program of the role, run to its end: words and environment exactly, never a shell.

Plain blocking code with deadlines; it polls, because a blocking wait would stop every greenlet
of the agent. Each has a process group of its own, which ends with it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_POLL = 0.05
#: Of what a program printed, so much is kept: bytes, lines.
_TAIL_BYTES, _TAIL_LINES = 4000, 15


@dataclass(frozen=True, kw_only=True)
class Ending:
    """``code`` None: it was ended at its deadline. ``tail``: the last lines it printed."""

    code: int | None
    tail: str = ""


class Child:
    """A running program. Raises OSError when it can't be started. To be used with ``with``."""

    def __init__(
        self, words: Sequence[str], directory: Path, environment: Mapping[str, str]
    ) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        try:
            self._process = subprocess.Popen(
                list(words),
                cwd=directory,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except BaseException:
            self._output.close()
            raise

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._output.close()

    def poll(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.poll()

    def printed(self) -> int:
        """How many bytes it has printed."""
        return os.fstat(self._output.fileno()).st_size

    def tail(self) -> str:
        """The last lines that it printed."""
        end = self.printed()
        start = max(0, end - _TAIL_BYTES)
        text = os.pread(self._output.fileno(), end - start, start).decode("utf-8", "replace")
        return "\n".join(text.splitlines()[-_TAIL_LINES:])

    def kill(self) -> None:
        """End it, and all that it started."""
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def run_child(
    words: Sequence[str],
    directory: Path,
    environment: Mapping[str, str],
    timeout: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Ending:
    """Run a program to its end, at most ``timeout`` seconds. Raises OSError."""
    deadline = clock() + timeout
    with Child(words, directory, environment) as child:
        while (code := child.poll()) is None and clock() < deadline:
            sleep(_POLL)
        return Ending(code=code, tail=child.tail())
