"""The coordinator under supervisord: files, and a real supervisord over real processes."""

from __future__ import annotations

import configparser
import os
import shlex
import signal
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agent.messages import BrokerAccess, BrokerAccount
from agent.wire import to_wire
from coordinator.config import CoordinatorConfig
from coordinator.errors import ConfigProblem, NotFound
from mgmt import serve
from mgmt.broker_files import write_private
from mgmt.serve_processes import MARK_VARIABLE, coordinator_processes, supervisord_of

SECRET = "s3cr3t-of-the-broker"


@pytest.fixture
def config(tmp_path: Path) -> CoordinatorConfig:
    """A coordinator whose broker's port is closed: its processes wait, or fail."""
    import json

    access = BrokerAccess(
        host="127.0.0.1",
        port=1,
        vhost="epu",
        accounts={"coordinator": BrokerAccount(user="coordinator", password=SECRET)},
    )
    accounts = tmp_path / "accounts.json"
    write_private(accounts, json.dumps(to_wire(access)))
    return CoordinatorConfig(
        run="demo",
        accounts=str(accounts),
        state_dir=str(tmp_path / "coordinator"),
        clouds={"here": {"driver": "process"}},
    )


@pytest.fixture
def started(config: CoordinatorConfig) -> Any:
    served = serve.start(config)
    yield served
    serve.stop(Path(config.state_dir), timeout=0.5)


def parsed(text: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser()
    parser.read_string(text)
    return parser


def test_every_program_is_restarted_without_limit():
    found = parsed(serve.supervisord_text(Path("/d"), "/d/s", "/usr/bin/python3"))
    for name, module in serve.PROGRAMS.items():
        program = dict(found[f"program:{name}"])
        assert program["autorestart"] == "true"
        assert int(program["startretries"]) >= 1_000_000
        words = shlex.split(program["command"])
        assert words == ["/usr/bin/python3", "-m", module, "--config", "/d/config.yaml"]


def test_a_part_of_a_coordinator_is_only_what_was_asked_for():
    parts = serve.parts_of(("sensors", "controller"))
    text = serve.supervisord_text(Path("/d"), "/d/s", "python", parts)
    parser = configparser.RawConfigParser()
    parser.read_string(text)
    programs = {name for name in parser.sections() if name.startswith("program:")}
    assert programs == {"program:controller", "program:sensors"}
    assert parser["group:coordinator"]["programs"] == "controller,sensors"


def test_pools_have_a_controller_and_a_sensors_service_of_their_own_instead_of_the_shared_ones():
    parts = serve.parts_of(pools=("orders", "reports"))
    assert sorted(parts) == [
        "controller-orders", "controller-reports", "management", "provisioner", "registrar",
        "sensors-orders", "sensors-reports",
    ]  # fmt: skip
    found = parsed(serve.supervisord_text(Path("/d"), "/d/s", "python", parts))
    words = shlex.split(found["program:controller-orders"]["command"])
    assert words[-3:] == [serve.PROGRAMS["controller"], "--config", "/d/config-orders.yaml"]
    here = serve.parts_of(("controller", "sensors"), ("orders",))
    assert sorted(here) == ["controller-orders", "sensors-orders"]


def test_odd_paths_survive_supervisords_own_syntax():
    odd = Path('/d/with space/50%/quote"d')
    found = parsed(serve.supervisord_text(odd, "/d/s", sys.executable))
    command = found["program:sensors"]["command"].replace("%%", "%")
    assert shlex.split(command)[-1] == str(odd / "config.yaml")
    assert found["program:sensors"]["directory"] == str(odd).replace("%", "%%")


def test_a_socket_path_that_is_too_long_goes_to_a_private_place(tmp_path):
    deep = tmp_path / ("d" * 100)
    socket = Path(serve._socket_path(deep))
    try:
        assert len(str(socket)) < 90
        assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
    finally:
        socket.parent.rmdir()
    assert serve._socket_path(Path("/short")) == "/short/supervisor.sock"


def test_a_checkout_is_put_on_the_path_of_what_is_started_once():
    environment = serve.with_own_packages({"PYTHONPATH": "/x"})
    root, rest = environment["PYTHONPATH"].split(os.pathsep)
    assert (Path(root) / "mgmt" / "serve.py").exists()
    assert rest == "/x"
    assert serve.with_own_packages(environment) == environment


def test_only_marked_processes_are_taken_for_ours(tmp_path, eventually):
    words = [sys.executable, "-c", "input()", str(tmp_path / "supervisord.conf")]
    other = subprocess.Popen(words, stdin=subprocess.PIPE)
    marked = subprocess.Popen(
        [sys.executable, "-c", "input()"],
        stdin=subprocess.PIPE,
        env={**os.environ, MARK_VARIABLE: str(tmp_path)},
    )
    try:
        # The kernel shows a process without an environment for a moment after its start.
        eventually(lambda: coordinator_processes(tmp_path))
        assert [process.pid for process in coordinator_processes(tmp_path)] == [marked.pid]
        assert supervisord_of(tmp_path) is None, "a word on a command line is no proof"
        assert serve.stop(tmp_path, timeout=1) is True
        assert marked.wait(timeout=10) == -signal.SIGKILL
        assert other.poll() is None
    finally:
        for process in (other, marked):
            process.communicate()


def test_an_unreadable_accounts_file_is_a_problem_of_the_configuration(tmp_path):
    config = CoordinatorConfig(
        run="demo", accounts=str(tmp_path / "no.json"), state_dir=str(tmp_path / "c")
    )
    with pytest.raises(ConfigProblem, match="no.json"):
        serve.start(config)
    assert not (tmp_path / "c" / "supervisord.conf").exists()


def test_checking_what_was_never_started_is_not_found(tmp_path):
    with pytest.raises(NotFound):
        serve.check(tmp_path)
    assert serve.stop(tmp_path / "nowhere") is False


@pytest.mark.integration
def test_no_secret_is_on_a_command_line_or_in_a_readable_file(config, started, eventually):
    eventually(lambda: len(coordinator_processes(Path(config.state_dir))) > len(serve.PROGRAMS))
    for process in coordinator_processes(Path(config.state_dir)):
        words = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert SECRET.encode() not in words
    for path in Path(config.state_dir).rglob("*"):
        if path.is_file() and SECRET.encode() in path.read_bytes():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


@pytest.mark.integration
def test_starting_again_is_the_same_supervisord(config, started):
    assert serve.start(config) == started


@pytest.mark.integration
def test_a_killed_program_is_started_again(config, started, eventually):
    def sensors() -> int | None:
        for process in coordinator_processes(Path(config.state_dir)):
            words = []
            with suppress(OSError):  # one that ended meanwhile
                words = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
            if serve.PROGRAMS["sensors"].encode() in words:
                return process.pid
        return None

    first = eventually(sensors)
    os.kill(first, signal.SIGKILL)
    assert eventually(lambda: (now := sensors()) not in (None, first) and now, timeout=20)


@pytest.mark.integration
def test_stopping_leaves_no_process_and_no_socket(config):
    directory = Path(config.state_dir)
    served = serve.start(config)
    assert serve.stop(directory, timeout=1) is True
    assert coordinator_processes(directory) == ()
    assert not Path(served.socket).exists()
    assert serve.stop(directory) is False


@pytest.mark.integration
def test_a_killed_supervisord_is_replaced_and_its_orphans_are_ended(config, started, eventually):
    directory = Path(config.state_dir)
    eventually(lambda: len(coordinator_processes(directory)) > len(serve.PROGRAMS))
    os.kill(started.supervisord.pid, signal.SIGKILL)
    eventually(lambda: not started.supervisord.alive)
    orphans = coordinator_processes(directory)
    assert orphans, "the programs outlive their supervisord"
    again = serve.start(config)
    assert again.supervisord.pid != started.supervisord.pid
    # Each was sent SIGKILL; the last of them may still be on its way out.
    eventually(lambda: not any(orphan.alive for orphan in orphans))


@pytest.mark.integration
def test_a_check_names_who_does_not_answer_within_its_deadline(config, started):
    found = serve.check(Path(config.state_dir), timeout=5)
    assert set(found) == set(serve.PROGRAMS)
    assert all("can't be reached" in problem for problem in found.values())
    assert SECRET not in str(found)


def test_a_command_gives_up_early_enough_to_answer_within_ten_seconds() -> None:
    from mgmt.answers import SHARED_TIMEOUT, SINGLE_TIMEOUT
    from mgmt.history import SOURCES
    from mgmt.invocation.cli import ANSWER_WITHIN

    assert ANSWER_WITHIN <= 8.0
    assert SINGLE_TIMEOUT < ANSWER_WITHIN
    assert SHARED_TIMEOUT * len(SOURCES) < ANSWER_WITHIN
