"""Commands against a running coordinator: ``epu`` given wrong things, and plain nameko."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import termios
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


def test_a_command_runs_on_a_node_is_in_the_history_and_dies_with_its_time_out(
    system: Any, tmp_path: Path
) -> None:
    with system.pool("exec", 1) as pool:
        (node,) = pool.wait_whole(1)
        words = ("node", "exec", node, "--accounts", system.accounts)
        ran = epu(*words, "--", "sh", "-c", "echo $EPU_NODE_ID; echo '*' \"$0\" >&2; exit 3", "a b")
        assert (ran.returncode, ran.stdout) == (1, f"{node}\n* a b\n")
        assert "exit code 3" in ran.stderr
        pid = tmp_path / "pid"
        slow = epu(
            *words, "--json", "--timeout", "1", "--", "sh", "-c", f"echo $$ >{pid}; sleep 99"
        )
        assert slow.returncode == 1 and json.loads(slow.stdout)["timed_out"]
        system.wait(lambda: not Path(f"/proc/{pid.read_text().strip()}").exists(), "it is dead")
        assert epu(*words, "--", "/no/such").returncode == 1
        told = [one for one in pool.events("node_exec") if one.node == node]
        assert (
            len(told) == 3
            and told[0].reason.startswith("sh -c 'echo $EPU_NODE_ID")
            and told[0].actor
        )
        shown = epu("node", "logs", node, "--accounts", system.accounts)
        assert "== agent" in shown.stdout and "ready" in shown.stdout
        missing = epu("node", "logs", node, "--program", "x", "--accounts", system.accounts)
        assert missing.returncode == 3 and "agent" in missing.stderr
        runs = system.cloud.root / node / "program-runs"
        assert not list(runs.iterdir()), "nothing is left on the node"


STORM = """
exercise: told
pool: told
timeline: [{at: 0, set_n: 1}]
expect: {workers: 1}
"""


def test_what_commands_print_of_a_real_system_is_as_promised_and_its_brokers_address_is_enough(
    system: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of this machine but the address and a password: no record, no accounts file."""
    from click.testing import CliRunner

    from mgmt.cli import epu as command
    from mgmt.documents.catalogue import printed_by
    from tests.held_documents import problems_of

    access = system.access
    account = access.accounts["coordinator"]
    password, storm, section = (tmp_path / name for name in ("password", "storm", "section"))
    password.write_text(account.password)
    password.chmod(0o600)
    storm.write_text(STORM)
    section.write_text("engine: {type: n_preserving, preserve_n: 0}\n")
    for name in ("EPU_RUN", "EPU_ACCOUNTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EPU_HOME", str(tmp_path / "nothing"))
    monkeypatch.setenv("EPU_BROKER_PASSWORD_FILE", str(password))
    monkeypatch.setenv(
        "EPU_BROKER", f"amqp://{account.user}@{access.host}:{access.port}/{access.vhost}"
    )
    with system.pool("told", 1) as pool:
        (node,) = pool.wait_whole(1)
        for words in (
            "pools",
            "pool show told",
            "pool set-n told 1",
            "pool reconfigure told max=5",
            "pool hold told",
            "pool resume told",
            "pool override told 1 --for 1m",
            "pool override told --clear",
            "wait told --timeout 60",
            "pool rollout told --status",
            f"pool add extra -f {section}",
            "pool remove extra --yes --timeout 60",
            "hold",
            "resume",
            "explain told",
            "replay",
            "nodes",
            f"node show {node}",
            f"node logs {node} --program agent",
            f"node exec {node} -- true",
            f"node protect {node}",
            f"node unprotect {node}",
            "token create --pool told",
            "events --limit 50",
            f"graph --out {tmp_path / 'told.csv'}",
            "doctor",
            f"exercise {storm} --check",
            f"serve --check --dir {system.state_dir}",
            f"broker status --dir {system.broker_directory}",
            f"node terminate {node} --yes",
        ):
            name, _, options = words.partition(" -- ")
            more = ["--", *options.split()] if options else []
            result = CliRunner().invoke(command, [*name.split(), "--json", *more])
            assert result.exit_code == 0 or words == "doctor", (words, result.output)
            assert account.password not in result.output
            told = json.loads(result.stdout)
            possible = {one.identity for one in printed_by(" ".join(name.split()[:2]))}
            possible |= {one.identity for one in printed_by(name.split()[0])}
            assert told["schema"] in possible, words
            assert (words, problems_of(told)) == (words, [])
        (picture,) = printed_by("watch")
        status = system.call("management", "status")
        document = {"time": 1.0, "run": system.run, "problem": "", **status}
        assert problems_of(document, (picture,)) == []


def test_the_live_view_opens_a_pool_quits_and_leaves_the_terminal_as_it_was(system: Any) -> None:
    with system.pool("watched", 0):
        master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (24, 120))
        before = termios.tcgetattr(slave)
        words = [sys.executable, "-m", "mgmt.cli", "watch", "--accounts", str(system.accounts)]
        process = subprocess.Popen(
            words, stdin=slave, stdout=slave, stderr=slave, env={**os.environ, "TERM": "xterm"}
        )
        shown = b""

        def shows(text: str) -> bool:
            nonlocal shown
            if select.select([master], [], [], 0.1)[0]:
                shown += os.read(master, 65536)
            return text.encode() in shown

        system.wait(lambda: shows("watched"), "the pool is listed")
        os.write(master, b"G\r")
        system.wait(lambda: shows("engine n_preserving"), "a pool is opened")
        os.write(master, b"q")
        system.wait(lambda: shows("\x1b[?1049l") and process.poll() is not None, "it has quit")
        assert process.returncode == 0
        assert termios.tcgetattr(slave) == before
        os.close(master)
        os.close(slave)


def test_a_shell_completes_the_names_of_pools_and_nodes(system: Any) -> None:
    from mgmt import completion
    from mgmt.run_locator import locate

    with system.pool("complete", 1) as pool:
        (node,) = pool.wait_whole(1)
        assert node in completion.node_names(lambda: locate(None, str(system.accounts)))
        assert "complete" in completion.pool_names(lambda: locate(None, str(system.accounts)))


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
