"""Keeps one program that the agent was asked to run: a process of its own.

``python -I -S program_keeper.py <directory of the run>``, the leader of a new session. The
keeper claims the run (whoever comes second does nothing, so nothing runs twice), unpacks its
files, runs the program in its own process group, and writes down how it ended. So an agent
that is killed or restarted meanwhile loses nothing. Standard library only.
"""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

ARCHIVE, START, CLAIM, OUTPUT, END = "archive.tar", "start.json", "claim.json", "output", "end.json"
STAGE = "stage"
#: What ``claim.json`` says of a run that must never begin.
CANCELLED: dict[str, Any] = {"pid": 0, "mark": ""}
#: Seconds between SIGTERM and SIGKILL.
GRACE = 2.0


def mark_of(pid: int) -> str:
    """What tells a process from a later one with the same pid; "" when none runs."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        fields = text[text.rindex(")") + 2 :].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (OSError, ValueError):
        return ""
    return "" if fields[0] in "ZX" else f"{boot}/{fields[19]}"


def claim(directory: Path, said: dict[str, Any]) -> bool:
    """Be the only one who ever says what becomes of the run. False: somebody has been."""
    mine = directory / f".claim.{os.getpid()}.{time.monotonic_ns()}"
    mine.write_text(json.dumps(said))
    try:
        os.link(mine, directory / CLAIM)
    except FileExistsError:
        return False
    finally:
        mine.unlink()
    return True


def write_end(directory: Path, **end: Any) -> None:
    """Say how the run ended: whole or not at all."""
    unfinished = directory / f".{END}"
    unfinished.write_text(json.dumps(end))
    unfinished.replace(directory / END)


def _unpack(directory: Path) -> None:
    stage = directory / STAGE
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(mode=0o700)
    with tarfile.open(directory / ARCHIVE) as members:
        members.extractall(stage, filter="data")
    (directory / ARCHIVE).unlink()


def _spawned(
    words: list[str], output: int, place: Path, environment: dict[str, str], umask: int
) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=place,
            env=environment,
            umask=umask,
        )
    except OSError as problem:
        if problem.errno != errno.ENOEXEC:
            raise
    # A script without its first line: every shell runs it.
    return _spawned(["/bin/sh", *words], output, place, environment, umask)


def _run(directory: Path, start: dict[str, Any], umask: int) -> dict[str, Any]:
    place = directory / STAGE / start["working"]
    environment = {**os.environ, **start["environment"], "EPU_BOOTOUT": f"{place}/bootout.json"}
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    output = os.open(directory / OUTPUT, flags, 0o600)
    try:
        child = _spawned(start["words"], output, place, environment, umask)
    except (OSError, ValueError) as problem:
        return {"problem": f"can't be started: {problem}"}
    finally:
        os.close(output)
    try:
        return {"exit_code": child.wait(start["timeout"])}
    except subprocess.TimeoutExpired:
        os.killpg(0, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            child.wait(GRACE)
        return {"timed_out": True}


def main(directory: Path) -> None:
    """Keep the run in ``directory``; returns, or dies with its group, when it is over."""
    umask = os.umask(0o077)  # ours; the program gets the node's
    # A handler, not SIG_IGN: the program must not inherit deafness. It has the signal too.
    signal.signal(signal.SIGTERM, lambda *_: None)
    if not claim(directory, {"pid": os.getpid(), "mark": mark_of(os.getpid())}):
        return
    try:
        start = json.loads((directory / START).read_text())
        (directory / START).unlink()  # it may hold secrets
        _unpack(directory)
    except (OSError, ValueError, EOFError, tarfile.TarError) as problem:
        write_end(directory, problem=f"can't be staged: {problem}")
        return
    end = _run(directory, start, umask)
    write_end(directory, **end)
    if end.get("timed_out"):
        os.killpg(0, signal.SIGKILL)  # what is left of the group, this process too


if __name__ == "__main__":
    main(Path(sys.argv[1]))
