"""Whole files on services' machines, over a real sshd and by a driver's own way."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bootlevels.api import Run
from bootlevels.run_place import StepFailed
from bootlevels.transports.files import LIMIT, FileNotMoved
from bootlevels.transports.program import Limit
from bootlevels.transports.ssh import SshTarget
from bootlevels.transports.ssh_transport import SshTransport

pytestmark = pytest.mark.integration

PLAN = """
    plan: places
    clouds: {{here: {{driver: process}}}}
    levels:
      - services:
          far: {{host: 127.0.0.1, ssh: {section}, boot: {{run: ["true"]}}}}
          box: {{cloud: here, boot: {{run: ["true"]}}}}
          desk: {{local: true, boot: {{run: ["true"]}}}}
"""
SECRET = b"secret \x00\xff\n@epu\nof nobody"


@pytest.fixture
def run(sshd: Any, home: Path, plan_file: Callable[[str], Path], tmp_path: Path) -> Run:
    found = Run.prepare(plan_file(PLAN.format(section=sshd.section(tmp_path / "stages"))))
    assert found.boot().ok
    return found


def soon(seconds: float = 20.0) -> float:
    return time.monotonic() + seconds


@pytest.mark.parametrize("service", ["far", "box"])
def test_a_file_that_was_put_is_private_and_comes_back_as_it_was(
    service: str, run: Run, tmp_path: Path
) -> None:
    files, path = run.files(service), tmp_path / "deep" / "a b'$c"
    files.put(str(path), b"before", soon())
    files.put(str(path), SECRET, soon())
    assert path.read_bytes() == SECRET
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    assert files.fetch(str(path), soon()) == SECRET
    files.put(str(path), b"", soon())
    assert files.fetch(str(path), soon()) == b""
    run.terminate()


@pytest.mark.parametrize("service", ["far", "box"])
def test_a_file_is_waited_for_and_what_never_comes_is_said(
    service: str, run: Run, tmp_path: Path
) -> None:
    late = tmp_path / "late"
    words = [sys.executable, "-c", "import sys, time; time.sleep(1); open(sys.argv[1], 'w')"]
    with subprocess.Popen([*words, str(late)]):
        assert run.files(service).fetch(str(late), soon()) == b""
    with pytest.raises(FileNotMoved, match=f"{service}: can't fetch /no/where: there is no such"):
        run.files(service).fetch("/no/where", soon(2))
    in_the_way = tmp_path / "late" / "below"
    with pytest.raises(FileNotMoved, match="can't put .*late/below: exit code") as caught:
        run.files(service).put(str(in_the_way), SECRET, soon(2))
    assert "secret" not in str(caught.value)
    late.write_bytes(b"x" * (LIMIT + 1))
    with pytest.raises(FileNotMoved, match="is longer than"):
        run.files(service).fetch(str(late), soon())
    late.write_bytes(b"lost" + b"x" * (LIMIT - 3) + b"end")
    end = run.files(service).fetch_end(str(late), soon())
    assert (len(end), end[:1], end[-4:]) == (LIMIT, b"x", b"xend")
    run.terminate()


@pytest.mark.parametrize("service", ["far", "box"])
def test_the_plain_files_of_directories_are_named(service: str, run: Run, tmp_path: Path) -> None:
    place = tmp_path / "a b"
    (place / "below").mkdir(parents=True)
    (place / "one").write_text("1")
    (place / "two 2").write_text("2")
    (place / "link").symlink_to("/etc/shadow")
    found = run.files(service).names([str(place), "/no/where"], soon())
    assert found == [str(place / "one"), str(place / "two 2")]
    run.terminate()


def test_nothing_is_moved_where_programs_go_by_themselves(run: Run) -> None:
    with pytest.raises(StepFailed, match="by ssh or its driver's own way only"):
        run.files("desk")
    run.terminate()


def test_the_key_of_a_run_is_made_once_and_opens_a_door(
    sshd: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, told = tmp_path / "ssh" / "key", tmp_path / "bootout.json"
    words = [sys.executable, "-m", "bootlevels.plans.self_hosted.key", str(path)]
    environment = {**os.environ, "EPU_BOOTOUT": str(told)}
    outputs = []
    for _ in range(2):
        subprocess.run(words, env=environment, check=True, timeout=60)
        outputs.append(told.read_text())
    assert outputs[0] == outputs[1]
    assert path.stat().st_mode & 0o777 == 0o600
    assert "PRIVATE" not in outputs[0]
    derived = subprocess.run(["ssh-keygen", "-y", "-f", str(path)], capture_output=True, check=True)
    public = derived.stdout.decode().strip()
    assert public in outputs[0]

    authorized = sshd.key.with_name("authorized")
    before = authorized.read_text()
    target = SshTarget(
        host="127.0.0.1", user=sshd.user, port=sshd.port, key=str(path),
        kept_keys=tmp_path / "kept", known_to_user=False, stages=str(tmp_path / "stages"),
    )  # fmt: skip
    try:
        assert "Authentication failed" in SshTransport(target).reach(Limit.seconds(20))
        authorized.write_text(f"{before}{public}\n")
        assert SshTransport(target).reach(Limit.seconds(20)) == ""
    finally:
        authorized.write_text(before)
