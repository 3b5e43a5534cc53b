"""Commands against a running coordinator: ``epu`` given wrong things, and plain nameko."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.messages import BrokerAccount
from agent.wire import to_wire

pytestmark = pytest.mark.e2e

NAMEKO = Path(sys.executable).with_name("nameko")
SERVICES = ("provisioner", "controller", "sensors", "registrar", "management")


def epu(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mgmt.cli", *map(str, words)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_a_pool_that_does_not_exist_is_exit_3_with_the_one_that_was_meant(system: Any) -> None:
    with system.pool("cli-pool", 0):
        result = epu("pool", "show", "cli-pol", "--accounts", system.accounts)
    assert result.returncode == 3
    (line,) = result.stderr.splitlines()
    assert "cli-pol" in line and "did you mean 'cli-pool'" in line


def test_a_wrong_password_is_exit_5_and_not_shown(system: Any, tmp_path: Path) -> None:
    account = BrokerAccount(user="coordinator", password="s3cret-word")
    wrong = replace(system.access, accounts={"coordinator": account})
    accounts = tmp_path / "accounts.json"
    accounts.write_text(json.dumps(to_wire(wrong)))
    result = epu("pools", "--accounts", accounts)
    assert result.returncode == 5
    (line,) = result.stderr.splitlines()
    assert "refused" in line and "Traceback" not in result.stdout
    assert "s3cret-word" not in result.stdout + result.stderr


def test_nameko_shell_reaches_every_service_and_every_agent(system: Any) -> None:
    with system.pool("shell", 1) as pool:
        (node,) = pool.wait_whole(1)
        script = "\n".join(
            (
                "import json",
                f"found = {{s: getattr(n.rpc, s).status() for s in {SERVICES!r}}}",
                f"found['agent'] = n.rpc['agent-{node}'].describe()",
                "print('\\nFOUND ' + json.dumps(found))",
                "",
            )
        )
        result = subprocess.run(
            [NAMEKO, "shell", "--interface", "plain", "--config", system.state_dir / "config.yaml"],
            input=script,
            capture_output=True,
            text=True,
            timeout=30,
        )
    lines = [x.partition("FOUND ")[2] for x in result.stdout.splitlines() if "FOUND " in x]
    assert lines, result.stdout + result.stderr
    found = json.loads(lines[0])
    assert set(found) == {*SERVICES, "agent"}
    assert "shell" in found["controller"]["pools"]
    assert found["agent"]["node_id"] == node


def test_nameko_run_serves_beside_the_one_under_supervisord(system: Any) -> None:
    """It shares the queue of the sensors service, so it takes every second call."""
    words = ["run", "--config", str(system.state_dir / "config.yaml")]
    process = subprocess.Popen(
        [NAMEKO, *words, "coordinator.sensors.service:Sensors"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:

        def consumers() -> int:
            queue = system.manage("GET", f"queues/{system.access.vhost}/rpc-sensors")
            return int(queue.get("consumers", 0))

        system.wait(lambda: consumers() == 2, "both serve")
        for _ in range(4):
            assert "observing_age" in system.call("sensors", "status")
    finally:
        process.terminate()
        said = process.communicate(timeout=20)[0]
    assert "Traceback" not in said, said
