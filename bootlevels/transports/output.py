"""Where a program's output goes: straight into a private file, in which secrets are overwritten."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO

TAIL_LINES = 20
_TAIL_BYTES = 8192
_CHUNK = 1 << 18


class Output:
    """The output of one run, appended to ``log``, or kept until ``close`` without one.

    Raises OSError when the log can't be written.
    """

    def __init__(self, log: Path | None, secrets: frozenset[str]) -> None:
        self.file = _open_output(log)
        self._begin = self.file.seek(0, os.SEEK_END)
        self._secrets = sorted({s.encode() for s in secrets if s}, key=len, reverse=True)
        self._overlap = max(map(len, self._secrets), default=1) - 1
        self._clean = self._begin

    def close(self) -> None:
        self.file.close()

    def hide_secrets(self) -> None:
        """Overwrite the secrets in what was written so far, byte for byte.

        In place, because a program that went into the background may still be appending.
        """
        if not self._secrets:
            return
        number = self.file.fileno()
        end = os.fstat(number).st_size
        at = self._clean
        while at < end:
            start = max(self._begin, at - self._overlap)
            chunk = os.pread(number, min(_CHUNK, end - start), start)
            if len(chunk) <= at - start:
                break
            for secret in self._secrets:
                found = chunk.find(secret)
                while found >= 0:
                    _overwrite(self.file, start + found, len(secret))
                    found = chunk.find(secret, found + len(secret))
            at = start + len(chunk)
        self._clean = max(at, self._clean)

    def tail(self) -> tuple[str, ...]:
        """The last lines of this run, safe to print."""
        self.hide_secrets()
        return _tail(self.file, self._begin)


def _overwrite(file: IO[bytes], at: int, length: int) -> None:
    # pwrite on a file opened for appending appends, on Linux: by another description.
    number = os.open(f"/proc/self/fd/{file.fileno()}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(number, b"*" * length, at)
    finally:
        os.close(number)


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
