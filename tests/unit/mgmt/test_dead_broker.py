"""Every command against a broker that is dead, or takes connections and says nothing.

The commands come from the command line itself: a new one must be given its words here, or be
named among those that ask no system.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from agent.messages import BrokerAccess, BrokerAccount
from agent.wire import to_wire
from bootlevels.checks import Look
from mgmt import invocation
from mgmt.broker_files import write_private
from mgmt.cli import epu
from mgmt.exit_codes import ExitCode

#: What each command that asks a system is given besides the system.
ASKING = {
    "pools": "",
    "pool show": "x",
    "pool set-n": "x 3",
    "pool reconfigure": "x max=3",
    "pool add": "x -f {place}/pool.yaml",
    "pool hold": "x",
    "pool resume": "x",
    "pool override": "x 3",
    "pool remove": "x --yes",
    "pool rollout": "x --wait",
    "explain": "x",
    "replay": "",
    "hold": "",
    "resume": "",
    "wait": "x --timeout 0",
    "nodes": "",
    "node show": "x-0",
    "node logs": "x-0",
    "node exec": "x-0 ls",
    "node drain": "x-0",
    "node undrain": "x-0",
    "node protect": "x-0",
    "node unprotect": "x-0",
    "node terminate": "x-0 --yes",
    "token create": "--pool x",
    "events": "",
    "graph": "--out {place}/x.csv",
    "watch": "",
    "shell": "-c n.rpc.management.status()",
    "exercise": "{place}/storm.yaml --yes",
}
#: Of a run that was booted, and whose broker is dead now: words and exit code.
OF_A_RUN = {
    "status": ("dead", 5),
    "boot": ("{place}/plan.yaml -n dead -q", 5),
    "repair": ("dead -q", 5),
    "reload": ("{place}/plan.yaml -n dead -g size=2 -q", 5),
    # Nobody can say whether workers are left: the base system stays as it is.
    "terminate": ("dead -q", 4),
    "reboot": ("dead -q", 4),
    "teardown": ("dead", 4),
    # A dead broker is what it finds.
    "doctor": ("dead", 1),
    "logs fetch": ("dead -o {place}/logs", 5),
}
#: These ask no coordinator.
SILENT = {
    "list", "history", "clean", "validate", "plan", "schema", "samples list", "samples copy",
    "simulate", "broker start", "broker status", "broker stop", "serve", "wheelhouse build",
    "image build", "image list", "demo", "completion",
}  # fmt: skip

PLAN = """
plan: dead
levels:
  - services:
      provisioner:
        local: true
        provides: [registrar]
        attributes: {accounts: "%s", state_dir: "%s"}
  - services:
      workers:
        timeout: 1s
        pool: {engine: {type: n_preserving, preserve_n: "${global.size}"}}
globals: {size: "1"}
"""
STORM = """
exercise: storm
pool: x
timeline: [{at: 0, set_n: 2}]
expect: {workers: 2}
"""


def leaves(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        whole = f"{path} {name}".strip()
        if isinstance(command, click.Group):
            yield from leaves(command, whole)
        else:
            yield whole, command


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("EPU_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("EPU_HOME", str(tmp_path / "home"))
    (tmp_path / "pool.yaml").write_text("engine: {type: n_preserving, preserve_n: 1}\n")
    (tmp_path / "storm.yaml").write_text(STORM)
    return tmp_path


def accounts_at(place: Path, port: int) -> str:
    account = BrokerAccount(user="coordinator", password="s3cr3t")
    access = BrokerAccess(
        host="127.0.0.1", port=port, vhost="epu", accounts={"coordinator": account}
    )
    write_private(place / "accounts.json", json.dumps(to_wire(access)))
    return str(place / "accounts.json")


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run(place: Path, command: str, words: str, *more: str) -> Result:
    given = [*command.split(), *words.format(place=place).split(), *more]
    return CliRunner().invoke(epu, given, prog_name="epu")


def test_no_command_is_forgotten():
    known = [*ASKING, *OF_A_RUN, *SILENT]
    assert sorted(known) == sorted(name for name, _ in leaves(epu))
    takes_system = {
        name
        for name, command in leaves(epu)
        if any("--accounts" in param.opts for param in command.params)
    }
    # A recorded run can be simulated; what starts a coordinator is told its broker.
    assert takes_system - {"simulate", "serve", "doctor"} == set(ASKING)


@pytest.mark.parametrize("command", ASKING)
def test_a_dead_broker_is_exit_5_in_one_line_without_its_password(place: Path, command: str):
    accounts = accounts_at(place, closed_port())
    result = run(place, command, ASKING[command], "--accounts", accounts)
    assert result.exit_code == ExitCode.UNREACHABLE
    assert "can't be reached" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "s3cr3t" not in result.output


@pytest.fixture
def hung_broker() -> Iterator[tuple[int, list[socket.socket]]]:
    """A port that takes connections and says nothing; the connections that were made."""
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    taken.append(server.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()[1], taken
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)
    for connection in taken:
        connection.close()


@pytest.mark.parametrize("command", ASKING)
def test_a_hung_broker_is_tried_no_longer_than_a_person_waits(
    place: Path, monkeypatch: pytest.MonkeyPatch, hung_broker, command: str
):
    """With a twentieth of the deadlines; as many attempts as are made must fit in ten seconds."""
    port, taken = hung_broker
    real = invocation.cli.CONNECT_WITHIN
    monkeypatch.setattr("mgmt.invocation.cli.CONNECT_WITHIN", real / 20)
    monkeypatch.setattr("mgmt.system.cli.ANSWER_WITHIN", 0.4)
    result = run(place, command, ASKING[command], "--accounts", accounts_at(place, port))
    assert result.exit_code == ExitCode.UNREACHABLE
    assert len(result.stderr.splitlines()) == 1
    assert 1 <= len(taken) * real <= 8.0, "two for starting Python and for saying so"


def test_a_wait_for_a_system_that_never_answers_ends_long_before_its_own_timeout(
    place: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("mgmt.pools.cli._FIRST_ANSWER", 0.2)
    accounts = accounts_at(place, closed_port())
    result = run(place, "wait", "x --timeout 3000", "--accounts", accounts)
    assert result.exit_code == ExitCode.UNREACHABLE
    assert "(see: epu doctor)" in result.stderr


class WellGateway:
    """A coordinator that keeps whatever pool it is given."""

    def __init__(self, _: Path) -> None: ...

    def __enter__(self) -> WellGateway:
        return self

    def __exit__(self, *_: object) -> None: ...

    def check_pool(self, name: str, section: Mapping[str, Any]) -> None: ...

    def add_pool(self, name: str, section: Mapping[str, Any]) -> bool:
        return True

    def look(self, name: str, verify: object) -> Look:
        return Look(ok=True, detail="1 of 1 running")


def test_commands_of_a_run_whose_broker_died(place: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bootlevels.pool_gateway.FIRST_PATIENCE", 0.1)
    monkeypatch.setattr("mgmt.teardown.PROVISIONER_GRACE", 0.1)
    accounts = accounts_at(place, closed_port())
    (place / "plan.yaml").write_text(PLAN % (accounts, place / "coordinator"))
    with monkeypatch.context() as while_it_lives:
        while_it_lives.setattr("bootlevels.service_steps.PoolGateway", WellGateway)
        booted = run(place, "boot", "{place}/plan.yaml -n dead -q")
        assert booted.exit_code == ExitCode.WELL, booted.output
    for command, (words, code) in OF_A_RUN.items():
        result = run(place, command, words)
        assert (command, result.exit_code) == (command, code), result.output
        assert "s3cr3t" not in result.output
    for command in ("pools", "nodes", "watch"):
        assert run(place, command, ASKING[command], "--run", "dead").exit_code == 5, command
