"""One life of the process that hosts an engine which is not ours (``controller.engine_host``).

JSON lines over a socket: the first names the engine, its answer says how loading it went; each
further line is a view, its answer a decision. Every wait has a deadline. Only ``socket`` and
``subprocess`` are used, which eventlet makes green: whoever waits here keeps nobody else waiting.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

#: Bytes of an answer; more is a defect, not a decision.
LONGEST_ANSWER = 1_000_000


class EngineLife:
    """A process that is to host the engine of ``section``. Raises OSError when it can't start.

    ``deadline``: seconds that a decision may take; ``quiet``: what it prints is nobody's.
    """

    def __init__(self, section: Mapping[str, Any], deadline: float, *, quiet: bool = False) -> None:
        self._section, self._deadline = dict(section), deadline
        self._connection, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "coordinator.controller.engine_host", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL if quiet else None,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        except OSError:
            self._connection.close()
            raise
        finally:
            theirs.close()
        self.pid = self._process.pid
        self._buffer = b""

    def load(self, within: float, where: str = "", key: str = "engine") -> dict[str, Any]:
        """Have the engine loaded: ``queues`` that it follows, or ``problems``, or ``raised``.

        Raises TimeoutError, ConnectionError when the process ended, OSError, ValueError.
        """
        first = {
            "section": self._section,
            "where": where,
            "key": key,
            "deadline": self._deadline,
            "load_within": within,
            # What is found here is what is meant, whatever a new process would find.
            "path": [entry or os.getcwd() for entry in sys.path],
        }
        return self.ask(first, within)

    def ask(self, message: Any, within: float) -> dict[str, Any]:
        """Send one line; the line that answers it. Raises as ``load``."""
        by = time.monotonic() + within
        self._connection.settimeout(max(0.001, by - time.monotonic()))
        self._connection.sendall(json.dumps(message).encode() + b"\n")
        return self._receive(by)

    def kill(self) -> None:
        """End the process and everything that it started, at once."""
        with suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5)

    def how_it_ended(self) -> str:
        """In words, once its connection has ended."""
        with suppress(subprocess.TimeoutExpired):
            status = self._process.wait(1)
            return f"signal {-status}" if status < 0 else f"exit status {status}"
        return "its connection was closed"

    def _receive(self, by: float) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            if len(self._buffer) > LONGEST_ANSWER:
                raise ValueError(f"it is longer than {LONGEST_ANSWER} bytes")
            self._connection.settimeout(max(0.001, by - time.monotonic()))
            part = self._connection.recv(65536)
            if not part:
                raise ConnectionError("its process ended")
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        found = json.loads(line)
        if not isinstance(found, dict):
            raise ValueError("it is not an object")
        return found
