"""A node runs programs for the boot tool: once, to an end that is known, without leftovers."""

from __future__ import annotations

import base64
import io
import os
import signal
import subprocess
import sys
import tarfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent import program_keeper
from agent.program_messages import CHUNK_BYTES, ProgramRunState, ProgramStart, ProgramStatus
from agent.program_runs import DIRECTORY, ProgramRunRefused, ProgramRuns

Eventually = Callable[..., Any]


@pytest.fixture
def node(tmp_path: Path) -> Path:
    directory = tmp_path / "node"
    directory.mkdir()
    return directory


@pytest.fixture
def runs(node: Path) -> Any:
    found = ProgramRuns(node, {"PATH": os.environ["PATH"], "EPU_NODE_ID": "l1-0"})
    yield found
    found.end_all()


def archive(**files: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as members:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.mode, info.size = 0o700, len(text)
            members.addfile(info, io.BytesIO(text.encode()))
    return stream.getvalue()


def staged(runs: ProgramRuns, files: bytes | None = None, owner: str = "run/web-boot") -> str:
    run_id, data = uuid.uuid4().hex, archive() if files is None else files
    for at in range(0, len(data), CHUNK_BYTES):
        piece = base64.b64encode(data[at : at + CHUNK_BYTES]).decode()
        runs.stage(run_id, owner, at, piece)
    return run_id


def begin(runs: ProgramRuns, *words: str, timeout: float = 60.0, **more: Any) -> str:
    run_id = staged(runs, more.pop("files", None), more.pop("owner", "run/web-boot"))
    size = (runs._directory / run_id / "archive.tar").stat().st_size
    runs.start(run_id, ProgramStart(words=words, timeout=timeout, archive_size=size, **more))
    return run_id


def over(runs: ProgramRuns, run_id: str, eventually: Eventually) -> ProgramStatus:
    def ended() -> ProgramStatus | None:
        found = runs.status(run_id, 0)
        return None if found.state is ProgramRunState.RUNNING else found

    found: ProgramStatus = eventually(ended, 30)
    return found


def output(status: ProgramStatus) -> str:
    return base64.b64decode(status.output).decode()


def lives(name: str) -> bool:
    return subprocess.run(["pgrep", "-f", name], stdout=subprocess.DEVNULL).returncode == 0


def test_a_program_finds_its_files_says_its_words_and_leaves_its_bootout(
    runs: ProgramRuns, node: Path, eventually: Eventually
) -> None:
    text = '#!/bin/sh\necho "$1 $EPU_NODE_ID $X"; echo problem >&2\n'
    text += 'echo \'{"a": 1}\' > "$EPU_BOOTOUT"; umask; exit 3\n'
    run_id = begin(
        runs, "./go", "two words", files=archive(go=text), environment={"X": "$HOME; true"}
    )
    found = over(runs, run_id, eventually)
    assert (found.state, found.exit_code) == (ProgramRunState.ENDED, 3)
    umask = subprocess.run(["sh", "-c", "umask"], capture_output=True, text=True).stdout
    assert output(found) == f"two words l1-0 $HOME; true\nproblem\n{umask}"
    piece = runs.read(run_id, "bootout.json", 0)
    assert piece is not None and base64.b64decode(piece.content) == b'{"a": 1}\n'
    assert runs.read(run_id, "nothing", 0) is None
    assert (node / DIRECTORY / run_id).stat().st_mode & 0o777 == 0o700
    assert not (node / DIRECTORY / run_id / "start.json").exists(), "it may hold secrets"
    runs.remove(run_id)
    assert list((node / DIRECTORY).iterdir()) == []
    assert runs.status(run_id).state is ProgramRunState.ABSENT


def test_a_start_that_is_repeated_runs_nothing_twice(
    runs: ProgramRuns, node: Path, eventually: Eventually
) -> None:
    run_id = staged(runs)
    size = (node / DIRECTORY / run_id / "archive.tar").stat().st_size
    start = ProgramStart(
        words=("sh", "-c", f"echo once >> {node}/count"), timeout=30, archive_size=size
    )
    for _ in range(3):
        runs.start(run_id, start)
    over(runs, run_id, eventually)
    # An agent that was restarted knows no keeper of its own, and starts it once more.
    again = ProgramRuns(node, {})
    assert again.start(run_id, start).state is ProgramRunState.ENDED
    assert (node / "count").read_text() == "once\n"


def test_of_two_keepers_of_a_run_only_one_runs_the_program(
    runs: ProgramRuns, node: Path, eventually: Eventually
) -> None:
    run_id = staged(runs)
    size = (node / DIRECTORY / run_id / "archive.tar").stat().st_size
    start = ProgramStart(
        words=("sh", "-c", f"echo once >> {node}/count"), timeout=30, archive_size=size
    )
    # What two agents would do, the first killed between starting its keeper and answering.
    runs.start(run_id, start)
    ProgramRuns(node, {"PATH": os.environ["PATH"]}).start(run_id, start)
    over(runs, run_id, eventually)
    words = [sys.executable, "-I", "-S", program_keeper.__file__, str(node / DIRECTORY / run_id)]
    subprocess.run(words, check=True)
    assert (node / "count").read_text() == "once\n"


def test_a_run_outlives_its_agent_and_is_answered_for_by_the_next(
    runs: ProgramRuns, node: Path, eventually: Eventually
) -> None:
    run_id = begin(runs, "sh", "-c", f"until test -e {node}/go; do sleep 0.02; done; exit 7")
    eventually(lambda: (node / DIRECTORY / run_id / "claim.json").exists())
    successor = ProgramRuns(node, {})
    assert successor.status(run_id).state is ProgramRunState.RUNNING
    (node / "go").touch()
    assert over(successor, run_id, eventually).exit_code == 7


def test_ending_a_run_ends_the_whole_group_also_what_hears_no_sigterm(
    runs: ProgramRuns, eventually: Eventually
) -> None:
    name = f"8{uuid.uuid4().int % 10**8}"
    run_id = begin(
        runs, "sh", "-c", f"trap '' TERM; sleep {name} & echo up; wait; sleep {name}; sleep {name}"
    )
    eventually(lambda: runs.status(run_id, 0).output_size)
    runs.end(run_id)
    eventually(lambda: not lives(f"sleep {name}"), message="part of the group lives on")
    runs.remove(run_id)


def test_a_run_that_was_ended_before_it_began_never_does(runs: ProgramRuns, node: Path) -> None:
    run_id = staged(runs)
    size = (node / DIRECTORY / run_id / "archive.tar").stat().st_size
    assert runs.end(run_id).state is ProgramRunState.CANCELLED
    start = ProgramStart(words=("touch", f"{node}/ran"), timeout=30, archive_size=size)
    assert runs.start(run_id, start).state is ProgramRunState.CANCELLED
    runs.remove(run_id)
    with pytest.raises(ProgramRunRefused):
        ProgramRuns(node, {}).stage(run_id, "x", 10, "")
    assert runs.start(run_id, start).state is ProgramRunState.ABSENT
    assert not (node / "ran").exists()


def test_the_timeout_holds_when_nobody_asks_any_more(
    runs: ProgramRuns, eventually: Eventually
) -> None:
    name = f"7{uuid.uuid4().int % 10**8}"
    run_id = begin(runs, "sh", "-c", f"sleep {name} & wait", timeout=0.3)
    found = over(runs, run_id, eventually)
    assert (found.timed_out, found.exit_code) == (True, None)
    eventually(lambda: not lives(f"sleep {name}"))


def test_a_killed_keeper_is_a_lost_run_and_its_program_is_ended(
    runs: ProgramRuns, node: Path, eventually: Eventually
) -> None:
    name = f"6{uuid.uuid4().int % 10**8}"
    run_id = begin(runs, "sleep", name)
    eventually(lambda: lives(f"sleep {name}"))
    found = eventually(lambda: program_keeper_pid(node / DIRECTORY / run_id))
    os.kill(found, signal.SIGKILL)
    eventually(lambda: runs.status(run_id).state is ProgramRunState.LOST)
    runs.end(run_id)
    eventually(lambda: not lives(f"sleep {name}"))


def program_keeper_pid(directory: Path) -> int:
    import json

    return int(json.loads((directory / "claim.json").read_text())["pid"])


def test_a_signal_and_a_program_that_is_not_there_are_told(
    runs: ProgramRuns, eventually: Eventually
) -> None:
    plain = begin(runs, "./go", files=archive(go="exit 6\n"), owner="d")
    assert over(runs, plain, eventually).exit_code == 6, "a script without its first line"
    killed = over(runs, begin(runs, "sh", "-c", "kill -9 $$", owner="a"), eventually)
    assert killed.exit_code == -9
    absent = over(runs, begin(runs, "./nothing", owner="b"), eventually)
    assert "can't be started" in absent.problem and absent.exit_code is None
    broken = over(runs, begin(runs, "true", files=b"no tar" * 200, owner="c"), eventually)
    assert "can't be staged" in broken.problem


def test_a_run_of_the_same_owner_takes_the_place_of_the_earlier_one(
    runs: ProgramRuns, eventually: Eventually
) -> None:
    name = f"5{uuid.uuid4().int % 10**8}"
    old, other = begin(runs, "sleep", name), begin(runs, "true", owner="run/db-boot")
    eventually(lambda: lives(f"sleep {name}"))
    staged(runs)
    assert not lives(f"sleep {name}")
    assert runs.status(old).state is ProgramRunState.ABSENT
    assert over(runs, other, eventually).exit_code == 0


def test_pieces_may_be_repeated_but_not_be_missing(
    runs: ProgramRuns, eventually: Eventually
) -> None:
    data = archive(big="#!/bin/sh\nexit 4\n" + "#" * (2 * CHUNK_BYTES))
    run_id = uuid.uuid4().hex
    pieces = range(0, len(data), CHUNK_BYTES)
    for at in (*pieces[:2], *pieces[:2], *pieces[2:]):
        size = runs.stage(run_id, "x", at, base64.b64encode(data[at : at + CHUNK_BYTES]).decode())
    assert size == len(data)
    with pytest.raises(ProgramRunRefused, match="is missing"):
        runs.stage(run_id, "x", len(data) + 1, "")
    with pytest.raises(ProgramRunRefused, match="not all files"):
        start = ProgramStart(words=("./big",), timeout=30, archive_size=size + 1)
        runs.start(run_id, start)
    runs.start(run_id, ProgramStart(words=("./big",), timeout=30, archive_size=size))
    assert over(runs, run_id, eventually).exit_code == 4


@pytest.mark.parametrize(
    ("run_id", "offset", "content"),
    [("../x", 0, ""), ("", 0, ""), ("0" * 32, -1, ""), ("0" * 32, 0, "!"), ("0" * 32, 1 << 40, "")],
)
def test_nonsense_is_refused(runs: ProgramRuns, run_id: str, offset: int, content: str) -> None:
    with pytest.raises(ProgramRunRefused):
        runs.stage(run_id, "x", offset, content)


def test_files_elsewhere_are_not_read(runs: ProgramRuns, eventually: Eventually) -> None:
    run_id = begin(runs, "true")
    over(runs, run_id, eventually)
    with pytest.raises(ProgramRunRefused):
        runs.read(run_id, "../output", 0)


def test_what_nobody_came_back_for_is_removed_after_a_day(
    runs: ProgramRuns, node: Path, eventually: Eventually
) -> None:
    old = begin(runs, "true", owner="gone/web-boot")
    over(runs, old, eventually)
    long_ago = time.time() - 2 * 86_400
    os.utime(node / DIRECTORY / old, (long_ago, long_ago))
    staged(runs)
    assert runs.status(old).state is ProgramRunState.ABSENT
