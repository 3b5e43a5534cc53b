"""The ``container`` cloud: a machine is Linux namespaces over a root file system, and cloud-init.

The real user-data path without a hypervisor: real cloud-init reads the real user-data from
a NoCloud seed, on a disk of the machine's own, in a few seconds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from coordinator.clouds.base import CloudInstance, ExecCommand, LaunchRequest
from coordinator.clouds.cloud_init_status import LOG, RESULT, STATUS, status_text
from coordinator.clouds.container_host import ContainerSettings, missing_here, read_inside
from coordinator.clouds.container_setup import INIT
from coordinator.clouds.container_start import ContainerKind, machine_environment
from coordinator.clouds.local_machines import LocalMachines, tail
from coordinator.clouds.machine_start import script
from coordinator.clouds.process_table import (
    RunningProcess,
    command_line,
    is_first_of_its_machine,
)
from coordinator.errors import ConfigProblem, NotFound, Problem, did_you_mean

_KEYS = {"root", "rootfs", "network", "boot_command"}
_NETWORKS = ("host", "private")


class ContainerCloud:
    """Machines as namespaces (mount, pid, uts, ipc) of this host, below ``root``.

    Promises what ``LocalMachines`` promises: exact listings (``consistency_window`` 0) and
    launches that are idempotent for ever. Nothing that a machine does is written to the
    root file system, and no mount of it is ever seen by this host; when its first process
    ends, all of it ends. Over this host's own root it sees the operating system and this
    installation, and neither people's files, services' data and sockets, nor what other
    users could not read; its root has no right over devices, mounts, modules or the clock.
    It is no prison for hostile code all the same: user ids are the host's, and so, with
    network ``host``, are its addresses and loopback ports. CPU and memory are not limited.

    Assumes: root with CAP_SYS_ADMIN, and a ``root`` on a file system that can be an
    overlay's upper layer (ext4, xfs, btrfs, tmpfs). Safe for threads.
    """

    consistency_window = 0.0
    batches = True
    user_data_form = "cloud-init"

    def __init__(self, settings: ContainerSettings) -> None:
        self.root = settings.root
        self._settings = settings
        self._machines = LocalMachines(settings.root, ContainerKind(settings))

    @classmethod
    def from_settings(cls, settings: Mapping[str, str], state_dir: Path) -> ContainerCloud:
        """Keys: ``root`` (machines' directories; default: ``state_dir``), ``rootfs`` (the root
        file system: ``/``, the default, or the directory of an unpacked image), ``network``
        (``host``, the default, or ``private``: see ``machine_network``), ``boot_command``
        (JSON list: runs in place of cloud-init). Of a pool's machine settings only ``rootfs``
        means something here; images and types of other clouds are passed over.
        """
        problems = [
            Problem(key=key, what="unknown key", remedy=did_you_mean(key, _KEYS))
            for key in sorted(settings.keys() - _KEYS)
        ]
        network = settings.get("network") or "host"
        if network not in _NETWORKS:
            what = f"there is no network '{network}'"
            remedy = did_you_mean(network, _NETWORKS)
            problems.append(Problem(key="network", what=what, remedy=remedy))
        words = _words(settings.get("boot_command", "[]"))
        if words is None:
            problems.append(Problem(key="boot_command", what="must be a JSON list of words"))
        wanted = ContainerSettings(
            root=_path(settings.get("root") or str(state_dir)),
            rootfs=_path(settings.get("rootfs") or "/"),
            network=network,
            boot_command=tuple(words or ()),
        )
        problems += missing_here(wanted)
        if problems:
            raise ConfigProblem(problems)
        return cls(wanted)

    def launch(self, request: LaunchRequest) -> None:
        """See ``LocalMachines.launch``; cloud-init begins then."""
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
        """See ``RunsPrograms``: in the machine's namespaces, as its root, in its ``/root``."""
        directory, record = self._machines.find(cloud_id)
        first = self._first_process(record.mark)
        if directory.terminated() or first is None:
            raise NotFound(f"machine {record.node_id} is gone")
        where = [str(first.pid), str(first.started), self._settings.network]
        return ExecCommand(
            words=(*script("container_enter"), *where, *words),
            environment={**environment, **machine_environment(record)},
            directory=str(directory.path),
        )

    def boot_status(self, cloud_id: str) -> str | None:
        """See ``ExplainsBoot``; also of a machine that died, from its disk."""
        try:
            directory, _ = self._machines.find(cloud_id)
        except NotFound:
            return None
        if directory.terminated() or self._settings.boot_command:
            return None
        upper = directory.path / "disk" / "upper"
        return status_text(*(read_inside(upper, path) for path in (STATUS, RESULT, LOG)))

    def console_output(self, cloud_id: str) -> str | None:
        """The end of what the machine's init and cloud-init said."""
        try:
            directory, _ = self._machines.find(cloud_id)
        except NotFound:
            return None
        return tail(directory.path / "logs" / "console.log")

    def _first_process(self, mark: str) -> RunningProcess | None:
        """The machine's init, once it is one: before that there is nothing to enter."""
        for process in self._machines.table.of([mark]):
            if is_first_of_its_machine(process.pid) and INIT in command_line(process.pid):
                return process
        return None


def _path(text: str) -> Path:
    return Path(os.path.abspath(os.path.expanduser(text)))


def _words(text: str) -> list[str] | None:
    words: object = None
    with suppress(ValueError):
        words = json.loads(text)
    if isinstance(words, list) and all(isinstance(word, str) for word in words):
        return words
    return None
