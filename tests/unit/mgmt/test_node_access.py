"""A node's logs and commands run there, through an agent that is only pretended here."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest

from agent.messages import agent_service
from agent.rpc_client import CallTimeout, RemoteError, UnknownService
from coordinator.errors import ConfigProblem, EpuError, NotFound
from mgmt import node_access
from mgmt.node_exec import Execution, sections_of, unseen

ID = "0" * 32


class World:
    """One node ``n-0`` whose agent runs what it is told; what happened, in order."""

    def __init__(self, **answers: Any) -> None:
        self.happened: list[str] = []
        self.answers = answers
        self.state = "ABSENT"

    def __call__(self, service: str, method: str, *args: Any, timeout: float) -> Any:
        self.happened.append(method)
        if method in self.answers:
            answer = self.answers[method]
            answer = answer(*args) if callable(answer) else answer
            if isinstance(answer, Exception):
                raise answer
            return answer
        if service == "provisioner":
            if method == "node":
                raise RemoteError("NotFound", "no node")
            return [{"node_id": "n-0"}] if method == "live_nodes" else None
        if service != agent_service("n-0"):
            raise UnknownService(service)
        if method == "start_program":
            self.state = "RUNNING"
        return {"state": self.state}


def start(call: Callable[..., Any], node: str = "n-0", words: Any = ("ls",), timeout: float = 9):
    return node_access.start_exec(call, node, ID, words, timeout, "me@here")


def test_who_runs_what_is_written_down_before_it_can_begin():
    world = World()
    assert start(world)["state"] == "RUNNING"
    assert world.happened == ["follow_program", "stage_program", "audit_exec", "start_program"]


def test_nothing_runs_when_nobody_can_write_it_down():
    world = World(audit_exec=CallTimeout("no answer"))
    with pytest.raises(EpuError, match="nothing was run"):
        start(world)
    assert "start_program" not in world.happened


def test_a_start_that_is_repeated_begins_nothing_twice():
    world = World()
    start(world)
    start(world)
    assert world.happened.count("start_program") == world.happened.count("audit_exec") == 1


@pytest.mark.parametrize(
    ("words", "timeout"), [((), 9), (("a\0b",), 9), ((1,), 9), (("ls",), 0), (("ls",), 3601)]
)
def test_what_can_be_no_command_is_refused_before_anybody_is_asked(words, timeout):
    world = World()
    with pytest.raises(ConfigProblem):
        start(world, words=words, timeout=timeout)
    assert not world.happened


def test_an_unknown_node_is_named_with_the_nearest_and_a_silent_one_with_its_state():
    with pytest.raises(NotFound, match="no node 'm-0'; did you mean 'n-0'"):
        start(World(), node="m-0")
    with pytest.raises(node_access.AgentSilent, match="it is BOOTING"):
        start(World(node={"state": "BOOTING"}), node="m-0")


def test_a_program_that_the_node_does_not_have_is_not_found_with_those_it_has():
    refused = RemoteError("ValueError", "no program 'x' here; there are: agent")
    with pytest.raises(NotFound, match="there are: agent"):
        node_access.node_logs(World(logs=refused), "n-0", "x", 10)


# ------------------------------------------------------------------ following


class Management:
    """An execution whose output comes in pieces, then ``ended``; a call may fail before."""

    def __init__(self, *pieces: bytes, failures: int = 0, **ended: Any) -> None:
        self.output = b"".join(pieces)
        self.pieces = list(pieces)
        self.failures = failures
        self.ended = {"state": "ENDED", **ended}
        self.asked: list[str] = []

    def __call__(self, service: str, method: str, *args: Any, timeout: float) -> Any:
        self.asked.append(method)
        if method == "follow_exec":
            if self.failures:
                self.failures -= 1
                raise CallTimeout("the broker restarts")
            offset = args[2]
            piece = self.pieces.pop(0) if self.pieces else b""
            assert self.output[offset : offset + len(piece)] == piece
            known = {"output": base64.b64encode(piece).decode(), "output_size": len(self.output)}
            return {**(self.ended if not self.pieces else {"state": "RUNNING"}), **known}
        return {"state": "RUNNING"}


def test_output_comes_whole_through_a_restart_of_the_broker_and_the_node_is_left_clean():
    system = Management(b"one\n", b"two\n", b"three", failures=1, exit_code=0)
    run = Execution(system, "n-0", ["x"], 60.0)
    assert b"".join(run.pieces()) == b"one\ntwo\nthree"
    run.close()
    assert run.how_it_ended() == "" and system.asked[-1] == "end_exec"


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        ({"exit_code": 3}, "exit code 3"),
        ({"exit_code": -9}, "ended by signal 9"),
        ({"timed_out": True}, "ended by the node after 60 s"),
        ({"problem": "can't be started: no such file"}, "can't be started: no such file"),
        ({"state": "LOST"}, "it is LOST: its node was restarted, or somebody ended it"),
    ],
)
def test_how_a_command_ended_is_said(ended, said):
    run = Execution(Management(b"x", **ended), "n-0", ["x"], 60.0)
    list(run.pieces())
    assert run.how_it_ended() == said


@pytest.mark.parametrize(
    ("before", "now", "new"),
    [
        ([], ["a", "b"], ["a", "b"]),
        (["a", "b"], ["a", "b"], []),
        (["a", "b"], ["a", "b", "c"], ["c"]),
        (["a", "b", "c"], ["b", "c", "d"], ["d"]),
        (["b", "c"], ["a", "b", "c", "d"], ["d"]),
        (["a", "b"], ["x", "y"], ["x", "y"]),
        (["a"], [], []),
    ],
)
def test_only_lines_that_were_not_shown_are_shown(before, now, new):
    assert unseen(before, now) == new


def test_lines_belong_to_the_log_under_whose_heading_they_are():
    assert sections_of("== a stdout\n1\n2\n== b stderr\n3") == {
        "== a stdout": ["1", "2"],
        "== b stderr": ["3"],
    }
