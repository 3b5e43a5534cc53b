"""Getting at one node through its agent: its logs, and a command run there.

Plain functions over a ``Call``, offered by the ``management`` service. Who may ask is the
broker's business: only the coordinator's account may publish to an agent. A command is a
list of words and never a line for a shell; that it is about to run is in the provisioner's
history before it can begin, and where that can't be written nothing runs.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from agent.messages import agent_service
from agent.program_messages import ProgramStart
from agent.rpc_client import CallFailed, RemoteError, UnknownService
from agent.wire import to_wire
from coordinator.errors import ConfigProblem, EpuError, NotFound, Problem
from mgmt.answers import Call, ask
from mgmt.node_details import unknown_node

#: Seconds for each of the three steps of a start, within the eight of a caller.
STEP_TIMEOUT = 2.5
#: Seconds that a command may take at most: what takes longer is a program of the pool.
LONGEST_EXEC = 3600.0
#: A tar stream without a file in it.
_NO_FILES = bytes(1024)


class AgentSilent(EpuError):
    """The node is there, its agent does not answer."""


def node_logs(call: Call, node_id: str, program: str, lines: int) -> dict[str, Any]:
    """The last ``lines`` lines of each log of a node, or of one ``program``'s.

    Raises NotFound for an unknown node or program, AgentSilent.
    """
    text = _ask_agent(call, node_id, "logs", program, lines, timeout=5.0)
    return {"node_id": node_id, "program": program, "text": str(text)}


def start_exec(
    call: Call, node_id: str, exec_id: str, words: Sequence[str], timeout: float, actor: str
) -> dict[str, Any]:
    """Run ``words`` on a node as the execution ``exec_id`` (32 hexadecimal digits), once.

    Repeated, it says how far it is (ProgramStatus). After ``timeout`` seconds the node ends
    it, whoever still asks. Raises NotFound, AgentSilent, ConfigProblem.
    """
    if not words or not all(isinstance(word, str) and "\0" not in word for word in words):
        raise ConfigProblem([Problem(key="command", what="must be words, one at least")])
    if not 0 < timeout <= LONGEST_EXEC:
        what = f"must be above 0 and at most {LONGEST_EXEC:g} s, not {timeout:g}"
        raise ConfigProblem([Problem(key="timeout", what=what)])
    before = follow_exec(call, node_id, exec_id, 0)
    if before["state"] not in ("ABSENT", "STAGED"):
        return before
    content = base64.b64encode(_NO_FILES).decode()
    _ask_agent(call, node_id, "stage_program", exec_id, f"exec/{exec_id}", 0, content)
    try:
        ask(call, "provisioner", "audit_exec", node_id, exec_id, list(words), actor,
            timeout=STEP_TIMEOUT)  # fmt: skip
    except (CallFailed, EpuError) as problem:
        raise EpuError(f"nothing was run, as nobody could write it down: {problem}") from None
    start = ProgramStart(words=tuple(words), archive_size=len(_NO_FILES), timeout=timeout)
    return dict(_ask_agent(call, node_id, "start_program", exec_id, to_wire(start)))


def follow_exec(call: Call, node_id: str, exec_id: str, offset: int) -> dict[str, Any]:
    """How far an execution is, with its output from byte ``offset`` on (ProgramStatus)."""
    return dict(_ask_agent(call, node_id, "follow_program", exec_id, offset))


def end_exec(call: Call, node_id: str, exec_id: str) -> dict[str, Any]:
    """End an execution if it still runs, and remove what is left of it; how it ended."""
    ended = dict(_ask_agent(call, node_id, "end_program", exec_id, timeout=5.0))
    _ask_agent(call, node_id, "remove_program", exec_id)
    return ended


def _ask_agent(
    call: Call, node_id: str, method: str, *args: Any, timeout: float = STEP_TIMEOUT
) -> Any:
    try:
        return call(agent_service(node_id), method, *args, timeout=timeout)
    except UnknownService:
        raise _nobody(call, node_id) from None
    except RemoteError as problem:
        if problem.exc_type in ("ValueError", "ProgramRunRefused"):
            raise NotFound(f"node '{node_id}': {problem.value}") from None
        raise EpuError(f"node '{node_id}': {problem}") from None


def _nobody(call: Call, node_id: str) -> EpuError:
    """Why no agent has that name: the node is unknown, or it is not (or no longer) there."""
    try:
        found = ask(call, "provisioner", "node", node_id, timeout=STEP_TIMEOUT)
    except NotFound:
        return unknown_node(call, node_id, STEP_TIMEOUT)
    except (CallFailed, EpuError):
        return AgentSilent(f"no agent of node '{node_id}' is connected")
    why = f"no agent of node '{node_id}' is connected; it is {found['state']}"
    return AgentSilent(f"{why} (see: epu node show {node_id})")
