"""Programs that outlive their starter: found again, ended, never taken for another."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bootlevels.plans.background import Background, free_port, listener

pytestmark = pytest.mark.integration

_DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
_DEAF += "signal.signal(signal.SIGINT, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Background]:
    found = Background(tmp_path, "program")
    yield found
    found.stop()


def start(program: Background, *words: str) -> int:
    program.start(words, port=1, environment=os.environ, directory=program.directory)
    pid = program.pid()
    assert pid is not None
    return pid


def test_what_was_started_is_found_by_another_who_knows_the_directory(program: Background) -> None:
    pid = start(program, "sleep", "600")
    again = Background(program.directory, "program")
    assert again.pid() == pid
    again.stop()
    assert program.pid() is None


def test_a_later_process_of_the_same_number_is_left_alone(program: Background) -> None:
    pid = start(program, "sleep", "600")
    file = program.directory / "program.json"
    noted = json.loads(file.read_text())
    file.write_text(json.dumps({**noted, "mark": "another/1"}))
    program.stop()
    os.kill(pid, 0)  # raises when it is gone
    file.write_text(json.dumps(noted))


def test_who_hears_no_signal_is_killed(program: Background, eventually: Callable[..., Any]) -> None:
    start(program, sys.executable, "-c", _DEAF)
    eventually(lambda: program.last_words() == "deaf")
    program.stop([(signal.SIGINT, 0.2)])
    assert program.pid() is None


def test_a_program_that_ended_by_itself_does_not_run(program: Background) -> None:
    program.start(["true"], port=1, environment=os.environ, directory=program.directory)
    assert program.wait_gone(10)
    program.stop()


def test_a_state_that_can_not_be_read_is_no_program(program: Background) -> None:
    (program.directory / "program.json").write_text("[")
    assert (program.pid(), program.port()) == (None, None)
    program.stop()


def test_a_former_port_is_taken_again_unless_it_is_somebodys() -> None:
    port = free_port(None)
    with listener(port) as first:
        assert first.getsockname()[1] == port
        with listener(port) as second:
            assert second.getsockname()[1] != port
