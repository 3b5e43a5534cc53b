"""Finding processes by their mark and ending exactly those."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from mgmt.broker_processes import end_node, node_processes, send_signal


@pytest.fixture
def mark() -> str:
    return str(uuid.uuid4())


@pytest.fixture
def start(eventually: Callable[..., Any]) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def run(mark: str, *words: str) -> subprocess.Popen[bytes]:
        before = len(node_processes(mark))
        process = subprocess.Popen(
            words or ("sleep", "60"), env={**os.environ, "EPU_BROKER_NODE": mark}
        )
        started.append(process)
        eventually(lambda: len(node_processes(mark)) > before)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()


def test_processes_are_found_by_their_mark_and_no_others(
    mark: str, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    ours, other = start(mark), start(mark + "0")
    assert [process.pid for process in node_processes(mark)] == [ours.pid]
    assert end_node(mark, 5.0)[0].pid == ours.pid
    assert ours.wait(5) == -signal.SIGKILL
    assert other.poll() is None


def test_nothing_to_end_is_no_error(mark: str) -> None:
    assert end_node(mark, 1.0) == ()


def test_a_process_that_ended_and_was_not_yet_waited_for_is_not_alive(
    mark: str, start: Callable[..., subprocess.Popen[bytes]], eventually: Callable[..., Any]
) -> None:
    child = start(mark)
    (found,) = node_processes(mark)
    child.kill()
    eventually(lambda: not found.alive)
    assert node_processes(mark) == ()


def test_a_pid_that_belongs_to_somebody_else_now_is_not_signalled(
    mark: str, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    child = start(mark)
    (found,) = node_processes(mark)
    send_signal(replace(found, started=found.started - 1), signal.SIGKILL)
    assert child.poll() is None
    assert found.alive
    send_signal(found, signal.SIGKILL)
    assert child.wait(5) == -signal.SIGKILL
    send_signal(found, signal.SIGKILL)


def test_without_process_descriptors_exactly_the_right_process_is_still_signalled(
    mark: str,
    start: Callable[..., subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(pid: int) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(os, "pidfd_open", refuse)
    child = start(mark)
    (found,) = node_processes(mark)
    send_signal(replace(found, started=found.started - 1), signal.SIGKILL)
    assert child.poll() is None
    send_signal(found, signal.SIGKILL)
    assert child.wait(5) == -signal.SIGKILL
