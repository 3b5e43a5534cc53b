"""Programs, probe, readiness and drain against a real supervisord."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.config import AgentConfig
from agent.hooks import run_hook
from agent.messages import (
    BrokerAccess,
    BrokerAccount,
    BusySource,
    CheckSpec,
    DrainProgram,
    EnrolAnswer,
    Hook,
    NodeRole,
    ProgramSpec,
)
from agent.node import Node
from agent.process_probe import ProcessProbe, SupervisorUnreachable
from agent.program_launcher import search_path

pytestmark = pytest.mark.integration

FOR_EVER = "import time\nwhile True: time.sleep(60)"
STUBBORN = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + FOR_EVER
FINISHES = """
import pathlib, signal, sys, time
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
pathlib.Path("up").touch()
while not (asked and pathlib.Path("job-done").exists()):
    time.sleep(0.02)
sys.exit(0)
"""
DUMP = """
import json, os, pathlib, sys, time
pathlib.Path("dump").write_text(json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]))
while True: time.sleep(60)
"""


def python(text: str, *words: str, **kwargs: Any) -> ProgramSpec:
    return ProgramSpec(command=("python", "-c", text, *words), **kwargs)


def node_of(place: Any, role: NodeRole) -> Node:
    """The agent's view of a node, as it is after enrolment, without any broker."""
    broker = BrokerAccess(host="127.0.0.1", port=1, vhost="none")
    config = AgentConfig(
        run="run1",
        pool="workers",
        launch_id="l1",
        index=0,
        token="t",
        broker=broker,
        directory=place.directory,
        supervisor_socket=place.directory / "supervisor.sock",
    )
    account = {"node": BrokerAccount(user="u", password="p")}
    access = BrokerAccess(host="127.0.0.1", port=1, vhost="none", accounts=account)
    answer = EnrolAnswer(node_id="l1-0", run="run1", pool="workers", broker=access, role=role)
    return Node(config, answer)


@pytest.fixture
def place(make_node: Callable[..., Any]) -> Any:
    found = make_node()
    found.start()
    return found


def test_a_node_whose_programs_run_and_whose_checks_pass_is_ready_with_its_outputs(
    place: Any,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        role = NodeRole(
            programs={"sit": python(FOR_EVER), "many": python(FOR_EVER, copies=3)},
            checks=(
                CheckSpec(tcp=f"127.0.0.1:{port}"),
                CheckSpec(file="conf.d"),
                CheckSpec(run=("python3", "-c", "import os; os.environ['EPU_NODE_ID']")),
            ),
            outputs={"colour": "blue"},
        )
        report = node_of(place, role).bring_up()
    assert report.ok, (report.step, report.problem)
    assert report.outputs == {"colour": "blue"}
    names = {state.name: state.state for state in place.probe.states()}
    assert names == {
        "sit": "RUNNING",
        "many:many-0": "RUNNING",
        "many:many-1": "RUNNING",
        "many:many-2": "RUNNING",
    }


def test_words_and_variables_reach_a_program_exactly_as_they_were_written(
    place: Any, eventually: Callable[..., Any]
) -> None:
    nasty = [
        "a b",
        "50%",
        "%(here)s %(ENV_HOME)s",
        "x ; y # z",
        "it's",
        'say "x"',
        "two\nlines",
        "",
    ]
    variables = {"NASTY": "' \" ; # %(x)s %\nä", "EMPTY": "", "EPU_POOL": "mine"}
    role = NodeRole(programs={"dump": python(DUMP, *nasty, environment=variables)})
    assert node_of(place, role).bring_up().ok
    words, environment, directory = json.loads((place.directory / "dump").read_text())
    assert words == nasty
    assert {key: environment[key] for key in variables} == variables
    assert environment["EPU_NODE_ID"] == "l1-0"
    assert environment["EPU_BROKER_FILE"] == str(place.directory / "broker.json")
    assert directory == str(place.directory)


def test_bringing_up_twice_starts_nothing_twice(place: Any) -> None:
    role = NodeRole(programs={"sit": python(FOR_EVER)})
    assert node_of(place, role).bring_up().ok
    before = place.pid_of("sit")
    assert node_of(place, role).bring_up().ok
    assert place.pid_of("sit") == before


def test_a_bad_program_ends_fatal_and_the_report_shows_what_it_printed(place: Any) -> None:
    text = "import sys; sys.exit('the moon is missing')"
    report = node_of(place, NodeRole(programs={"bad": python(text)})).bring_up()
    assert not report.ok
    assert report.step == "program bad"
    assert "the moon is missing" in report.problem
    assert place.state_of("bad") == "FATAL"


def test_a_program_that_does_not_exist_is_named_in_the_report(place: Any) -> None:
    role = NodeRole(programs={"ghost": ProgramSpec(command=("no-such-program-anywhere",))})
    report = node_of(place, role).bring_up()
    assert report.step == "program ghost"
    assert "cannot start 'no-such-program-anywhere'" in report.problem


def test_a_failing_check_is_named_with_the_last_lines_it_printed(place: Any) -> None:
    words = ("python3", "-c", "import sys; sys.exit('flux low')")
    role = NodeRole(checks=(CheckSpec(run=words, timeout=3.0, interval=0.1),))
    report = node_of(place, role).bring_up()
    assert not report.ok
    assert report.step.startswith("check run python3")
    assert "flux low" in report.problem


def test_a_check_that_hangs_is_killed_with_its_children_at_its_deadline(
    place: Any, eventually: Callable[..., Any]
) -> None:
    text = (
        "import os, pathlib, subprocess, time\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        "pathlib.Path('child').write_text(str(child.pid))\n"
        "time.sleep(600)"
    )
    role = NodeRole(checks=(CheckSpec(run=("python3", "-c", text), timeout=2.0),))
    report = node_of(place, role).bring_up()
    assert "did not end" in report.problem
    child = int((place.directory / "child").read_text())
    eventually(lambda: _gone(child), message="the child of the check lives on")


def test_a_worker_that_crashed_is_started_again(place: Any, eventually: Callable[..., Any]) -> None:
    assert node_of(place, NodeRole(programs={"sit": python(FOR_EVER)})).bring_up().ok
    before = place.pid_of("sit")
    os.kill(before, signal.SIGKILL)
    eventually(lambda: place.state_of("sit") == "RUNNING" and place.pid_of("sit") != before)


def test_a_drain_waits_for_the_job_in_hand_and_can_be_asked_again(
    place: Any, eventually: Callable[..., Any]
) -> None:
    role = NodeRole(programs={"work": python(FINISHES), "log": python(FOR_EVER, worker=False)})
    node = node_of(place, role)
    assert node.bring_up().ok
    eventually(lambda: (place.directory / "up").exists())
    worker = place.pid_of("work")
    for _ in range(3):
        answer = node.drain()
        assert answer.draining and not answer.drained and "work" in answer.detail
    assert place.pid_of("work") == worker, "the worker was ended in the middle of its job"
    (place.directory / "job-done").touch()
    eventually(lambda: node.drain().drained)
    assert place.state_of("work") == "STOPPED"
    assert place.state_of("log") == "RUNNING"
    beat = node.beat()
    assert beat.draining and beat.drained


def test_an_agent_that_restarts_in_mid_drain_does_not_restart_the_work(
    place: Any, eventually: Callable[..., Any]
) -> None:
    role = NodeRole(programs={"work": python(FOR_EVER)})
    first = node_of(place, role)
    assert first.bring_up().ok
    first.acknowledged()
    first.drain()
    second = node_of(place, role)
    assert second.ready
    assert second.bring_up().ok
    eventually(lambda: second.beat().drained)
    assert place.state_of("work") == "STOPPED"


def test_a_cancelled_drain_brings_the_worker_back_even_while_it_is_stopping(
    place: Any, eventually: Callable[..., Any]
) -> None:
    role = NodeRole(programs={"work": python(FINISHES)})
    node = node_of(place, role)
    assert node.bring_up().ok
    eventually(lambda: (place.directory / "up").exists())
    node.drain()
    assert place.state_of("work") == "STOPPING"
    assert not node.cancel_drain().draining
    (place.directory / "job-done").touch()
    eventually(lambda: node.beat() and place.state_of("work") == "RUNNING")
    eventually(lambda: node.describe()["duty"] == "work")


def test_the_job_of_a_worker_whose_drain_was_cancelled_outlives_the_drain_timeout(
    place: Any, eventually: Callable[..., Any]
) -> None:
    role = NodeRole(programs={"work": python(FINISHES)}, drain_timeout=1.0)
    node = node_of(place, role)
    assert node.bring_up().ok
    eventually(lambda: (place.directory / "up").exists())
    worker = place.pid_of("work")
    node.drain()
    node.cancel_drain()
    deadline = time.monotonic() + 3.0
    while time.monotonic() < deadline:
        node.beat()
        assert (place.state_of("work"), place.pid_of("work")) == ("STOPPING", worker)
    (place.directory / "job-done").touch()
    eventually(lambda: node.beat() and place.state_of("work") == "RUNNING")


def test_programs_around_the_work_run_in_their_places_and_their_output_is_told(
    place: Any, eventually: Callable[..., Any]
) -> None:
    note = "import pathlib, sys; pathlib.Path('order').open('a').write(sys.argv[1] + ' '); "
    idle = "import pathlib, sys; sys.exit(0 if pathlib.Path('work-in-hand').exists() else 1)"
    role = NodeRole(
        programs={"work": python(FOR_EVER)},
        busy=BusySource(program=("python", "-c", idle)),
        drain=DrainProgram(
            command=("python", "-c", note + "sys.exit(0)", "pause"),
            undo=("python", "-c", note + "sys.exit(0)", "resume"),
        ),
        on_ready=Hook(command=("python", "-c", note + "sys.exit(0)", "ready")),
        on_drain=Hook(command=("python", "-c", note + "sys.exit('half saved')", "save"),
                      default="continue"),
    )  # fmt: skip
    order = lambda: (place.directory / "order").read_text().split()  # noqa: E731
    node = node_of(place, role)
    assert node.bring_up().ok
    assert order() == ["ready"]
    (place.directory / "work-in-hand").touch()
    eventually(lambda: node.beat().busy)
    eventually(lambda: "work is in hand" in node.drain().detail)
    assert place.state_of("work") == "RUNNING"
    node.cancel_drain()
    eventually(lambda: node.beat() and node.describe()["duty"] == "work")
    assert order() == ["ready", "pause", "resume"]
    (place.directory / "work-in-hand").unlink()
    eventually(lambda: node.drain().drained, 20)
    assert order() == ["ready", "pause", "resume", "pause", "save"]
    assert place.state_of("work") == "STOPPED"


def test_a_node_whose_on_ready_fails_is_not_ready_and_no_secret_is_in_what_it_says(
    place: Any,
) -> None:
    secret = "hunter2-and-more"
    talk = f"import sys; sys.exit('amqp://me:pa55@host/ refused {secret}')"
    role = NodeRole(
        programs={"work": python(FOR_EVER, environment={"DB_PASSWORD": secret})},
        on_ready=Hook(command=("python", "-c", talk)),
    )
    report = node_of(place, role).bring_up()
    assert (report.ok, report.step) == (False, "on_ready")
    assert report.problem == "exit status 1\namqp://me:***@host/ refused ***"


def test_a_hook_that_shows_life_may_take_longer_and_one_that_does_not_is_ended(
    place: Any,
) -> None:
    talks = "import time\nfor n in range(8): print(n, flush=True); time.sleep(0.2)"
    hook = Hook(command=("python", "-c", talks), timeout=0.5, heartbeat=1.0)
    assert run_hook(hook, place.directory, {"PATH": search_path()}).ok
    touches = (
        "import os, time\nfor n in range(8): os.utime(os.environ['EPU_HOOK_BEAT']); time.sleep(.2)"
    )
    hook = Hook(command=("python", "-c", touches), timeout=0.5, heartbeat=1.0)
    assert run_hook(hook, place.directory, {"PATH": search_path()}).ok
    hook = Hook(command=("python", "-c", talks), timeout=0.5)
    assert run_hook(hook, place.directory, {"PATH": search_path()}).problem.startswith(
        "it did not end in"
    )


def test_a_worker_that_ignores_the_drain_is_killed_after_the_drain_timeout(
    place: Any, eventually: Callable[..., Any]
) -> None:
    role = NodeRole(programs={"work": python(STUBBORN)}, drain_timeout=1.0)
    node = node_of(place, role)
    assert node.bring_up().ok
    eventually(lambda: node.drain().drained)


def test_a_node_without_workers_is_drained_at_once(place: Any) -> None:
    node = node_of(place, NodeRole(programs={"log": python(FOR_EVER, worker=False)}))
    assert node.bring_up().ok
    assert node.drain().drained


def test_logs_show_both_streams_of_every_copy_and_unknown_programs_are_refused(
    place: Any,
) -> None:
    text = "import os, sys, time; print('out', os.environ['EPU_COPY'], flush=True); "
    text += "print('err\\x00\\xff', file=sys.stderr, flush=True); time.sleep(600)"
    node = node_of(place, NodeRole(programs={"talk": python(text, copies=2)}))
    assert node.bring_up().ok
    shown = node.logs("talk")
    assert "out 0" in shown and "out 1" in shown and "err" in shown
    assert "out 1" not in node.logs("talk:talk-0")
    with pytest.raises(ValueError, match="no program 'walk' here; there are: talk:talk-0"):
        node.logs("walk")


def test_stop_ends_every_program_and_the_supervisord(
    place: Any, eventually: Callable[..., Any]
) -> None:
    node = node_of(place, NodeRole(programs={"sit": python(FOR_EVER)}))
    assert node.bring_up().ok
    pid = place.pid_of("sit")
    node.stop()
    place.process.wait(20)
    assert _gone(pid)


def test_a_supervisord_that_hangs_makes_beats_say_so_and_stops_nothing(place: Any) -> None:
    node = node_of(place, NodeRole(programs={"sit": python(FOR_EVER)}))
    assert node.bring_up().ok
    node._probe._timeout = 0.3
    os.kill(place.process.pid, signal.SIGSTOP)
    try:
        beats = [node.beat() for _ in range(3)]
    finally:
        os.kill(place.process.pid, signal.SIGCONT)
    assert [beat.supervisor_ok for beat in beats] == [False, False, False]
    assert node.pulse.supervisor_lost
    assert node.beat().supervisor_ok


def test_a_socket_that_accepts_but_never_answers_is_unreachable(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "s"))
        silent.listen()
        threading.Thread(target=silent.accept, daemon=True).start()
        with pytest.raises(SupervisorUnreachable):
            ProcessProbe(tmp_path / "s", timeout=0.2).states()


def test_files_of_programs_are_for_our_own_user_only(place: Any) -> None:
    role = NodeRole(programs={"sit": python(FOR_EVER, environment={"KEY": "secret"})})
    assert node_of(place, role).bring_up().ok
    for path in [*place.directory.glob("conf.d/*"), *place.directory.glob("programs/*")]:
        assert path.stat().st_mode & 0o077 == 0, path


def _gone(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
