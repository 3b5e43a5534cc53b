"""Checks of a node, and how a failure is told. Real sockets and commands, a clock of our own."""

from __future__ import annotations

import http.server
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.messages import CheckSpec, ProcessState
from agent.readiness import (
    Surroundings,
    await_check,
    await_checks,
    await_programs,
    check_name,
    judge_programs,
)


@pytest.fixture
def around(tmp_path: Path) -> Surroundings:
    return Surroundings(directory=tmp_path, environment={"COLOUR": "blue"})


def state(name: str, word: str, **kwargs: str) -> ProcessState:
    return ProcessState(name=name, state=word, **kwargs)  # type: ignore[arg-type]


class FrozenClock:
    """Time passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0

    def read(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_programs_are_fine_when_all_of_them_run() -> None:
    both = (state("a", "RUNNING"), state("b", "RUNNING"))
    assert judge_programs({"a", "b"}, both) is not None
    assert judge_programs({"a", "b"}, both[:1]) is None
    assert judge_programs({"a"}, (state("a", "STARTING"),)) is None
    assert judge_programs({"a"}, None) is None


def test_a_fatal_program_is_shown_with_what_it_said_last() -> None:
    too_quickly = "Exited too quickly (process log may have details)"
    said = "Traceback:\n  File x\nno module named x\n"
    fatal = state("a", "FATAL", problem=too_quickly, stderr_tail=said)
    verdict = judge_programs({"a", "b"}, (fatal, state("b", "STARTING")))
    assert verdict is not None and not verdict.ok
    assert verdict.step == "program a"
    first, *rest = verdict.problem.splitlines()
    assert first == "ends right after each start: no module named x"
    assert rest == ["Traceback:", "  File x", "no module named x"]
    mute = judge_programs({"a"}, (state("a", "FATAL", problem=too_quickly),))
    assert mute is not None and mute.problem == "ends right after each start, and printed nothing"
    absent = judge_programs({"a"}, (state("a", "FATAL", problem="can't find command 'x'"),))
    assert absent is not None and absent.problem.startswith("can't find command 'x'")


def test_programs_that_never_run_are_given_up_at_the_deadline(tmp_path: Path) -> None:
    clock = FrozenClock()
    around = Surroundings(directory=tmp_path, environment={}, clock=clock.read, sleep=clock.sleep)
    starting = state("a", "BACKOFF", stderr_tail="help")
    verdict = await_programs({"a"}, lambda: (starting,), 40.0, around)
    assert (verdict.ok, verdict.step) == (False, "program a")
    assert verdict.problem == "not RUNNING after 40 s: BACKOFF\nhelp"
    silent = await_programs({"a"}, lambda: None, 40.0, around)
    assert silent.problem == "the node's supervisord does not answer"
    assert clock.now < 90


def test_a_role_without_programs_needs_no_supervisord(around: Surroundings) -> None:
    assert await_programs((), lambda: None, 1.0, around).ok


@pytest.fixture
def web() -> Iterator[str]:
    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(500 if self.path == "/broken" else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_what_answers_passes(around: Surroundings, web: str) -> None:
    (around.directory / "here").touch()
    checks = (
        CheckSpec(http=f"{web}/fine?x=1"),
        CheckSpec(tcp=web.removeprefix("http://")),
        CheckSpec(file="here"),
        CheckSpec(run=("python3", "-c", "import os; assert os.environ['COLOUR'] == 'blue'")),
    )
    verdict = await_checks(checks, around)
    assert verdict.ok, verdict


def test_the_first_check_that_fails_is_named(around: Surroundings, web: str) -> None:
    checks = (CheckSpec(http=web), CheckSpec(http=f"{web}/broken", timeout=0.1, interval=0.1))
    verdict = await_checks(checks, around)
    assert verdict.step == f"check http {web}/broken"
    assert verdict.problem == "still failing after 0.1 s: it answers 500"


@pytest.mark.parametrize(
    ("check", "says"),
    [
        (CheckSpec(tcp="nowhere", timeout=0.1), "is not host:port"),
        (CheckSpec(tcp="127.0.0.1:99999999", timeout=0.1), ""),
        (CheckSpec(http="ftp://x/", timeout=0.1), "is not an http or https URL"),
        (CheckSpec(file="absent", timeout=0.1), "does not exist"),
        (CheckSpec(run=("no-such-command-here",), timeout=0.1), "No such file"),
    ],
)
def test_what_can_not_pass_fails_at_the_deadline_with_its_reason(
    around: Surroundings, check: CheckSpec, says: str
) -> None:
    verdict = await_check(check, around)
    assert not verdict.ok
    assert verdict.step == f"check {check_name(check)}"
    assert says in verdict.problem


def test_a_check_is_tried_again_until_it_passes(around: Surroundings) -> None:
    threading.Timer(0.3, (around.directory / "late").touch).start()
    assert await_check(CheckSpec(file="late", timeout=20, interval=0.05), around).ok


def test_a_silent_peer_does_not_hang_a_check(around: Surroundings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        assert not await_check(CheckSpec(http=url, timeout=0.3), around).ok


def test_the_answer_of_an_earlier_try_is_not_hidden_by_one_that_was_cut_short(
    around: Surroundings,
) -> None:
    text = (
        "import pathlib, sys, time\n"
        "first = not pathlib.Path('seen').exists()\n"
        "pathlib.Path('seen').touch()\n"
        "sys.exit('flux low') if first else time.sleep(600)"
    )
    check = CheckSpec(run=("python3", "-c", text), timeout=3.0, interval=0.1)
    verdict = await_check(check, around)
    assert "flux low" in verdict.problem


def test_a_check_that_was_killed_leaves_no_process(around: Surroundings) -> None:
    text = "import os, pathlib, time; pathlib.Path('p').write_text(str(os.getpid())); "
    check = CheckSpec(run=("python3", "-c", text + "time.sleep(600)"), timeout=2.0)
    assert "did not end" in await_check(check, around).problem
    pid = int((around.directory / "p").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
