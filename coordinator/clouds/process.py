"""The ``process`` cloud: a machine is a directory and a session of processes on this host.

The machine's "init" is a supervisord that keeps the agent running; the pool's programs are
added by the agent. It is the embedded default: no root, no image, no network.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from coordinator.clouds.base import CloudInstance, ExecCommand, LaunchRequest
from coordinator.clouds.local_machines import END_TIMEOUT, LocalMachines, tail
from coordinator.clouds.machine_directory import MachineDirectory
from coordinator.clouds.process_start import SupervisordKind, machine_environment
from coordinator.clouds.process_table import (
    ProcessTable,
    StillRunning,
    command_line,
    start_time,
)
from coordinator.errors import ConfigProblem, NotFound, Problem, RetryLater, did_you_mean

#: supervisord reads these in a path as a pattern, a comment, a variable or a line's end.
_NOT_IN_ROOT = re.compile(r"[\x00-\x1f\x7f*?\[\];#%]")


class MachineProcess(NamedTuple):
    """One process of a machine; ``created`` in seconds since the epoch."""

    pid: int
    created: float
    command: str


class ProcessCloud:
    """Machines as process groups of this host, below one directory (``root``).

    Promises: exact listings (``consistency_window`` 0); launches idempotent in launch id
    and index for ever, from any process, also after a kill at any point; a machine that
    was terminated or died is never started again. A machine launched without user-data,
    which is the agent's configuration, has no agent: it is supervisord and its directory,
    and programs come to it by ``exec_command``. A machine outlives whoever launched it,
    and is alive while any of its processes is; one without is listed as GONE until it is
    terminated. Assumes: Linux, a local file system with flock, one user for all
    processes. It touches nothing without the machine's own random mark. Control groups
    are not used. Safe for threads.
    """

    consistency_window = 0.0
    batches = True
    user_data_form = "agent-config"

    def __init__(self, root: Path, agent_command: Sequence[str] = ()) -> None:
        """``agent_command`` replaces the agent, for tests of the driver itself."""
        self.root = root
        self._machines = LocalMachines(root, SupervisordKind(agent_command))

    @classmethod
    def from_settings(cls, settings: Mapping[str, str], state_dir: Path) -> ProcessCloud:
        """Keys: ``root`` (default: ``state_dir``), ``agent_command`` (JSON list)."""
        known = {"root", "agent_command"}
        problems = [
            Problem(key=key, what="unknown key", remedy=did_you_mean(key, known))
            for key in sorted(settings.keys() - known)
        ]
        root = Path(settings.get("root") or state_dir).expanduser().absolute()
        if _NOT_IN_ROOT.search(str(root)):
            problems.append(Problem(key="root", what=f"'{root}' holds one of * ? [ ] ; # %"))
        words: object = None
        with suppress(ValueError):
            words = json.loads(settings.get("agent_command", "[]"))
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            problems.append(Problem(key="agent_command", what="must be a JSON list of words"))
            words = []
        if problems:
            raise ConfigProblem(problems)
        return cls(root, words)

    def launch(self, request: LaunchRequest) -> None:
        """See ``LocalMachines.launch``."""
        self._machines.launch(request)

    def list_instances(
        self, run: str, launch_ids: Sequence[str] | None = None
    ) -> Sequence[CloudInstance]:
        """See ``LocalMachines.list_instances``."""
        return self._machines.list_instances(run, launch_ids)

    def terminate(self, cloud_ids: Sequence[str]) -> None:
        """See ``LocalMachines.terminate``."""
        self._machines.terminate(cloud_ids)

    def exec_command(
        self, cloud_id: str, words: Sequence[str], environment: Mapping[str, str]
    ) -> ExecCommand:
        """See ``RunsPrograms``: the words themselves, with the machine's environment and mark.

        So the program's processes are the machine's: listed, and ended, with it.
        """
        directory, record = self._machines.find(cloud_id)
        if directory.terminated() or not self._machines.table.of([record.mark]):
            raise NotFound(f"machine {record.node_id} is gone")
        return ExecCommand(
            words=tuple(words),
            environment={**environment, **machine_environment(directory.path, record)},
            directory=str(directory.path),
        )

    def console_output(self, cloud_id: str) -> str | None:
        """The end of the agent's log; of supervisord's own while the agent has none."""
        try:
            directory, _ = self._machines.find(cloud_id)
        except NotFound:
            return None
        for name in ("agent.log", "supervisord.log", "console.log"):
            if text := tail(directory.path / "logs" / name):
                return text
        return ""


# ------------------------------------------------------------------ a machine from outside


def machine_processes(root: Path, node_id: str) -> list[MachineProcess]:
    """What runs on a machine now. Raises NotFound when there never was such a machine."""
    return [
        MachineProcess(process.pid, start_time(process), command_line(process.pid))
        for process in ProcessTable().of([_mark_of(root, node_id)])
    ]


def kill_machine(root: Path, node_id: str) -> None:
    """SIGKILL every process of a machine and leave its directory: the host of it failed.

    The machine is GONE for its cloud afterwards. Raises NotFound, or RetryLater when
    processes could not be ended.
    """
    try:
        ProcessTable().end([_mark_of(root, node_id)], END_TIMEOUT)
    except StillRunning as problem:
        raise RetryLater(f"processes that can't be ended: {problem}") from None


def stop_machine(root: Path, node_id: str) -> None:
    """SIGSTOP every process of a machine: it is there and silent. Raises NotFound."""
    ProcessTable().stop([_mark_of(root, node_id)])


def continue_machine(root: Path, node_id: str) -> None:
    """SIGCONT every process of a machine. Raises NotFound."""
    ProcessTable().resume([_mark_of(root, node_id)])


def _mark_of(root: Path, node_id: str) -> str:
    record = MachineDirectory(Path(root), node_id).record()
    if record is None:
        raise NotFound(f"no machine {node_id} in {root}")
    return record.mark
