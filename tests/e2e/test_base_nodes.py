"""A machine of a level above the coordinator: enrols as a base node, boots by its agent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import bootlevels.plans
from agent.messages import BrokerAccess
from agent.rpc_client import RpcClient
from agent.wire import from_wire
from bootlevels.api import Run
from bootlevels.machine_record import MachineLife
from coordinator.clouds.process import machine_processes

pytestmark = pytest.mark.integration

SLEEPER = Path(bootlevels.plans.__file__).parent / "sleeper" / "plan.yaml"
ABOVE = """\
  - description: a machine with an agent
    services:
      web:
        cloud: here
        template: worker
        boot: {run: [sh, -c, 'echo "by $EPU_NODE_ID"; echo "{\\"node\\": \\"$EPU_NODE_ID\\"}" > $EPU_BOOTOUT; touch $EPU_PLACE/web']}
        outputs: [node]
        ready: [{file: web}]
"""  # noqa: E501


def epu(*words: str) -> str:
    command = [sys.executable, "-m", "mgmt.cli", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_it_enrols_is_booted_by_its_agent_is_replaced_when_lost_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EPU_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("EPU_RUN", raising=False)
    text = SLEEPER.read_text().replace("plan: sleeper", "plan: base")
    text = text.replace("timeout: 1m", "timeout: 5m")  # other tests run, too
    lower = text[: text.index("  - description: the workers")]
    path = tmp_path / "plan.yaml"
    path.write_text(lower + ABOVE)
    run_directory = tmp_path / "home" / "runs" / "base"
    try:
        epu("boot", str(path))
        run = Run.open("base")
        (machine,) = run.machines()
        node = f"{machine.launch_id}-0"
        assert run.attributes("web")["node"] == node
        assert f"by {node}" in (run_directory / "logs" / "web.log").read_text()
        kept = run_directory / "user-data" / machine.launch_id
        assert kept.stat().st_mode & 0o777 == 0o600
        epu("status", "base")

        for process in machine_processes(run_directory / "clouds" / "here", node):
            os.kill(process.pid, signal.SIGKILL)
        epu("repair", "base")
        again = Run.open("base")
        assert [m.life for m in again.machines()] == [MachineLife.GONE, MachineLife.LISTED]
        assert again.attributes("web")["node"] == f"{again.machines()[1].launch_id}-0"
        assert not kept.exists()
        accounts = json.loads((run_directory / "broker" / "accounts.json").read_text())
        access = from_wire(BrokerAccess, accounts)
        with RpcClient(access.amqp_url("coordinator")) as client:
            assert client.call("registrar", "status")
    finally:
        epu("terminate", "base")
    assert not list((run_directory / "user-data").iterdir())
