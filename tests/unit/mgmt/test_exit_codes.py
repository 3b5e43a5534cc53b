"""Which exit code and which words an error becomes."""

import errno
import os

import pytest

from agent.rpc_client import BrokerUnreachable, CallTimeout, RemoteError, UnknownService
from coordinator.errors import ConfigProblem, InsufficientCapacity, NotFound, Problem
from mgmt.exit_codes import ExitCode, GaveUpWaiting, NoSuchRun, WorkersRemain, verdict


@pytest.mark.parametrize(
    ("problem", "code"),
    [
        (BrokerUnreachable("gone"), ExitCode.UNREACHABLE),
        (CallTimeout("slow"), ExitCode.UNREACHABLE),
        (UnknownService("nobody"), ExitCode.UNREACHABLE),
        (RemoteError("KeyError", "x"), ExitCode.PROBLEM),
        (NotFound("no pool 'x'"), ExitCode.NOT_FOUND),
        (NoSuchRun("no run 'x'"), ExitCode.NOT_FOUND),
        (ConfigProblem("bad"), ExitCode.USAGE),
        (WorkersRemain("two left"), ExitCode.WORKERS_REMAIN),
        (InsufficientCapacity("full"), ExitCode.PROBLEM),
        (GaveUpWaiting("too slow"), ExitCode.PROBLEM),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
        (ValueError("surprise"), ExitCode.PROBLEM),
    ],
)
def test_every_kind_of_error_has_its_exit_code(problem, code):
    assert verdict(problem)[0] == code


def test_every_problem_of_a_configuration_has_a_line():
    problem = ConfigProblem([Problem(what="unknown key", key="maks"), Problem(what="no engine")])
    assert verdict(problem)[1] == ["maks: unknown key", "no engine"]


def test_problems_that_came_over_the_wire_as_one_text_have_a_line_each():
    assert verdict(ConfigProblem("first\nsecond"))[1] == ["first", "second"]


def test_a_full_disk_is_said_with_its_path_and_what_to_do():
    problem = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/some/run")
    assert verdict(problem) == (
        ExitCode.PROBLEM,
        ["/some/run: No space left on device; free some space and run it again"],
    )


def test_a_defect_says_how_to_see_where_it_is():
    assert "EPU_DEBUG=1" in verdict(ZeroDivisionError("division by zero"))[1][0]
