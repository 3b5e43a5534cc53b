"""Asks a node's busy source. What may block is asked in the background, so no beat waits for it."""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from agent.busy import (
    IDLE,
    SILENT,
    BusyState,
    SeenFile,
    Spell,
    by_cpu,
    by_exit,
    by_files,
    by_words,
    spell_after,
    unknown,
)
from agent.child import run_child
from agent.node_role import BusySource

#: An answer from the background is good for so many seconds beyond the source's time-out.
_GOOD_FOR = 15.0
_READ_AT_MOST = 200


@dataclass(frozen=True, kw_only=True)
class _Answer:
    asked_at: float
    given_at: float
    state: BusyState


class BusyProbe:
    """``files``: the busy file of each copy of each worker, ``base`` first among them.

    ``clock`` is monotonic.
    """

    def __init__(
        self,
        source: BusySource | None,
        files: tuple[Path, ...],
        directory: Path,
        environment: Mapping[str, str],
        heartbeat_interval: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        # A queue is the broker's to know: the sensors service asks it for all nodes at once.
        self._source = None if source is None or source.queue else source
        self._files = files
        self._directory = directory
        self._environment = environment
        self._good_for = _GOOD_FOR + 3 * heartbeat_interval
        self._clock = clock
        self._sleep = sleep
        self._spell: Spell | None = None
        self._asking = False
        self._answer: _Answer | None = None
        self._cpu: deque[tuple[float, float]] = deque(maxlen=10_000)

    def note_cpu(self, percent: float | None) -> None:
        """The machine's CPU use, as just measured for a heartbeat."""
        if self._source is None or self._source.cpu is None or percent is None:
            return
        now = self._clock()
        self._cpu.append((now, percent))
        # One reading beyond the span stays: it proves that the whole span was measured.
        while len(self._cpu) > 1 and now - self._cpu[1][0] >= self._source.over:
            self._cpu.popleft()

    def look(self, workers_running: bool | None, since: float | None = None) -> BusyState:
        """Whether work is in hand. ``workers_running`` False: every worker has ended.

        ``since``: only an answer that was asked for after that moment of the clock counts.
        """
        state = SILENT
        if self._source is not None:
            state = IDLE if workers_running is False else self._ask(self._source, since)
            now = self._clock()
            self._spell = spell_after(self._spell, state, now)
            state = replace(state, spell=max(0.0, now - self._spell.since))
        return state

    def _ask(self, source: BusySource, since: float | None) -> BusyState:
        if source.file:
            return by_files(source, self._seen())
        if source.cpu is not None:
            return by_cpu(source, list(self._cpu), self._clock())
        answer, now = self._answer, self._clock()
        if not self._asking:
            self._asking = True
            threading.Thread(target=self._ask_aside, args=(source,), daemon=True).start()
            answer = self._answer
        if answer is None or (since is not None and answer.asked_at < since):
            return unknown("its busy source was not asked yet")
        if now - answer.given_at > self._good_for + source.timeout:
            return unknown(f"its busy source has not answered for {now - answer.given_at:.0f} s")
        return answer.state

    def _ask_aside(self, source: BusySource) -> None:
        asked_at = self._clock()
        try:
            if source.program:
                ending = run_child(
                    source.program,
                    self._directory,
                    self._environment,
                    source.timeout,
                    sleep=self._sleep,
                )
                state = by_exit(ending.code, ending.tail)
            else:
                state = by_words("the busy socket", self._hear(source.socket or "", source.timeout))
        except (OSError, ValueError) as problem:
            what = "program" if source.program else "socket"
            state = unknown(f"the busy {what}: {problem}")
        finally:
            self._asking = False
        self._answer = _Answer(asked_at=asked_at, given_at=self._clock(), state=state)

    def _hear(self, address: str, timeout: float) -> str:
        host, _, port = address.rpartition(":")
        if host and port.isdigit():
            found = socket.create_connection((host.strip("[]"), int(port)), timeout=timeout)
        else:
            found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            found.settimeout(timeout)
        with found:
            if found.family == socket.AF_UNIX:
                found.connect(str(self._directory / address))
            text = b""
            deadline = time.monotonic() + timeout
            while len(text) < _READ_AT_MOST and b"\n" not in text:
                found.settimeout(max(deadline - time.monotonic(), 0.001))
                piece = found.recv(_READ_AT_MOST)
                if not piece:
                    break
                text += piece
        return text.decode("utf-8", "replace")

    def _seen(self) -> list[SeenFile]:
        base, *own = self._files or (self._directory / str(self._source and self._source.file),)
        found = [_seen_file(path) for path in own]
        # Workers that know only of one file, or share it.
        whole = _seen_file(base)
        if not own or (whole.age is not None and all(file.age is None for file in found)):
            return [whole]
        return found


def _seen_file(path: Path) -> SeenFile:
    age, text = None, ""
    with suppress(OSError):
        age = max(0.0, time.time() - path.stat().st_mtime)
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read(_READ_AT_MOST)
    return SeenFile(name=path.name, age=age, text=text)
