"""Boot programs run by a real node's agent, over a real broker that may go away."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.messages import BrokerAccess, NodeRole
from agent.program_runs import DIRECTORY
from agent.wire import to_wire
from bootlevels.api import Run
from bootlevels.transports.agent import AgentAddress, AgentTransport
from bootlevels.transports.program import ProgramRun, Stage, StagedFile, Started

pytestmark = pytest.mark.integration

Eventually = Callable[..., Any]


@pytest.fixture
def node(registrar: Any, start_agent: Callable[..., Any], eventually: Eventually) -> Any:
    registrar.start()
    found = start_agent(NodeRole(heartbeat_interval=0.5))
    eventually(lambda: any(b.ready for b in registrar.beats), 40, message=found.agent_log)
    return found


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EPU_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("EPU_RUN", raising=False)
    return tmp_path / "home"


def transport(broker: BrokerAccess, node_id: str, **more: Any) -> AgentTransport:
    url = broker.amqp_url("coordinator")
    return AgentTransport(AgentAddress(node_id, url, "run-1", **more), silent_for=20.0)


def program(tmp_path: Path, *words: str, **more: Any) -> ProgramRun:
    values: dict[str, Any] = {
        "service": "web", "step": "boot", "words": words, "timeout": 60.0, "directory": tmp_path,
        "stage": Stage(name="web-boot", files=()), "log": tmp_path / "web.log",
    }  # fmt: skip
    return ProgramRun(**{**values, **more})


def nothing_left(node: Any) -> bool:
    return not list((node.directory / DIRECTORY).iterdir())


def test_a_program_runs_there_with_its_files_and_its_output_comes_here(
    broker: BrokerAccess, node: Any, tmp_path: Path
) -> None:
    text = '#!/bin/sh\ncat data | head -c 8; echo " $1 hush"; pwd; cd "$EPU_PLACE" && pwd\n'
    text += 'echo \'{"x": "y"}\' > "$EPU_BOOTOUT"\n'
    files = (
        StagedFile(name="go", content=text.encode(), mode=0o700),
        StagedFile(name="data", content=b"12345678" * 100_000),  # several pieces
    )
    started: list[Started] = []
    end = transport(broker, node.node_id).run(
        program(tmp_path, "./go", "a b", stage=Stage(name="web-boot", files=files),
                secrets=frozenset({"hush"})),
        threading.Event(), started.append,
    )  # fmt: skip
    assert end.ok and end.bootout == b'{"x": "y"}\n', end
    lines = (tmp_path / "web.log").read_text().splitlines()
    assert lines[0] == "12345678 a b ****" and end.tail == tuple(lines)
    assert lines[1].startswith(str(node.directory / DIRECTORY)) and lines[2] == str(node.directory)
    assert len(started) == 1 and nothing_left(node)


def test_much_output_comes_whole(broker: BrokerAccess, node: Any, tmp_path: Path) -> None:
    run = program(tmp_path, "seq", "100000")
    assert transport(broker, node.node_id).run(run, threading.Event(), lambda _: None).ok
    assert (tmp_path / "web.log").read_text() == "".join(f"{n}\n" for n in range(1, 100_001))


def test_time_out_and_interruption_end_the_group_there(
    broker: BrokerAccess, node: Any, tmp_path: Path, eventually: Eventually
) -> None:
    way = transport(broker, node.node_id)
    end = way.run(program(tmp_path, "sleep", "987654", timeout=1.0), threading.Event(), print)
    assert end.timed_out and nothing_left(node)
    stop = threading.Event()
    end = way.run(program(tmp_path, "sleep", "987654"), stop, lambda _: stop.set())
    assert end.interrupted
    eventually(lambda: nothing_left(node))
    found = subprocess.run(["pgrep", "-f", "sleep 987654"], stdout=subprocess.DEVNULL)
    assert found.returncode == 1


def test_a_killed_agent_and_a_broker_that_goes_away_cost_time_and_nothing_runs_twice(
    broker: BrokerAccess, node: Any, gate: Any, tmp_path: Path, eventually: Eventually
) -> None:
    count, go = tmp_path / "count", tmp_path / "go"
    run = program(
        tmp_path,
        "sh",
        "-c",
        f"echo once >> {count}; until test -e {go}; do sleep 0.05; done; exit 5",
    )
    ends: list[Any] = []
    way = transport(broker, node.node_id)
    thread = threading.Thread(
        target=lambda: ends.append(way.run(run, threading.Event(), lambda _: None))
    )
    thread.start()
    eventually(count.exists, 30)
    before = node.pid_of("agent")
    os.kill(before, signal.SIGKILL)
    eventually(lambda: node.pid_of("agent") not in (0, before), 30)
    gate.shut()
    go.touch()
    gate.open()
    thread.join(60)
    assert [end.exit_code for end in ends] == [5], ends
    assert count.read_text() == "once\n"
    eventually(lambda: nothing_left(node))


def test_a_node_that_is_gone_fails_the_step_clearly(
    broker: BrokerAccess, node: Any, tmp_path: Path, eventually: Eventually
) -> None:
    run = program(tmp_path, "sleep", "300")
    way = transport(broker, node.node_id, why_gone=lambda: "machine m-1 is not listed")

    def lost(_: Started) -> None:
        threading.Thread(target=node.kill).start()

    end = way.run(run, threading.Event(), lost)
    assert end.unreachable and end.exit_code is None
    assert end.problem == "has no agent to run it: machine m-1 is not listed"


PLAN = """\
plan: p
levels:
  - services:
      broker: {{provides: [registrar], attributes: {{accounts: {accounts}}}}}
  - services:
      web:
        host: {node}
        transport: agent
        boot: {{run: [sh, -c, '{script}']}}
        ready: [{{run: [test, -e, {flag}]}}, {{file: agent.log}}]
        terminate: {{run: [rm, {flag}]}}
        outputs: [address]
"""


@pytest.fixture
def plan(tmp_path: Path, broker: BrokerAccess, node: Any) -> Callable[[str], Path]:
    accounts = tmp_path / "accounts.json"
    accounts.touch(0o600)
    accounts.write_text(json.dumps(to_wire(broker)))

    def write(script: str) -> Path:
        path = tmp_path / "plan.yaml"
        flag = tmp_path / "flag"
        path.write_text(PLAN.format(accounts=accounts, node=node.node_id, script=script, flag=flag))
        return path

    return write


def test_a_plan_is_booted_checked_and_ended_through_an_agent(
    home: Path, plan: Callable[[str], Path], tmp_path: Path, node: Any
) -> None:
    path = plan(
        f'touch {tmp_path}/flag; printf "{{\\"address\\": \\"%s\\"}}" $EPU_NODE_ID > $EPU_BOOTOUT'
    )
    run = Run.prepare(path)
    assert run.boot().ok, run.records()
    assert run.attributes("web")["address"] == node.node_id
    assert run.status().ok
    (tmp_path / "flag").unlink()
    assert not run.status().ok
    assert run.repair().ok
    assert run.terminate(leave_workers=True).ok  # there is no provisioner to ask
    assert not (tmp_path / "flag").exists() and nothing_left(node)


def test_a_killed_boot_tool_leaves_a_program_that_the_next_one_ends(
    home: Path, plan: Callable[[str], Path], tmp_path: Path, node: Any, eventually: Eventually
) -> None:
    flag = tmp_path / "flag"
    script = f"echo begun >> {flag}; test $(wc -l < {flag}) = 2 || sleep 876543; "
    path = plan(script + 'echo {\\"address\\": 1} > $EPU_BOOTOUT')
    tool = subprocess.Popen(
        [sys.executable, "-m", "mgmt.cli", "boot", str(path)], stdout=subprocess.DEVNULL
    )
    eventually(lambda: flag.exists() and flag.read_text(), 40)
    tool.kill()
    tool.wait()
    assert _runs("sleep 876543"), "the node's program does not die with the boot tool"
    done = subprocess.run(
        [sys.executable, "-m", "mgmt.cli", "repair", "p"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not _runs("sleep 876543") and flag.read_text() == "begun\nbegun\n"
    assert nothing_left(node)


def _runs(name: str) -> bool:
    return subprocess.run(["pgrep", "-f", f"^{name}"], stdout=subprocess.DEVNULL).returncode == 0


def test_the_password_is_in_no_text_of_an_address(broker: BrokerAccess) -> None:
    address = AgentAddress("l-0", broker.amqp_url("coordinator"), "o")
    assert broker.accounts["coordinator"].password not in repr(replace(address, owner="p"))
