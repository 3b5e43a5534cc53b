"""The boot tool killed with machines in its hands: whoever comes next leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bootlevels.api import Run
from bootlevels.machine_record import MachineLife

pytestmark = pytest.mark.integration

SLOW = """
    plan: slow
    clouds: {here: {driver: process}}
    levels:
      - services:
          web:
            cloud: here
            boot: {run: [sh, -c, 'test -e ../../again && exit 0; touch ../../again; sleep 987']}
"""


def epu(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "mgmt.cli", *words],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


@pytest.fixture
def killed(
    home: Path, plan_file: Callable[..., Path], processes_of: Callable[..., list[str]],
    eventually: Callable[..., Any],
) -> Path:  # fmt: skip
    """A plan whose boot was killed while a boot program ran on the machine."""
    path = plan_file(SLOW)
    tool = epu("boot", str(path))
    directory = home / "runs" / "slow"
    eventually(lambda: "sleep 987" in processes_of(directory, "web"), 30)
    tool.kill()
    tool.communicate()
    assert "sleep 987" in processes_of(directory, "web")
    return path


def test_a_second_boot_ends_the_program_and_keeps_the_machine(
    killed: Path, processes_of: Callable[..., list[str]]
) -> None:
    before = Run.open("slow").machines()
    tool = epu("boot", str(killed))
    said, _ = tool.communicate(timeout=60)
    assert tool.returncode == 0, said
    run = Run.open("slow")
    assert [m.cloud_id for m in run.machines()] == [m.cloud_id for m in before]
    assert "sleep 987" not in processes_of(run.directory, "web")
    assert run.status().ok
    assert run.terminate().ok


def test_a_termination_leaves_nothing(killed: Path, processes_of: Callable[..., list[str]]) -> None:
    tool = epu("terminate", "slow")
    said, _ = tool.communicate(timeout=60)
    assert tool.returncode == 0, said
    run = Run.open("slow")
    assert processes_of(run.directory, "web") == []
    assert [m.life for m in run.machines()] == [MachineLife.GONE]


def test_ctrl_c_ends_the_program_on_the_machine(
    home: Path, plan_file: Callable[..., Path], processes_of: Callable[..., list[str]],
    eventually: Callable[..., Any],
) -> None:  # fmt: skip
    import signal

    tool = epu("boot", str(plan_file(SLOW)))
    directory = home / "runs" / "slow"
    eventually(lambda: "sleep 987" in processes_of(directory, "web"), 30)
    tool.send_signal(signal.SIGINT)
    said, _ = tool.communicate(timeout=30)
    assert tool.returncode == 130, said
    assert "sleep 987" not in processes_of(directory, "web")
    assert Run.open("slow").terminate().ok
