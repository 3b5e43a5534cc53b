"""Programs on a node by its agent: files, start, output and end by RPC over the run's broker.

Every call may be repeated (the run has an id of its own that is on record before anything is
started), so an agent or a broker that is restarted meanwhile costs time only. A node that
stays silent fails the step: at once when its cloud says that it is gone.
"""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from threading import Event
from typing import IO, Any

from agent.messages import agent_service
from agent.program_messages import (
    CHUNK_BYTES,
    FilePiece,
    ProgramRunState,
    ProgramStart,
    ProgramStatus,
)
from agent.rpc_client import CallFailed, RemoteError, RpcClient
from agent.wire import MalformedMessage, from_wire, to_wire
from bootlevels.transports.output import Output
from bootlevels.transports.program import CutShort, Limit, ProgramEnd, ProgramRun, Started
from bootlevels.transports.shell_words import REMOVE_LIMIT
from bootlevels.transports.staged import BOOTOUT_LIMIT, run_staged

#: Seconds that one call may take.
CALL_TIMEOUT = 10.0
#: Seconds of silence after which a node is given up.
SILENT_FOR = 60.0
#: Seconds between two questions to its cloud while it is silent.
_ASK_CLOUD = 3.0
#: Seconds between two looks at a program: at first, growing up to the last.
_FIRST_LOOK, _LAST_LOOK = 0.02, 0.5
_MARK = "agent:"


def marked(started: Started) -> bool:
    """Whether a program on record was started by an agent."""
    return started.mark.startswith(_MARK)


@dataclass(frozen=True)
class AgentAddress:
    """The agent of ``node_id``, over the broker at ``amqp_url`` (which holds a password).

    ``why_gone``: what the cloud says of a node that is silent; empty when it seems to be
    there, or when nobody can tell. ``owner`` tells this run's programs from others'.
    """

    node_id: str
    amqp_url: str
    owner: str
    why_gone: Callable[[], str] = lambda: ""

    def __repr__(self) -> str:
        return f"AgentAddress({self.node_id!r})"


class AgentTransport:
    """Programs on the node at ``address``; every program has a stage there."""

    def __init__(self, address: AgentAddress, silent_for: float = SILENT_FOR) -> None:
        self._address = address
        self._silent_for = silent_for

    def run(
        self, program: ProgramRun, stop: Event, on_started: Callable[[Started], None]
    ) -> ProgramEnd:
        door = _Stage(_Line(self._address, self._silent_for), program, self._address.owner)
        try:
            return run_staged(door, program, stop, on_started)
        finally:
            door.line.close()

    def end_leftover(self, started: Started) -> bool:
        """End and remove a program that an earlier boot tool started; True if it still ran.

        When the node is silent its next program of the same step ends it (``owner``).
        """
        if not marked(started):
            return False
        run_id = started.mark.removeprefix(_MARK)
        line = _Line(self._address, CALL_TIMEOUT)
        try:
            limit = Limit.seconds(2 * CALL_TIMEOUT)
            found = _status(line.call("follow_program", limit, run_id))
            line.call("remove_program", limit, run_id)
        except CutShort:
            return False
        finally:
            line.close()
        return found.state is ProgramRunState.RUNNING

    def reach(self, limit: Limit) -> str:
        """Ask the agent once: empty when it answers, else why not. Raises CutShort."""
        line = _Line(self._address, 0.0)
        try:
            line.call("describe", limit)
        except CutShort as cut:
            if not cut.end.unreachable:
                raise
            return cut.end.problem
        finally:
            line.close()
        return ""


class _Line:
    """Calls to one agent, repeated while it is silent for no longer than ``silent_for``."""

    def __init__(self, address: AgentAddress, silent_for: float) -> None:
        self._address = address
        self._silent_for = silent_for
        self._client = RpcClient(address.amqp_url, timeout=CALL_TIMEOUT)

    def close(self) -> None:
        self._client.close()

    def call(self, method: str, limit: Limit, *args: Any) -> Any:
        """What the agent answers. Raises CutShort: limit, stop, silence, refusal."""
        began = asked_cloud = time.monotonic()
        pause = 0.1
        while True:
            left = limit.left()
            try:
                name = agent_service(self._address.node_id)
                return self._client.call(name, method, *args, timeout=min(CALL_TIMEOUT, left))
            except RemoteError as refused:
                what = f"is refused by the agent: {refused.value or refused}"
                raise CutShort(ProgramEnd(exit_code=None, problem=what)) from None
            except CallFailed as problem:
                now, gone = time.monotonic(), ""
                if now - asked_cloud >= _ASK_CLOUD:
                    gone, asked_cloud = self._address.why_gone(), now
                if gone or now - began >= self._silent_for:
                    what = f"has no agent to run it: {gone or problem}"
                    end = ProgramEnd(exit_code=None, problem=what, unreachable=True)
                    raise CutShort(end) from None
            limit.stop.wait(min(pause, limit.left()))
            pause = min(pause * 1.5, 2.0)


class _Stage:
    """The door to one program run on the node."""

    def __init__(self, line: _Line, program: ProgramRun, owner: str) -> None:
        assert program.stage is not None
        self.line = line
        self._program = program
        self._owner = f"{owner}/{program.stage.name}"
        self._run_id = uuid.uuid4().hex
        self._archive_size = 0
        self._reached = False

    def put(self, archive: IO[bytes], limit: Limit) -> None:
        while (piece := archive.read(CHUNK_BYTES)) or not self._reached:
            content = base64.b64encode(piece).decode()
            words = (self._run_id, self._owner, self._archive_size, content)
            self.line.call("stage_program", limit, *words)
            self._reached = True
            self._archive_size += len(piece)

    def follow(self, limit: Limit, on_started: Callable[[Started], None]) -> ProgramEnd:
        try:
            output = Output(self._program.log, self._program.secrets)
        except OSError as error:
            return ProgramEnd(exit_code=None, problem=f"its log can't be written: {error}")
        try:
            end = self._follow(limit, on_started, output)
            return replace(end, tail=output.tail())
        except CutShort as cut:
            raise CutShort(replace(cut.end, tail=output.tail())) from None
        finally:
            output.close()

    def _follow(
        self, limit: Limit, on_started: Callable[[Started], None], output: Output
    ) -> ProgramEnd:
        # On record before it can begin: whoever comes next knows what to end.
        on_started(Started(0, f"{_MARK}{self._run_id}"))
        assert self._program.stage is not None
        start = to_wire(
            ProgramStart(
                words=self._program.words,
                environment=dict(self._program.environment),
                working=self._program.stage.working,
                archive_size=self._archive_size,
                timeout=self._program.timeout,
            )
        )
        copied, pause = 0, _FIRST_LOOK
        self.line.call("start_program", limit, self._run_id, start)
        while True:
            status = _status(self.line.call("follow_program", limit, self._run_id, copied))
            piece = base64.b64decode(status.output)
            output.file.write(piece)
            output.file.flush()
            output.hide_secrets()
            copied += len(piece)
            if copied < status.output_size and piece:
                continue
            match status.state:
                case ProgramRunState.RUNNING:
                    limit.stop.wait(min(pause, limit.left()))
                    pause = min(pause * 1.5, _LAST_LOOK)
                    limit.left()
                case ProgramRunState.STAGED:  # its keeper died before it began
                    self.line.call("start_program", limit, self._run_id, start)
                case _:
                    return _end(status)

    def read(self, name: str, limit: Limit) -> bytes | None:
        content = b""
        while len(content) < BOOTOUT_LIMIT:
            said = self.line.call("read_program_file", limit, self._run_id, name, len(content))
            if said is None:
                return None
            try:
                piece = from_wire(FilePiece, said)
            except MalformedMessage as problem:
                raise _malformed(problem) from None
            more = base64.b64decode(piece.content)
            content += more
            if not more or len(content) >= piece.size:
                break
        return content[:BOOTOUT_LIMIT]

    def remove(self) -> None:
        if not self._reached:
            return  # never got there
        self.line.close()  # an answer that was waited for in vain is not this one's
        quick = _Line(self.line._address, 0.0)  # noqa: SLF001
        with suppress(CutShort):
            quick.call("remove_program", Limit.seconds(REMOVE_LIMIT), self._run_id)
        quick.close()


def _end(status: ProgramStatus) -> ProgramEnd:
    match status.state:
        case ProgramRunState.ENDED:
            return ProgramEnd(
                exit_code=status.exit_code, timed_out=status.timed_out, problem=status.problem
            )
        case ProgramRunState.LOST:
            what = "was lost: its node was restarted, or somebody killed it"
        case ProgramRunState.CANCELLED:
            what = "was ended by another boot tool"
        case _:
            what = "is not on its node any more"
    return ProgramEnd(exit_code=None, problem=what)


def _status(said: Any) -> ProgramStatus:
    try:
        return from_wire(ProgramStatus, said)
    except MalformedMessage as problem:
        raise _malformed(problem) from None


def _malformed(problem: MalformedMessage) -> CutShort:
    what = f"got an answer that can't be read from its agent: {problem}"
    return CutShort(ProgramEnd(exit_code=None, problem=what))
