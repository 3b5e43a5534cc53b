from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.start_log import StartLog
from coordinator.provisioner.boot_failure import Evidence, explain_boot_failure


def test_what_a_start_comes_to_can_be_told_from_the_console_alone() -> None:
    console, terminal = os.openpty()
    start = StartLog(console=os.ttyname(terminal))
    start.tell("config", "read: run r, launch l")
    start.tell("broker", "192.0.2.1:5672: Connection refused\nfor 12 s")
    start.tell("broker", "192.0.2.1:5672: Connection refused\nfor 12 s")
    start.tell("broker", "still refused")
    said = ""
    while "still" not in said:  # a terminal gives what was written to it piece by piece
        said += os.read(console, 4096).decode()
    said = said.partition("agent.start_log: [broker] still")[0]
    assert said.count("[broker]") == 1, "what says nothing new is not said again"
    found = explain_boot_failure(Evidence(occasion="not ready", enrolled=False, console=said))
    assert "192.0.2.1:5672: Connection refused" in found.sentence


@pytest.mark.parametrize("kind", ["missing", "nobody reads", "full", "directory"])
def test_a_console_that_takes_nothing_delays_and_ends_no_start(tmp_path: Path, kind: str) -> None:
    path, held = tmp_path / "console", []
    if kind in ("nobody reads", "full"):
        os.mkfifo(path)
    if kind == "full":
        held = [os.open(path, os.O_RDWR | os.O_NONBLOCK)]
        while True:
            try:
                os.write(held[0], b"x" * 65536)
            except BlockingIOError:
                break
    if kind == "directory":
        path.mkdir()
    start = StartLog(console=str(path))
    for number in range(3):
        start.tell("broker", f"attempt {number}")
    assert [step.detail for step in start.steps] == ["attempt 2"]
    for descriptor in held:
        os.close(descriptor)


def test_what_a_node_says_moves_no_cursor_of_a_console(tmp_path: Path) -> None:
    console = tmp_path / "console"
    console.touch()
    StartLog(console=str(console)).tell("check a", "red: \x1b[2J and\rback\x00")
    assert console.read_text() == "agent.start_log: [check a] red: ?[2J and | back?\n"
