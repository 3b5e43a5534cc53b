"""The ``qemu`` cloud: machines are virtual machines of this host, with a kernel of their own.

They boot from an image of ``epu image build`` (or any bootable disk image with cloud-init)
and read their user-data from a NoCloud disk, as they would in a cloud. Their network is
QEMU's user-mode one (no root, no bridge; they reach this host's loopback as 10.0.2.2 and
nobody reaches them but through what they connect to) or a cable to this host each.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Self

from coordinator.clouds.base import CloudInstance, LaunchRequest
from coordinator.clouds.cloud_init_status import has_ended, last_status, status_text
from coordinator.clouds.local_machines import LocalMachines, tail
from coordinator.clouds.machine_directory import MachineDirectory, MachineRecord, write_atomically
from coordinator.clouds.machine_network import ADDRESS, PREFIX, free_address, host_of
from coordinator.clouds.machine_start import script
from coordinator.clouds.nocloud_seed import seed_files
from coordinator.clouds.process_table import MARK_VARIABLE
from coordinator.clouds.qemu_acceleration import kvm_works
from coordinator.clouds.qemu_cable import problem_here
from coordinator.clouds.qemu_command import (
    BOOT_STATUS,
    CONSOLE,
    DISK,
    SEED,
    Cable,
    hardware_address,
    machine_words,
    network_config,
)
from coordinator.clouds.qemu_image import find_image, image_store
from coordinator.clouds.qemu_settings import (
    QemuImage,
    QemuSettings,
    machine_settings,
    parse_settings,
)
from coordinator.errors import ConfigProblem, LaunchRefused, NotFound, RetryLater

#: The words that a machine was started with, for whoever wants to know.
_COMMAND = "command.json"
_TOOL_TIMEOUT = 60.0
_TOOL_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


class QemuCloud:
    """Virtual machines of this host, below one directory (``root``).

    Promises: exact listings (``consistency_window`` 0); launches idempotent in launch id
    and index for ever, from any process, also after a kill at any point; a machine that
    was terminated or died is never started again. A machine outlives whoever launched it
    and is alive while its QEMU is: a guest that powers off is GONE, one that reboots is
    not. Terminating wipes its disk and user-data and keeps what it printed. Assumes what
    ``LocalMachines`` assumes, and an image that stays where it is while machines run from
    it. KVM is used when a trial shows that it works. Safe for threads.
    """

    consistency_window = 0.0
    batches = True
    user_data_form = "cloud-init"

    def __init__(self, root: Path, settings: QemuSettings) -> None:
        self.root = root
        self.loopback_address = "10.0.2.2" if settings.network == "user" else ""
        self._kind = VirtualMachines(settings)
        self._machines = LocalMachines(root, self._kind)

    @classmethod
    def from_settings(cls, settings: Mapping[str, str], state_dir: Path) -> Self:
        """Keys: see ``QemuSettings``; ``root`` defaults to ``state_dir``."""
        parsed = parse_settings(settings)
        root = Path(parsed.root or state_dir).expanduser().absolute()
        if "," in str(root):
            raise ConfigProblem("root: must not hold a comma, QEMU takes it for a separator")
        return cls(root, parsed)

    def launch(self, request: LaunchRequest) -> None:
        """See ``LocalMachines.launch``."""
        self._machines.launch(request)

    def check_machine(self, settings: Mapping[str, str]) -> None:
        """Raises ConfigProblem for settings that no machine can have, wherever it is."""
        self._kind.check_machine(settings)

    def problems_of(self, settings: Mapping[str, str]) -> Sequence[str]:
        """Why no machine with these settings of its own could be launched here."""
        return self._kind.problems_of(settings)

    def list_instances(
        self, run: str, launch_ids: Sequence[str] | None = None
    ) -> Sequence[CloudInstance]:
        """See ``LocalMachines.list_instances``."""
        return self._machines.list_instances(run, launch_ids)

    def terminate(self, cloud_ids: Sequence[str]) -> None:
        """See ``LocalMachines.terminate``: as if the power went out."""
        self._machines.terminate(cloud_ids)

    def console_output(self, cloud_id: str) -> str | None:
        """The end of what the machine printed on its serial port; else what QEMU said."""
        try:
            directory, _ = self._machines.find(cloud_id)
        except NotFound:
            return None
        logs = directory.path / "logs"
        return tail(logs / CONSOLE) or tail(logs / "console.log")

    def boot_status(self, cloud_id: str) -> str | None:
        """See ``ExplainsBoot``. Images of ``epu image build`` tell it, others do not."""
        try:
            directory, _ = self._machines.find(cloud_id)
        except NotFound:
            return None
        logs = directory.path / "logs"
        status = last_status(tail(logs / BOOT_STATUS))
        if status is None:
            return None
        result = "" if has_ended(status) else None
        return status_text(status, result, tail(logs / CONSOLE))


class VirtualMachines:
    """What machines of this cloud are made of: see ``MachineKind``."""

    def __init__(self, settings: QemuSettings) -> None:
        self._settings = settings
        self._has_cables = settings.network == "private"
        self.sets_up = self._has_cables
        self._trial = threading.Lock()
        self._kvm: bool | None = None

    def check_machine(self, settings: Mapping[str, str]) -> None:
        """See ``QemuCloud``."""
        machine_settings(self._settings, settings)

    def problems_of(self, settings: Mapping[str, str]) -> Sequence[str]:
        """See ``QemuCloud``; each of them would be a LaunchRefused."""
        found = []
        asks: list[Callable[[], object]] = [
            *(partial(_program, tool) for tool in (self._settings.qemu, "qemu-img", "genisoimage")),
            partial(self._chosen, settings),
            self._accelerator,
            self._check_network,
        ]
        for ask in asks:
            try:
                ask()
            except LaunchRefused as problem:
                found.append(str(problem))
        return list(dict.fromkeys(found))

    def socket(self, directory: Path, mark: str) -> str:
        return ""

    def addresses(self, directory: MachineDirectory) -> tuple[str, ...]:
        if not self._has_cables:
            return ("127.0.0.1",)
        try:  # until it is started, it may still get another
            return ((directory.path / ADDRESS).read_text(),) if directory.started() else ()
        except FileNotFoundError:
            return ()

    def prepare(
        self, directory: MachineDirectory, record: MachineRecord, request: LaunchRequest
    ) -> None:
        path = directory.path
        settings, image = self._chosen(request.settings)
        cable = self._cable(path, record.mark)
        words = machine_words(record.node_id, image, settings, self._accelerator(), cable)
        make_seed(path, record, record.cloud_id, request.user_data, cable)
        disk = path / DISK
        disk.unlink(missing_ok=True)
        backed = ["-F", image.disk_format, "-b", image.disk]
        _run(["qemu-img", "create", "-q", "-f", "qcow2", *backed, str(disk)])
        disk.chmod(0o600)
        write_atomically(path / _COMMAND, json.dumps([_program(settings.qemu), *words]))

    def command(self, directory: MachineDirectory, record: MachineRecord) -> Sequence[str]:
        words: list[str] = json.loads((directory.path / _COMMAND).read_text())
        return [*script("qemu_cable"), record.mark, *words] if self._has_cables else words

    def environment(self, directory: MachineDirectory, record: MachineRecord) -> Mapping[str, str]:
        return {
            "PATH": _TOOL_PATH,
            "EPU_NODE_ID": record.node_id,
            "EPU_NODE_DIR": str(directory.path),
            MARK_VARIABLE: record.mark,
        }

    def _chosen(self, wanted: Mapping[str, str]) -> tuple[QemuSettings, QemuImage]:
        try:
            settings = machine_settings(self._settings, wanted)
            return settings, find_image(settings.image, image_store())
        except (ConfigProblem, NotFound) as problem:
            raise LaunchRefused(str(problem)) from None

    def _check_network(self) -> None:
        if self._has_cables and (problem := problem_here()):
            raise LaunchRefused(problem)

    def _cable(self, path: Path, mark: str) -> Cable | None:
        """Chooses the machine's address anew: a block that was free before may be taken now."""
        if not self._has_cables:
            return None
        self._check_network()
        own = free_address(mark)
        write_atomically(path / ADDRESS, str(own))
        hardware = hardware_address(mark)
        return Cable(machine=own, host=host_of(own), prefix=PREFIX, hardware=hardware)

    def _accelerator(self) -> str:
        """``kvm`` or ``tcg``. Tried once for each driver."""
        if self._settings.accel == "tcg":
            return "tcg"
        with self._trial:
            if self._kvm is None:
                self._kvm = kvm_works(_program(self._settings.qemu))
        if self._kvm:
            return "kvm"
        if self._settings.accel == "kvm":
            raise LaunchRefused("accel: kvm does not work on this host (accel: auto emulates)")
        return "tcg"


def make_seed(
    path: Path, record: MachineRecord, cloud_id: str, user_data: str, cable: Cable | None = None
) -> None:
    """The disk labelled ``cidata``; its files are not left beside it.

    ``cloud_id``: what the machine is told to be called. Raises LaunchRefused, RetryLater.
    """
    files = seed_files(
        cloud_id=cloud_id,
        hostname=record.node_id,
        launch_index=record.index,
        user_data=user_data,
        network_config=network_config(cable) if cable else "",
    )
    directory = path / "seed"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700)
    for name, text in files.items():
        try:
            (directory / name).write_bytes(text.encode())
        except UnicodeEncodeError:  # whose text holds the user-data
            raise LaunchRefused(f"{record.node_id}: the user-data is not text") from None
    disk = path / SEED
    os.close(os.open(disk, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
    _run(["genisoimage", "-quiet", "-V", "cidata", "-J", "-r", "-o", str(disk), str(directory)])
    shutil.rmtree(directory)


def _program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_TOOL_PATH}")
    if found is None:
        remedy = "apt-get install -y --no-install-recommends qemu-system-x86 qemu-utils genisoimage"
        raise LaunchRefused(f"there is no {name} on this host (as root: {remedy})")
    return found


def _run(words: Sequence[str]) -> None:
    """A tool of this host. Raises RetryLater: what it wants for is mostly room."""
    program = _program(words[0])
    try:
        done = subprocess.run(
            [program, *words[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TOOL_TIMEOUT,
            env={"PATH": _TOOL_PATH, "LC_ALL": "C.UTF-8"},
        )
    except subprocess.TimeoutExpired:
        raise RetryLater(f"{words[0]} did not finish in time") from None
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise RetryLater(f"{words[0]} failed: {''.join(last)}")
