"""What a person sees who mistypes, or whose broker, run or disk is not there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.messages import BrokerAccess, BrokerAccount
from agent.wire import to_wire
from mgmt.broker import broker_status, start_broker
from mgmt.broker_launch import server_script
from tests.private_broker import kill_broker

pytestmark = pytest.mark.e2e

#: ``epu`` answers within ten seconds; far more, on a busy machine too, is a hang.
TIMEOUT = 30
#: A plan whose coordinator is only said to be there.
PRETENDING_PLAN = """\
plan: pretending
levels:
  - services:
      provisioner:
        local: true
        boot: {run: "${python} pretend.py"}
        outputs: [accounts, state_dir]
"""
PRETEND = """\
import json, os
with open(os.environ["EPU_BOOTOUT"], "w") as file:
    json.dump({"accounts": ACCOUNTS, "state_dir": "coordinator"}, file)
"""


@dataclass(frozen=True)
class Epu:
    """The ``epu`` command with a home of its own."""

    home: Path

    def __call__(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mgmt.cli", *map(str, words)],
            env={**os.environ, "EPU_HOME": str(self.home)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )


@pytest.fixture
def epu(tmp_path: Path) -> Epu:
    return Epu(tmp_path / "home")


def expect(
    result: subprocess.CompletedProcess[str], code: int, *parts: str, lines: int = 1
) -> None:
    """So many lines on stderr that name the problem, the exit code, no traceback."""
    said = result.stderr.strip().splitlines()
    assert result.returncode == code, result.stderr
    assert len(said) == lines, result.stderr
    for part in parts:
        assert part in result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    assert "defect" not in result.stderr


@pytest.fixture
def expect_nothing_left(epu: Epu, processes_with: Callable[[str], list[str]]) -> Callable[[], None]:
    """No run, and no process that was started for one."""

    def check() -> None:
        assert not list(epu.home.glob("runs/*")), "a run directory was left behind"
        assert processes_with(str(epu.home)) == []

    return check


# ------------------------------------------------------------------ plans


def test_a_plan_that_is_no_yaml_is_refused_with_the_line(
    epu: Epu, tmp_path: Path, expect_nothing_left: Callable[[], None]
) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("plan: broken\nlevels:\n  - services: [unclosed\n")
    expect(epu("boot", plan, "-n", "r1"), 1, "plan.yaml:4", "not YAML")
    expect_nothing_left()


def test_a_mistyped_key_is_named_with_the_one_that_was_meant(
    epu: Epu, tmp_path: Path, expect_nothing_left: Callable[[], None]
) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(f"{PRETENDING_PLAN}levles: []\n")
    result = epu("boot", plan, "-n", "r1")
    expect(result, 1, "plan.yaml:8: levles", "did you mean 'levels'")
    expect_nothing_left()


def test_a_plan_that_is_not_there_is_said_to_be_missing(
    epu: Epu, tmp_path: Path, expect_nothing_left: Callable[[], None]
) -> None:
    expect(epu("boot", tmp_path / "nowhere.yaml", "-n", "r1"), 2, "nowhere.yaml")
    expect_nothing_left()


# ------------------------------------------------------------------ runs, pools, brokers


def test_a_run_that_does_not_exist_is_exit_3(
    epu: Epu, expect_nothing_left: Callable[[], None]
) -> None:
    for words in (("pools", "--run", "nobody"), ("status", "nobody"), ("teardown", "nobody")):
        expect(epu(*words), 3, "nobody")
    expect_nothing_left()


def accounts_file(path: Path, access: BrokerAccess) -> Path:
    path.write_text(json.dumps(to_wire(access)))
    path.chmod(0o600)
    return path


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port on which nobody listens, and that nobody else gets."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def test_a_broker_that_is_not_there_is_exit_5(epu: Epu, tmp_path: Path, closed_port: int) -> None:
    access = BrokerAccess(
        host="127.0.0.1",
        port=closed_port,
        vhost="epu",
        accounts={"coordinator": BrokerAccount(user="coordinator", password="s3cret-word")},
    )
    result = epu("pools", "--accounts", accounts_file(tmp_path / "accounts.json", access))
    expect(result, 5, str(closed_port))
    assert "s3cret-word" not in result.stdout + result.stderr


def test_a_run_whose_broker_was_stopped_is_exit_5(
    epu: Epu, tmp_path: Path, closed_port: int
) -> None:
    account = BrokerAccount(user="coordinator", password="x")
    access = BrokerAccess(
        host="127.0.0.1", port=closed_port, vhost="epu", accounts={"coordinator": account}
    )
    accounts = accounts_file(tmp_path / "accounts.json", access)
    (tmp_path / "pretend.py").write_text(f"ACCOUNTS = {str(accounts)!r}\n{PRETEND}")
    plan = tmp_path / "plan.yaml"
    plan.write_text(PRETENDING_PLAN.replace("pretend.py", str(tmp_path / "pretend.py")))
    booted = epu("boot", plan, "-n", "r1")
    assert booted.returncode == 0, booted.stderr
    expect(epu("pools", "--run", "r1"), 5, str(closed_port))
    expect(epu("nodes"), 5, str(closed_port))


@pytest.fixture
def hung_broker(tmp_path: Path) -> Iterator[Path]:
    """The accounts of a broker that takes connections and says nothing: it is stopped."""
    if server_script() is None:
        reason = "rabbitmq-server is not installed"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    directory = tmp_path / "broker"
    try:
        start_broker(directory, "epu", timeout=100)
        pid = broker_status(directory).pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        yield directory / "accounts.json"
    finally:
        kill_broker(directory)  # asked to stop, it would be waited for: 24 seconds


def test_a_broker_that_hangs_is_exit_5_and_said_once_by_each_command(
    epu: Epu, hung_broker: Path
) -> None:
    for words in (("pools",), ("hold",), ("wait", "workers", "--timeout", "1")):
        expect(epu(*words, "--accounts", hung_broker), 5, "can't be reached")


# ------------------------------------------------------------------ a full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """``small_disk(kilobytes)``: a file system of that size."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    place = tmp_path / "disk"
    place.mkdir()

    def mount(kilobytes: int) -> Path:
        words = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)]
        found = subprocess.run(words, capture_output=True, text=True, timeout=10)
        if found.returncode != 0:
            pytest.skip(f"no small file system can be mounted here: {found.stderr.strip()}")
        return place

    yield mount
    subprocess.run(["umount", "--lazy", str(place)], capture_output=True, timeout=10)


@pytest.mark.parametrize("kilobytes", [4, 64, 1024])
def test_a_full_disk_ends_a_boot_with_a_clear_word(
    small_disk: Callable[[int], Path],
    processes_with: Callable[[str], list[str]],
    kilobytes: int,
) -> None:
    disk = small_disk(kilobytes)
    result = Epu(disk / "home")("boot", "sleeper", "-n", "r1")
    said = result.stderr.strip().splitlines()
    assert result.returncode == 1, result.stderr
    assert any("disk" in line or "space" in line.lower() for line in said), result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    assert "defect" not in result.stderr
    assert processes_with(str(disk)) == []


def test_a_full_disk_ends_a_broker_s_start_with_a_clear_word(
    small_disk: Callable[[int], Path], processes_with: Callable[[str], list[str]], epu: Epu
) -> None:
    disk = small_disk(1024)
    assert shutil.disk_usage(disk).total == 1024 * 1024
    expect(epu("broker", "start", "--dir", disk / "broker"), 1, "free", "disk")
    assert processes_with(str(disk)) == []
    assert not (disk / "broker" / "accounts.json").exists()
