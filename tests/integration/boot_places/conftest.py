"""Real places for services: a real sshd on a loopback port, machines of the process cloud."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import socket
import subprocess
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from coordinator.clouds.machine_directory import RECORD
from coordinator.clouds.process import machine_processes
from coordinator.clouds.process_table import ProcessTable
from coordinator.errors import NotFound


@dataclass
class Sshd:
    """A server with keys of its own; ``log`` is what it says."""

    port: int
    key: Path
    host_key: Path
    user: str
    process: subprocess.Popen[bytes]

    def section(self, stages: Path, **more: str) -> str:
        """The ``ssh:`` section of a service."""
        parts = {"user": self.user, "port": str(self.port), "key": str(self.key)}
        parts |= {"stage_directory": str(stages), **more}
        return "{" + ", ".join(f'{k}: "{v}"' for k, v in parts.items()) + "}"

    def known_hosts(self, path: Path, *, of: Path | None = None) -> Path:
        """A file at ``path`` that trusts this server, or the key ``of`` in its place."""
        key = (of or self.host_key).with_suffix(".pub").read_text().split()
        path.write_text(f"[127.0.0.1]:{self.port} {key[0]} {key[1]}\n")
        return path


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """Debian's openssh-server, started for this session only."""
    server = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    if server is None:
        reason = "sshd is not installed (apt-get install openssh-server)"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    directory = tmp_path_factory.mktemp("sshd")
    for name in ("host", "user", "other"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name)]
        subprocess.run(words, check=True)
    shutil.copy(directory / "user.pub", directory / "authorized")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (directory / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {directory}/host\n"
        f"AuthorizedKeysFile {directory}/authorized\nStrictModes no\nUsePAM no\n"
        f"PasswordAuthentication no\nPermitRootLogin yes\nPidFile none\nMaxStartups 100\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # as Debian's init script does
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [server, "-D", "-e", "-f", str(directory / "config")], stderr=log, stdout=log
        )
    try:
        deadline = time.monotonic() + 10
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"sshd does not start: {(directory / 'log').read_text()}")
            time.sleep(0.02)
        yield Sshd(port, directory / "user", directory / "host", getpass.getuser(), process)
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """EPU_HOME; machines that a test leaves behind are ended, by their marks."""
    place = tmp_path / "home"
    monkeypatch.setenv("EPU_HOME", str(place))
    monkeypatch.delenv("EPU_RUN", raising=False)
    yield place
    marks = [json.loads(path.read_text())["mark"] for path in place.rglob(RECORD)]
    ProcessTable().end(marks, 20)


@pytest.fixture
def plan_file(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "plan.yaml"
        path.write_text(textwrap.dedent(text))
        return path

    return write


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str, str], Path]:
    """``program(name, text)``: an executable file beside the plan."""

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(textwrap.dedent(text))
        path.chmod(0o755)
        return path

    return write


@pytest.fixture
def processes_of() -> Callable[[Path, str], list[str]]:
    """Commands that run on a machine of the process cloud below a run's directory."""

    def found(run_directory: Path, service: str) -> list[str]:
        commands: list[str] = []
        for path in (run_directory / "clouds").glob(f"*/{service}-*"):
            with suppress(NotFound):  # not claimed yet
                commands += [p.command for p in machine_processes(path.parent, path.name)]
        return commands

    return found
