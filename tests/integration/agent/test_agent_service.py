"""A whole node with its agent against a real broker and a registrar that answers as told."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import psutil
import pytest

from agent.messages import CheckSpec, Heartbeat, NodeRole, NodeSensor, ProgramSpec
from agent.rpc_client import CallFailed, CallTimeout, UnknownService
from agent.wire import from_wire

pytestmark = pytest.mark.integration

FOR_EVER = ("python", "-c", "import time\nwhile True: time.sleep(60)")
BUSY = (
    "python",
    "-c",
    "import os, pathlib, time\n"
    "pathlib.Path(os.environ['EPU_BUSY_FILE']).write_text('busy')\n"
    "while True: time.sleep(60)",
)

Eventually = Callable[..., Any]
StartAgent = Callable[..., Any]
Call = Callable[..., Any]


def ready_node(start_agent: StartAgent, registrar: Any, eventually: Eventually, role: Any) -> Any:
    node = start_agent(role)
    eventually(
        lambda: any(beat.ready for beat in registrar.beats), 40, message=lambda: node.agent_log()
    )
    return node


def beats_of(registrar: Any, boot_id: str) -> list[Heartbeat]:
    return [beat for beat in registrar.beats if beat.boot_id == boot_id]


def test_a_node_enrols_becomes_ready_beats_and_answers(
    registrar: Any, start_agent: StartAgent, call: Call, eventually: Eventually
) -> None:
    registrar.start()
    role = NodeRole(
        programs={"work": ProgramSpec(command=BUSY)},
        outputs={"colour": "blue"},
        busy_file="busy",
        heartbeat_interval=0.5,
    )
    node = ready_node(start_agent, registrar, eventually, role)

    (wanted,) = registrar.enrolments
    assert wanted.token == "token-of-the-test"
    assert wanted.addresses == ("127.0.0.1",)
    (report,) = registrar.reports
    assert report.ok and report.outputs == {"colour": "blue"} and report.node_id == node.node_id
    assert report.nonce == wanted.nonce, "proves that it is this node's report"

    eventually(lambda: registrar.beats[-1].sequence >= 3 and registrar.beats[-1].busy)
    last = registrar.beats[-1]
    assert [beat.sequence for beat in registrar.beats] == list(range(1, last.sequence + 1))
    assert {state.name: state.state for state in last.processes} == {
        "agent": "RUNNING",
        "work": "RUNNING",
    }
    assert {"load1", "cpu_percent", "memory_percent", "disk_percent"} <= set(last.figures)
    sent = registrar.properties[-1]
    assert sent["user_id"] == f"node-{node.node_id}"
    assert sent["expiration"] == "1500"
    assert sent["delivery_mode"] == 1

    described = call(node.node_id, "describe")
    assert described["node_id"] == node.node_id and described["ready"] and described["busy"]
    now = from_wire(Heartbeat, call(node.node_id, "beat_now"))
    assert now.sequence > last.sequence and now.boot_id == last.boot_id
    assert "ready" in call(node.node_id, "logs", "agent")

    secrets = ("user-data", "enrolled.json", "broker.json", "nonce.json")
    modes = {name: (node.directory / name).stat().st_mode & 0o777 for name in secrets}
    assert modes == dict.fromkeys(secrets, 0o600)
    password = registrar.accounts[node.node_id][1].password
    assert password not in node.agent_log() and "token-of-the-test" not in node.agent_log()


def test_an_agent_fits_into_seventy_megabytes(
    registrar: Any, start_agent: StartAgent, call: Call, eventually: Eventually
) -> None:
    registrar.start()
    node = ready_node(start_agent, registrar, eventually, NodeRole(heartbeat_interval=0.2))
    eventually(lambda: registrar.beats[-1].sequence >= 20, 20)
    for _ in range(20):
        call(node.node_id, "describe")
    resident = psutil.Process(node.pid_of("agent")).memory_info().rss
    print(f"agent: {resident / 2**20:.1f} MB resident")
    assert resident <= 70 * 10**6


def test_a_program_that_fails_for_good_and_one_that_is_well_again_are_told_at_once(
    registrar: Any, start_agent: StartAgent, eventually: Eventually
) -> None:
    registrar.start()
    text = (
        "import os, pathlib, sys, time\n"
        "while not pathlib.Path('broken').exists(): time.sleep(0.05)\n"
        "sys.exit('can\\'t log in with ' + os.environ['DB_PASSWORD'])"
    )
    spec = ProgramSpec(
        command=("python", "-c", text), environment={"DB_PASSWORD": "hunter2hunter2"}
    )
    # An interval this long: only a beat sent *because* of the change can be seen.
    role = NodeRole(programs={"work": spec}, heartbeat_interval=300.0)
    node = ready_node(start_agent, registrar, eventually, role)

    def work() -> Any:
        return next(one for one in registrar.beats[-1].processes if one.name == "work")

    (node.directory / "broken").touch()
    eventually(lambda: work().state == "FATAL", 40, message="no beat says that it failed")
    assert work().exit_status == 1
    assert "can't log in with ***" in work().stderr_tail
    assert all("hunter2" not in str(beat) for beat in registrar.beats)
    (node.directory / "broken").unlink()
    node.probe.start("work")
    eventually(lambda: work().state == "RUNNING", 20, message="no beat says that it is well")
    assert len(registrar.beats) < 12, "a crash loop made a storm of beats"


def test_a_lost_enrolment_reply_locks_nobody_out(
    registrar: Any, start_agent: StartAgent, eventually: Eventually
) -> None:
    registrar.lose_replies = 1
    registrar.start()
    node = ready_node(start_agent, registrar, eventually, None)
    first, second = registrar.enrolments
    assert first.nonce == second.nonce
    assert oct((node.directory / "nonce.json").stat().st_mode)[-3:] == "600"


def test_an_agent_that_finds_no_registrar_waits_for_it(
    registrar: Any, start_agent: StartAgent, eventually: Eventually
) -> None:
    node = start_agent()
    eventually(lambda: "nobody answers" in node.agent_log(), 20)
    pid = node.pid_of("agent")
    registrar.start()
    eventually(lambda: any(beat.ready for beat in registrar.beats), 30)
    assert node.pid_of("agent") == pid


def test_a_refused_token_is_said_and_leaves_the_agent_waiting(
    registrar: Any, start_agent: StartAgent, eventually: Eventually
) -> None:
    registrar.refuse = "TokenRejected"
    registrar.start()
    node = start_agent()
    eventually(lambda: "TokenRejected: refused by the test" in node.agent_log(), 20)
    eventually(lambda: node.state_of("agent") == "RUNNING")
    assert not (node.directory / "enrolled.json").exists()


def test_a_readiness_report_is_repeated_until_it_is_accepted(
    registrar: Any, start_agent: StartAgent, eventually: Eventually
) -> None:
    registrar.accept = False
    registrar.start()
    node = start_agent()
    eventually(lambda: len(registrar.reports) >= 2, 30, message=node.agent_log)
    assert not registrar.beats[-1].ready
    registrar.accept = True
    eventually(lambda: registrar.beats[-1].ready, 30, message=node.agent_log)


def test_a_node_that_fails_its_check_reports_the_step_and_beats_on(
    registrar: Any, start_agent: StartAgent, eventually: Eventually
) -> None:
    registrar.start()
    words = ("python", "-c", "import sys; sys.exit('flux low')")
    check = CheckSpec(run=words, timeout=1.5, interval=0.2)
    node = start_agent(NodeRole(checks=(check,), heartbeat_interval=0.3))
    eventually(lambda: registrar.reports, 30, message=node.agent_log)
    assert not registrar.reports[0].ok
    assert registrar.reports[0].step.startswith("check run python")
    assert "flux low" in registrar.reports[0].problem
    seen = len(registrar.beats)
    eventually(lambda: len(registrar.beats) > seen)
    assert not registrar.beats[-1].ready


def test_an_agent_outlives_a_broker_that_goes_away_and_beats_as_soon_as_it_is_back(
    registrar: Any, start_agent: StartAgent, call: Call, gate: Any, eventually: Eventually
) -> None:
    registrar.start()
    # An interval this long: only a beat sent *because* of the connection can be seen.
    node = ready_node(start_agent, registrar, eventually, NodeRole(heartbeat_interval=300.0))
    # supervisord calls the agent itself RUNNING after a second, which is news, too.
    eventually(lambda: {one.state for one in registrar.beats[-1].processes} == {"RUNNING"})
    pid, before = node.pid_of("agent"), registrar.beats[-1]
    gate.shut()
    eventually(lambda: _unknown(call, node.node_id), message="its queue outlived the agent")
    missed = gate.refused
    eventually(lambda: gate.refused >= missed + 2, 30, message="it does not try again and again")
    gate.open()
    eventually(lambda: registrar.beats[-1].sequence > before.sequence, 20)
    after = registrar.beats[-1]
    assert (after.boot_id, after.sequence) == (before.boot_id, before.sequence + 1)
    assert after.ready
    assert call(node.node_id, "describe")["ready"]
    assert node.pid_of("agent") == pid
    assert len(registrar.enrolments) == 1


def test_after_a_partition_an_agent_says_once_how_it_is_now(
    registrar: Any, start_agent: StartAgent, call: Call, gate: Any, eventually: Eventually
) -> None:
    """Nothing arrives, nothing is refused, nothing ends: its connections are half-open for good.

    What it would have said meanwhile is never sent.
    """
    registrar.start()
    role = NodeRole(programs={"work": ProgramSpec(command=FOR_EVER)}, heartbeat_interval=2.0)
    node = ready_node(start_agent, registrar, eventually, role)
    before = registrar.beats[-1]
    gate.forget(newcomers_too=True)
    node.probe.stop("work")
    eventually(lambda: node.state_of("work") == "STOPPED", 20)
    began = time.monotonic()
    eventually(lambda: time.monotonic() - began > 8, 30)
    heard = len(registrar.beats)
    gate.open()
    eventually(lambda: len(registrar.beats) > heard, 60, node.agent_log)
    first = registrar.beats[heard]
    assert first.boot_id == before.boot_id
    assert first.sequence > before.sequence
    assert {one.name: one.state for one in first.processes}["work"] == "STOPPED"
    eventually(lambda: answered(call, node.node_id), 60, node.agent_log)
    eventually(lambda: len(registrar.beats) >= heard + 3, 30)
    sequences = [beat.sequence for beat in registrar.beats[heard:]]
    assert sequences == sorted(set(sequences)), "none twice, none late"
    gaps = [one.sent_at - other.sent_at for other, one in pairwise(registrar.beats[heard:])]
    assert sum(gap < 1.0 for gap in gaps) <= 1, "the backlog of a partition was sent"


def test_sensors_that_hang_and_pages_that_stall_delay_no_beat_and_say_nothing(
    registrar: Any, start_agent: StartAgent, call: Call, eventually: Eventually
) -> None:
    registrar.start()
    with socket.create_server(("127.0.0.1", 0)) as mute:
        sensors = {
            "good": NodeSensor(program=("echo", "42"), interval=1.0),
            "hangs": NodeSensor(program=("sleep", "600"), timeout=2.0, interval=1.0),
            "stalls": NodeSensor(
                prometheus=f"http://127.0.0.1:{mute.getsockname()[1]}/metrics",
                names=("depth",),
                timeout=2.0,
                interval=1.0,
            ),
        }
        role = NodeRole(
            programs={"work": ProgramSpec(command=FOR_EVER)},
            sensors=sensors,
            heartbeat_interval=0.5,
        )
        node = ready_node(start_agent, registrar, eventually, role)
        both = {"hangs", "stalls"}
        eventually(lambda: both <= set(registrar.beats[-1].sensor_problems), 30, node.agent_log)
        since = len(registrar.beats)
        eventually(lambda: len(registrar.beats) >= since + 12, 30, node.agent_log)
    heard = registrar.beats[since:]
    for beat in heard:
        assert beat.figures["good"] == 42.0 and 0.0 <= beat.figure_ages["good"] < 10.0
        assert not [name for name in beat.figures if name.startswith(("hangs", "stalls"))]
        assert beat.figures["program.work.rss"] > 0
    gaps = sorted(later.sent_at - earlier.sent_at for earlier, later in pairwise(heard))
    assert gaps[len(gaps) // 2] < 1.5, "a measurement that takes 2 s is in the way of the beats"
    assert call(node.node_id, "describe")["sensor_problems"].keys() == both


def answered(call: Call, node_id: str) -> bool:
    try:
        return bool(call(node_id, "describe", timeout=2))
    except CallFailed:
        return False


def test_resetting_connections_again_and_again_ends_no_agent(
    registrar: Any, start_agent: StartAgent, call: Call, gate: Any, eventually: Eventually
) -> None:
    registrar.start()
    node = ready_node(start_agent, registrar, eventually, NodeRole(heartbeat_interval=0.3))
    pid = node.pid_of("agent")
    for _ in range(5):
        seen = registrar.beats[-1].sequence
        gate.shut()
        gate.open()
        eventually(lambda seen=seen: registrar.beats[-1].sequence > seen, 20)
        eventually(lambda: not _unknown(call, node.node_id), 20)
    assert node.pid_of("agent") == pid
    assert len({beat.boot_id for beat in registrar.beats}) == 1


def test_the_queue_of_a_killed_agent_goes_with_it(
    registrar: Any, start_agent: StartAgent, call: Call, eventually: Eventually
) -> None:
    registrar.start()
    node = ready_node(start_agent, registrar, eventually, None)
    os.kill(node.process.pid, signal.SIGSTOP)  # nobody starts the agent again
    try:
        os.kill(_agent_pid(node), signal.SIGKILL)
        started = time.monotonic()
        eventually(lambda: _unknown(call, node.node_id), 10.0)
        print(f"queue gone after {1000 * (time.monotonic() - started):.0f} ms")
    finally:
        os.kill(node.process.pid, signal.SIGCONT)


def test_an_agent_that_was_killed_comes_back_with_the_account_it_has(
    registrar: Any, start_agent: StartAgent, call: Call, eventually: Eventually
) -> None:
    registrar.start()
    role = NodeRole(programs={"work": ProgramSpec(command=FOR_EVER)}, heartbeat_interval=0.5)
    node = ready_node(start_agent, registrar, eventually, role)
    worker, first = node.pid_of("work"), registrar.beats[-1].boot_id
    os.kill(node.pid_of("agent"), signal.SIGKILL)
    eventually(lambda: registrar.beats[-1].boot_id != first, 30, message=node.agent_log)
    mine = beats_of(registrar, registrar.beats[-1].boot_id)
    assert mine[0].sequence == 1
    assert mine[0].ready, "it was ready before and forgot it"
    assert len(registrar.enrolments) == 1
    assert len(registrar.reports) == 1
    assert node.pid_of("work") == worker, "the agent's restart must not touch the work"


def test_an_agent_whose_account_is_gone_enrols_again_with_its_nonce(
    registrar: Any,
    broker_admin: Any,
    start_agent: StartAgent,
    call: Call,
    gate: Any,
    eventually: Eventually,
) -> None:
    registrar.start()
    node = ready_node(start_agent, registrar, eventually, None)
    gate.shut()
    broker_admin.delete_user(f"node-{node.node_id}")
    gate.open()
    eventually(lambda: len(registrar.enrolments) == 2, 60, message=node.agent_log)
    first, second = registrar.enrolments
    assert first.nonce == second.nonce
    eventually(lambda: not _unknown(call, node.node_id), 20)


def test_sigterm_ends_an_agent_quickly_and_takes_its_queue_away(
    registrar: Any, start_agent: StartAgent, call: Call, eventually: Eventually
) -> None:
    registrar.start()
    node = ready_node(start_agent, registrar, eventually, None)
    node.probe.stop("agent")
    eventually(lambda: node.state_of("agent") == "STOPPED", 8, message=node.agent_log)
    info = [state for state in node.probe.states() if state.name == "agent"]
    assert info[0].exit_status == 0
    assert _unknown(call, node.node_id)


def test_sigterm_ends_an_agent_that_waits_for_its_broker(
    registrar: Any, start_agent: StartAgent, gate: Any, eventually: Eventually
) -> None:
    registrar.start()
    node = ready_node(start_agent, registrar, eventually, None)
    gate.shut()
    node.probe.stop("agent")
    eventually(lambda: node.state_of("agent") == "STOPPED", 9, message=node.agent_log)


def test_drain_and_cancel_by_rpc_and_a_kill_in_mid_drain(
    registrar: Any, start_agent: StartAgent, call: Call, eventually: Eventually
) -> None:
    registrar.start()
    role = NodeRole(programs={"work": ProgramSpec(command=FOR_EVER)}, heartbeat_interval=0.3)
    node = ready_node(start_agent, registrar, eventually, role)
    first = registrar.beats[-1].boot_id
    assert call(node.node_id, "drain", 30)["draining"]
    os.kill(node.pid_of("agent"), signal.SIGKILL)
    eventually(lambda: registrar.beats[-1].boot_id != first, 30, message=node.agent_log)
    eventually(lambda: registrar.beats[-1].drained, 20)
    assert node.state_of("work") == "STOPPED"
    assert call(node.node_id, "drain", 30)["drained"]
    assert not call(node.node_id, "cancel_drain")["draining"]
    eventually(lambda: node.state_of("work") == "RUNNING", 20)
    eventually(lambda: not registrar.beats[-1].draining)


def test_stop_by_rpc_ends_the_whole_node(
    registrar: Any, start_agent: StartAgent, call: Call, eventually: Eventually
) -> None:
    registrar.start()
    role = NodeRole(programs={"work": ProgramSpec(command=FOR_EVER)}, heartbeat_interval=0.5)
    node = ready_node(start_agent, registrar, eventually, role)
    call(node.node_id, "stop")
    node.process.wait(25)
    eventually(lambda: _unknown(call, node.node_id))


def test_a_node_that_is_not_wanted_any_more_ends_when_it_asks_for_its_account(
    registrar: Any, broker_admin: Any, start_agent: StartAgent, eventually: Eventually
) -> None:
    """Its cloud called its machine gone, and it was not; nobody can call it without an account."""
    registrar.start()
    role = NodeRole(programs={"work": ProgramSpec(command=FOR_EVER)}, heartbeat_interval=0.5)
    node = ready_node(start_agent, registrar, eventually, role)
    work = node.pid_of("work")
    registrar.refuse = "NodeEnded"
    broker_admin.delete_user(f"node-{node.node_id}")
    node.process.wait(60)
    assert not psutil.pid_exists(work)
    assert "everything on this node ends" in node.agent_log()


def test_a_wrong_config_is_one_clear_line_and_exit_two(make_node: Callable[..., Any]) -> None:
    import subprocess
    import sys

    node = make_node("l9-0")
    done = subprocess.run(
        [sys.executable, "-m", "agent.service", "--config", str(node.directory / "user-data")]
        + ["--instance-data", str(node.directory / "x.json"), "--dir", str(node.directory)],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("epu-agent: ")
    assert "user-data can't be read: No such file" in done.stderr


def _agent_pid(node: Any) -> int:
    for child in psutil.Process(node.process.pid).children():
        if "agent.service" in " ".join(child.cmdline()):
            return int(child.pid)
    raise AssertionError("no agent runs")


def _unknown(call: Call, node_id: str) -> bool:
    try:
        call(node_id, "describe", timeout=0.5)
    except UnknownService:
        return True
    except CallTimeout:
        pass  # the call came into the moment between the death and the queue's end
    return False
