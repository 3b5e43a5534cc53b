"""Whole files on a service's machine: fetched here and put there, by the way programs go.

What they hold is nobody else's business: it travels as input and output of fixed scripts, is in
no word of a command and in no message.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence

from bootlevels.transports.program import Calls, CutShort, Limit
from bootlevels.transports.shell_words import (
    FETCH,
    FETCH_END,
    LIST,
    NOT_THERE,
    PUT_FILE,
    answer,
    script,
)
from bootlevels.transports.staged import BOOTOUT_LIMIT

#: No larger file is fetched, bytes.
LIMIT = BOOTOUT_LIMIT - 1
#: Seconds that one try may take, and between two.
_ONE_TRY = 30.0
_PAUSE = 0.5


class FileNotMoved(Exception):
    """A file could not be fetched or put; the text says which and why, and no content."""


class MachineFiles:
    """Files of one machine; ``name`` is what people call it.

    ``machine`` is the way there. All methods try until ``deadline`` (``time.monotonic``): a
    machine that boots may not be reached yet, or not have the file. They raise FileNotMoved.
    """

    def __init__(self, name: str, machine: Calls) -> None:
        self._name = name
        self.machine = machine

    def fetch(self, path: str, deadline: float) -> bytes:
        """The content of the file ``path`` there, at most LIMIT bytes."""
        words = script(FETCH, path, str(LIMIT + 1))
        content = answer(self._tried(f"can't fetch {path}", words, None, deadline))
        if len(content) > LIMIT:
            raise FileNotMoved(f"{self._name}: {path} is longer than {LIMIT} bytes")
        return content

    def fetch_end(self, path: str, deadline: float) -> bytes:
        """The last LIMIT bytes of the file ``path`` there, or all of it."""
        words = script(FETCH_END, path, str(LIMIT))
        return answer(self._tried(f"can't fetch {path}", words, None, deadline))

    def names(self, directories: Sequence[str], deadline: float) -> list[str]:
        """The paths of the plain files in ``directories`` there; those not there have none."""
        said = self._tried("can't be looked into", script(LIST, *directories), None, deadline)
        return answer(said).decode(errors="replace").splitlines()

    def put(self, path: str, content: bytes, deadline: float) -> None:
        """Make the file ``path`` there, all of it or nothing, that only its owner can read."""
        self._tried(f"can't put {path}", script(PUT_FILE, path), content, deadline)

    def _tried(
        self, doing: str, words: Sequence[str], content: bytes | None, deadline: float
    ) -> bytes:
        """What ``words`` say when they end well. With ``content`` what they said may be told."""
        why = ""
        with tempfile.TemporaryFile() as given:
            given.write(content or b"")
            while time.monotonic() < deadline:
                given.seek(0)
                try:
                    limit = Limit.within(deadline, _ONE_TRY)
                    file = None if content is None else given
                    code, said = self.machine.call(words, file, limit)
                except CutShort as cut:
                    # That time is over says less than what was seen before.
                    why = cut.end.problem or why or "it did not answer in time"
                else:
                    if code == 0:
                        return said
                    why = _why(code, b"" if content is None else said)
                time.sleep(min(_PAUSE, max(0.0, deadline - time.monotonic())))
        raise FileNotMoved(f"{self._name}: {doing}: {why or 'no time was left'}")


def _why(code: int, said: bytes) -> str:
    if code == NOT_THERE:
        return "there is no such file"
    last = said.decode(errors="replace").strip().splitlines()[-1:]
    return f"exit code {code}{''.join(f': {line[:200]}' for line in last)}"
