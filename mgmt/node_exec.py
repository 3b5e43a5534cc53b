"""One command on one node, followed to its end; and logs that are followed."""

from __future__ import annotations

import base64
import getpass
import socket
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress

from agent.program_messages import ProgramRunState, ProgramStatus
from agent.rpc_client import BrokerUnreachable, CallFailed
from agent.wire import from_wire
from coordinator.errors import EpuError
from mgmt.answers import Call, ask

#: Seconds that one question may take, and for which a system may be silent meanwhile.
ANSWER_WITHIN, SILENT_FOR = 8.0, 60.0
#: Bytes of output that a JSON document holds: the last of it.
MAX_KEPT = 1 << 20
_FIRST_LOOK, _LAST_LOOK = 0.05, 0.5


class Execution:
    """``words`` on a node, at most ``timeout`` seconds. ``status``: how far it is."""

    def __init__(self, call: Call, node_id: str, words: Sequence[str], timeout: float) -> None:
        self.exec_id = uuid.uuid4().hex
        self.status = ProgramStatus(state=ProgramRunState.ABSENT)
        self.received = 0
        self._call = call
        self._node_id = node_id
        self._words = list(words)
        self._timeout = timeout
        self._began = False

    def pieces(self) -> Iterator[bytes]:
        """Start it and give its output as it comes, to its end.

        A broker or component that restarts meanwhile is waited out. Raises EpuError,
        CallFailed when that takes longer than SILENT_FOR seconds.
        """
        self._began = True
        # Nothing is known to have begun: the first question fails as any command's does.
        self._take("start_exec", self._words, self._timeout, person(), patience=0.0)
        pause = _FIRST_LOOK
        while True:
            status = self._take("follow_exec", self.received, patience=SILENT_FOR)
            piece = base64.b64decode(status.output)
            self.received += len(piece)
            if piece:
                pause = _FIRST_LOOK
                yield piece
            if self.received < status.output_size and piece:
                continue
            if status.state is not ProgramRunState.RUNNING:
                return
            time.sleep(pause)
            pause = min(pause * 1.5, _LAST_LOOK)

    def close(self) -> None:
        """End it on its node, if it has not ended, and remove what is left there.

        Never raises: what can't be removed now is removed by its time-out and its agent.
        """
        if self._began and self.status.state is not ProgramRunState.ABSENT:
            with suppress(CallFailed, EpuError):
                ask(self._call, "management", "end_exec", self._node_id, self.exec_id,
                    timeout=ANSWER_WITHIN)  # fmt: skip

    def how_it_ended(self) -> str:
        """What is worth saying of its end; "" when it ended with 0."""
        status = self.status
        if status.timed_out:
            return f"ended by the node after {self._timeout:g} s"
        if status.problem:
            return status.problem
        if status.state is not ProgramRunState.ENDED:
            return f"it is {status.state.value}: its node was restarted, or somebody ended it"
        if status.exit_code is not None and status.exit_code < 0:
            return f"ended by signal {-status.exit_code}"
        return f"exit code {status.exit_code}" if status.exit_code else ""

    def _take(self, method: str, *args: object, patience: float) -> ProgramStatus:
        began = time.monotonic()
        while True:
            try:
                told = ask(self._call, "management", method, self._node_id, self.exec_id, *args,
                           timeout=ANSWER_WITHIN)  # fmt: skip
            except CallFailed as problem:
                # A start whose answer is lost may have begun: repeated, it begins nothing twice.
                lost = method == "start_exec" and not isinstance(problem, BrokerUnreachable)
                if time.monotonic() - began >= max(patience, ANSWER_WITHIN if lost else 0.0):
                    raise
                time.sleep(_LAST_LOOK)
            else:
                self.status = from_wire(ProgramStatus, told)
                return self.status


def person() -> str:
    """Who is at this keyboard, for the history."""
    with suppress(OSError, KeyError):
        return f"{getpass.getuser()}@{socket.gethostname()}"
    return "unknown"


def sections_of(text: str) -> dict[str, list[str]]:
    """The lines of each log in an answer of ``node_logs``, by heading. PURE."""
    found: dict[str, list[str]] = {}
    heading = ""
    for line in text.splitlines():
        if line.startswith("== "):
            heading = line
            found.setdefault(heading, [])
        else:
            found.setdefault(heading, []).append(line)
    return found


def unseen(before: Sequence[str], now: Sequence[str]) -> list[str]:
    """The lines of ``now``, the end of a log, that come after those of ``before``. PURE.

    Where the two do not meet (the log was rotated, or more came than is looked at), all.
    """
    for end in range(len(now), 0, -1) if before else ():
        known = min(len(before), end)
        if list(before[-known:]) == list(now[end - known : end]):
            return list(now[end:])
    return list(now)
