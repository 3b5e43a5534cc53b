"""The boot tool ended from outside: nothing is left running, and a second one goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

PLAN = """
    plan: long
    levels:
      - services:
          quick: {local: true, boot: {run: "sh -c 'echo x >> quick-boots'"}}
      - services:
          slow:
            local: true
            boot:
              run: [sh, -c, "test -e go && exit 0; sleep 600 & echo $$ $! > pids.new; mv pids.new pids; wait"]
            terminate: {run: "touch slow-ended"}
"""  # noqa: E501


class World:
    """One home, one plan, and the real command in processes of its own."""

    def __init__(self, directory: Path) -> None:
        self.plan = directory / "plan.yaml"
        self.plan.write_text(textwrap.dedent(PLAN))
        self.run = directory / "home" / "runs" / "long"
        self._environment = {**os.environ, "EPU_HOME": str(directory / "home")}
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "mgmt.cli", *words],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def epu(self, *words: str) -> tuple[int, str]:
        process = self.start(*words)
        out, err = process.communicate(timeout=60)
        return process.returncode, out + err

    def pids(self) -> list[int]:
        found = self.run / "pids"
        return [int(pid) for pid in found.read_text().split()] if found.exists() else []


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    there = World(tmp_path)
    yield there
    for process in there.started:
        if process.poll() is None:
            process.kill()
            process.wait()
    for pid in there.pids():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_programs_and_a_second_boot_goes_on(
    world: World, eventually: Callable[..., None], number: signal.Signals
) -> None:
    boot = world.start("boot", str(world.plan))
    eventually(world.pids)
    boot.send_signal(number)
    out, err = boot.communicate(timeout=30)
    assert boot.returncode == 130, err
    assert "Traceback" not in out + err
    assert not [pid for pid in world.pids() if alive(pid)]
    code, shown = world.epu("status", "long", "--json")
    assert code == 1
    assert '"error": "interrupted"' in shown
    (world.run / "go").touch()
    code, shown = world.epu("boot", str(world.plan))
    assert code == 0, shown
    assert (world.run / "quick-boots").read_text().count("x") == 1


def test_a_second_interrupt_changes_nothing(world: World, eventually: Callable[..., None]) -> None:
    boot = world.start("boot", str(world.plan))
    eventually(world.pids)
    for _ in range(3):
        boot.send_signal(signal.SIGINT)
    assert boot.wait(30) == 130
    assert not [pid for pid in world.pids() if alive(pid)]


def test_after_kill_9_the_next_boot_ends_what_was_left_and_goes_on(
    world: World, eventually: Callable[..., None]
) -> None:
    boot = world.start("boot", str(world.plan))
    eventually(world.pids)
    boot.kill()
    boot.wait()
    left = world.pids()
    assert all(alive(pid) for pid in left)
    (world.run / "go").touch()
    code, shown = world.epu("boot", str(world.plan))
    assert code == 0, shown
    assert not [pid for pid in left if alive(pid)]
    assert (world.run / "quick-boots").read_text().count("x") == 1


def test_after_kill_9_a_termination_ends_what_was_left(
    world: World, eventually: Callable[..., None]
) -> None:
    boot = world.start("boot", str(world.plan))
    eventually(world.pids)
    boot.kill()
    boot.wait()
    code, shown = world.epu("terminate", "long")
    assert code == 0, shown
    assert not [pid for pid in world.pids() if alive(pid)]
    assert (world.run / "slow-ended").exists()


def test_killed_at_any_moment_the_next_boot_gets_through(world: World) -> None:
    (world.run).mkdir(parents=True)
    (world.run / "go").touch()
    for delay in (0.05, 0.15, 0.25, 0.35, 0.45, 0.6):
        boot = world.start("boot", str(world.plan))
        try:
            boot.wait(delay)
        except subprocess.TimeoutExpired:
            boot.kill()
            boot.wait()
    code, shown = world.epu("boot", str(world.plan))
    assert code == 0, shown
    assert world.epu("status", "long", "-q") == (0, "")
    assert world.epu("terminate", "long")[0] == 0


def test_others_read_the_record_and_a_second_boot_is_refused_while_one_goes_on(
    world: World, eventually: Callable[..., None]
) -> None:
    world.start("boot", str(world.plan))
    eventually(world.pids)
    code, shown = world.epu("status", "long")
    assert code == 1
    assert "LAUNCHED" in shown
    code, shown = world.epu("boot", str(world.plan))
    assert code == 1
    assert "is being changed by process" in shown
