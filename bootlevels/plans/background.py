"""Programs that go on after the boot program which started them, and how they are ended.

The boot tool ends nothing of its own accord: what a boot program leaves running, its
terminate program has to find again. So a program is in its file before its first
instruction, with a mark that tells it from a later process of the same number.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bootlevels.transports.process_group import GRACE, end_group, mark_of

LOOPBACK = "127.0.0.1"
#: Waits for one line, then becomes the program; without the line it is gone.
_GATE = ["/bin/sh", "-c", 'read -r go && exec "$@" </dev/null', "sh"]
_POLL = 0.05


@dataclass(frozen=True)
class UnixUser:
    """Whose rights a program has."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Background:
    """The program called ``name``; its state and its log are files in ``directory``."""

    directory: Path
    name: str

    @property
    def log(self) -> Path:
        return self.directory / f"{self.name}.log"

    @property
    def _state(self) -> Path:
        return self.directory / f"{self.name}.json"

    def start(
        self,
        words: Sequence[str],
        *,
        port: int,
        environment: Mapping[str, str],
        directory: Path,
        user: UnixUser | None = None,
        sockets: Sequence[socket.socket] = (),
    ) -> None:
        """Start ``words`` in a session of their own; ``port`` is only noted.

        The program gets ``sockets`` under the numbers that they have here. Raises OSError.
        """
        number = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(number, "ab") as log:
            child = subprocess.Popen(
                [*_GATE, *words],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=directory,
                env=dict(environment),
                start_new_session=True,
                pass_fds=[each.fileno() for each in sockets],
                user=user.uid if user else None,
                group=user.gid if user else None,
                extra_groups=[] if user else None,
            )
        assert child.stdin is not None
        with child.stdin as gate:
            state = {"pid": child.pid, "mark": mark_of(child.pid), "port": port}
            new = self._state.with_suffix(".new")
            new.write_text(json.dumps(state))
            new.replace(self._state)
            with suppress(BrokenPipeError):
                gate.write(b"go\n")

    def pid(self) -> int | None:
        """The program's process, if it runs."""
        state = self._read()
        pid, mark = state.get("pid"), state.get("mark")
        if not isinstance(pid, int) or not mark or mark_of(pid) != mark:
            return None
        return None if _is_dead(pid) else pid

    def port(self) -> int | None:
        """The port that the program has, or had when it last ran."""
        port = self._read().get("port")
        return port if isinstance(port, int) else None

    def stop(self, signals: Sequence[tuple[signal.Signals, float]] = ()) -> None:
        """End it: each signal in turn with its seconds to act, then its whole group.

        Raises TimeoutError when even that does not end it.
        """
        pid = self.pid()
        if pid is None:
            return
        for number, seconds in signals:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
            if self.wait_gone(seconds):
                break
        end_group(pid)
        if not self.wait_gone(GRACE):
            raise TimeoutError(f"process {pid} ({self.name}) can't be ended")

    def wait_gone(self, seconds: float) -> bool:
        """Whether the program ended within ``seconds``."""
        deadline = time.monotonic() + seconds
        while self.pid() is not None:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL)
        return True

    def last_words(self) -> str:
        """The last line of its log."""
        with suppress(OSError):
            lines = self.log.read_text(errors="replace").split("\n")
            return next((line for line in reversed(lines) if line.strip()), "")
        return ""

    def _read(self) -> dict[str, object]:
        try:
            found = json.loads(self._state.read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def listener(preferred: int | None) -> socket.socket:
    """A listening socket on the loopback: at the preferred port if that is free. Raises OSError."""
    if preferred:
        with suppress(OSError):
            return socket.create_server((LOOPBACK, preferred))
    return socket.create_server((LOOPBACK, 0))


def free_port(preferred: int | None) -> int:
    """A port that nobody listens at now. Raises OSError."""
    with listener(preferred) as found:
        port: int = found.getsockname()[1]
        return port


def private_directory(path: Path) -> None:
    """Make ``path``, 0700. Raises OSError."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def _is_dead(pid: int) -> bool:
    """Whether it only waits for its parent to take note of its end."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return True
    return text[text.rindex(")") + 2 :][:1] in ("Z", "X")
