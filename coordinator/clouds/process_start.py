"""What a machine of the process cloud is made of: a supervisord with the agent under it."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from coordinator.clouds.base import LaunchRequest
from coordinator.clouds.machine_directory import (
    MachineDirectory,
    MachineRecord,
    write_atomically,
)
from coordinator.clouds.process_table import MARK_VARIABLE
from coordinator.errors import LaunchRefused
from userdata_templates.render import TemplateProblem, render

#: What a machine inherits of our environment. Everything else, credentials included, stays.
_PASSED_ON = ("HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "PYTHONPATH")
#: Longest path of a unix socket (107 bytes) less what supervisord appends while binding.
_SOCKET_PATH_LIMIT = 107 - len(".4194304")


class SupervisordKind:
    """See ``MachineKind``. ``agent_command`` replaces the agent, for tests of the driver."""

    sets_up = False

    def __init__(self, agent_command: Sequence[str] = ()) -> None:
        self._agent_command = tuple(agent_command)

    def socket(self, directory: Path, mark: str) -> str:
        return socket_path(directory, mark)

    def addresses(self, directory: MachineDirectory) -> tuple[str, ...]:
        return ("127.0.0.1",)

    def prepare(
        self, directory: MachineDirectory, record: MachineRecord, request: LaunchRequest
    ) -> None:
        path = directory.path
        identity = {"launch_index": record.index, "cloud_id": record.cloud_id}
        variables = {
            "node_id": record.node_id,
            "directory": path,
            "socket": record.socket,
            # Without a configuration no agent could do anything but fail for ever.
            "agent_command": (self._agent_command or _agent(path)) if request.user_data else [],
        }
        try:
            supervisord = render("supervisord", "conf", variables)
            (path / "conf.d").mkdir(mode=0o700, exist_ok=True)
            make_socket_directory(path, record.socket)
            write_atomically(path / "user-data", request.user_data)
            write_atomically(path / "instance-data.json", json.dumps(identity))
            write_atomically(path / "supervisord.conf", supervisord)
        except UnicodeEncodeError:  # whose text holds the user-data
            raise LaunchRefused(f"{record.node_id}: the user-data is not text") from None
        except TemplateProblem as problem:
            raise LaunchRefused(f"{record.node_id}: {problem}") from None

    def command(self, directory: MachineDirectory, record: MachineRecord) -> Sequence[str]:
        words = [sys.executable, "-m", "supervisor.supervisord", "-n"]
        return [*words, "-c", f"{directory.path}/supervisord.conf"]

    def environment(self, directory: MachineDirectory, record: MachineRecord) -> dict[str, str]:
        return machine_environment(directory.path, record)


def socket_path(directory: Path, mark: str) -> str:
    """Where a machine's supervisord listens: in its directory when the path is short enough.

    Else in a private directory named by the mark below the system's temporary one. Raises
    LaunchRefused when that is too long as well.
    """
    places = [directory / "supervisor.sock"]
    places += [Path(top) / f"epu-{mark}" / "s" for top in (tempfile.gettempdir(), "/tmp")]
    for place in places:
        if len(os.fsencode(place)) <= _SOCKET_PATH_LIMIT:
            return str(place)
    raise LaunchRefused(f"no directory has a path short enough for a unix socket: {directory}")


def make_socket_directory(directory: Path, socket: str) -> None:
    """Make the private directory of a socket that is not in the machine's own."""
    parent = Path(socket).parent
    if parent == directory:
        return
    with suppress(FileExistsError):
        parent.mkdir(mode=0o700)
    found = parent.lstat()
    if found.st_uid != os.geteuid() or found.st_mode & 0o170777 != 0o040700:
        raise LaunchRefused(f"{parent} exists and is not a private directory of ours")


def _agent(path: Path) -> list[str]:
    agent = [sys.executable, "-m", "agent.service", "--config", f"{path}/user-data"]
    return [*agent, "--instance-data", f"{path}/instance-data.json", "--dir", str(path)]


def machine_environment(path: Path, record: MachineRecord) -> dict[str, str]:
    """What the machine's processes see of the world outside: little, and no secret."""
    passed = {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_ON or name.startswith("LC_")
    }
    places = os.environ.get("PATH", os.defpath)
    return passed | {
        "PATH": f"{os.path.dirname(sys.executable)}{os.pathsep}{places}",
        "EPU_NODE_ID": record.node_id,
        "EPU_NODE_DIR": str(path),
        MARK_VARIABLE: record.mark,
    }
