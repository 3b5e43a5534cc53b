"""Brings the broker's accounts from its machine to the coordinator's, and to this one.

The accounts are secret: they go from machine to machine by the cloud's own way to run
programs there (``RunsPrograms``), as input and output of those programs, into files that only
their owner can read. No word of a command, no log, no record and no user-data has them.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from coordinator.clouds.base import RunsPrograms
from coordinator.errors import EpuError, RetryLater
from coordinator.plugins import find_plugin

ON_THE_BROKER = "/var/lib/epu/broker/accounts.json"
ON_THE_COORDINATOR = "/etc/epu/accounts.json"
CREDENTIALS = "/etc/epu/coordinator.env"
#: Whole or not at all, whoever looks meanwhile.
_PUT = 'umask 077; mkdir -p -- "${1%/*}" && cat >"$1.new" && mv -- "$1.new" "$1"'
_ONE_PROGRAM = 30.0
_PAUSE = 0.5


class NotBrought(Exception):
    """Something could not be fetched or put; the text says what and why, and no content."""


def main() -> int:
    """Bring them; tells the plan ``accounts``, the file on this machine."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--driver", required=True, help="of the machines' cloud")
    parser.add_argument("--setting", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--state-dir", type=Path, required=True, help="of that driver")
    parser.add_argument("--broker", required=True, metavar="ID", help="of its machine")
    parser.add_argument("--coordinator", required=True, metavar="ID", help="of its machine")
    parser.add_argument("--accounts", type=Path, required=True, help="where they go here")
    parser.add_argument("--credentials", type=Path, help="for the coordinator: NAME=value lines")
    parser.add_argument("--within", type=float, default=100.0, metavar="SECONDS")
    asked = parser.parse_args()
    deadline = time.monotonic() + asked.within
    try:
        settings = dict(text.split("=", 1) for text in asked.setting)
        driver = find_plugin("epu.clouds", asked.driver).from_settings(settings, asked.state_dir)
        accounts = run_there(driver, asked.broker, ["cat", ON_THE_BROKER], b"", deadline)
        keep_here(asked.accounts, accounts)
        credentials = asked.credentials.read_bytes() if asked.credentials else b""
        for path, content in ((CREDENTIALS, credentials), (ON_THE_COORDINATOR, accounts)):
            words = ["sh", "-c", _PUT, "sh", path]
            run_there(driver, asked.coordinator, words, content, deadline)
    except (EpuError, NotBrought, OSError, ValueError) as problem:
        print(f"the accounts were not brought: {problem}", file=sys.stderr)
        return 1
    if told := os.environ.get("EPU_BOOTOUT"):
        Path(told).write_text(json.dumps({"accounts": str(asked.accounts)}))
    return 0


def run_there(
    driver: RunsPrograms, machine: str, words: Sequence[str], given: bytes, deadline: float
) -> bytes:
    """What a program there prints, tried until it succeeds. Raises NotBrought, NotFound."""
    problem = "no time was left"
    while (left := deadline - time.monotonic()) > 0:
        try:
            command = driver.exec_command(machine, words, {})
            code, said, problem = _run(command.words, command.environment, command.directory, given,
                                       min(left, _ONE_PROGRAM))  # fmt: skip
            if code == 0:
                return said
        except RetryLater as later:
            problem = str(later)
        time.sleep(_PAUSE)
    raise NotBrought(f"{words[0]} on {machine}: {problem}")


def _run(
    words: Sequence[str], environment: dict[str, str], directory: str, given: bytes, limit: float
) -> tuple[int, bytes, str]:
    with subprocess.Popen(
        words,
        env=environment,
        cwd=directory,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as program:
        try:
            said, problem = program.communicate(given, timeout=limit)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)
            return -1, b"", f"did not end within {limit:g} s"
    return program.returncode, said, problem.decode(errors="replace").strip()[-200:]


def keep_here(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read; all of it or nothing."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    os.rename(new, path)


if __name__ == "__main__":
    sys.exit(main())
