"""Machines that really boot: each launch of hard-mode EC2 becomes one of a local cloud.

The local cloud is a driver of ours: ``Ec2Containers`` or ``Ec2VirtualMachines`` (with real
cloud-init), or any other where nobody asks a machine who it is. It gets the user-data as EC2's
metadata service would show it, and machines whose launch index is their AmiLaunchIndex.
"""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from coordinator.clouds.base import CloudDriver, LaunchRequest, MachineState
from coordinator.clouds.container import ContainerCloud
from coordinator.clouds.container_host import ContainerSettings
from coordinator.clouds.container_start import ContainerKind
from coordinator.clouds.local_machines import LocalMachines
from coordinator.clouds.machine_directory import MachineDirectory, MachineRecord
from coordinator.clouds.qemu import QemuCloud, VirtualMachines, make_seed
from coordinator.clouds.qemu_settings import QemuSettings
from tests.hard_ec2.machine import Machine

#: The run of every machine of the local cloud: what EC2 itself knows them by.
RUN = "hard-ec2"
_AGENT_CONFIG = "/etc/epu/agent.json"
#: What makes an image of one that has an sshd: Debian's own, as it comes.
_SSHD = {
    "etc/cloud/cloud.cfg.d/zzz-sshd.cfg": (
        "cloud_init_modules: [bootcmd, write-files, ca-certs, users-groups, ssh]\n"
    ),
    "var/lib/cloud/scripts/per-boot/sshd": (
        "#!/bin/sh\nmkdir -p /run/sshd\nexec /usr/sbin/sshd -f /dev/null\n"
    ),
}
#: Machines are looked at so often at most, s.
_LOOK_EVERY = 0.5


class Ec2Containers(ContainerCloud):
    """Containers whose seed says what EC2's metadata service would: its own instance id.

    ``ids``: launch id here and index → id of the machine at EC2, there before it is launched.
    With a network of their own (``private``) they have an sshd, as images at EC2 do.
    """

    def __init__(self, settings: ContainerSettings) -> None:
        super().__init__(settings)
        self.ids: dict[tuple[str, int], str] = {}
        self._machines = LocalMachines(settings.root, _Ec2Kind(settings, self.ids))


class _Ec2Kind(ContainerKind):
    def __init__(self, settings: ContainerSettings, ids: dict[tuple[str, int], str]) -> None:
        super().__init__(settings)
        self._ids = ids
        self._has_sshd = settings.network == "private"

    def prepare(
        self, directory: MachineDirectory, record: MachineRecord, request: LaunchRequest
    ) -> None:
        super().prepare(directory, record, request)
        if self._has_sshd:
            for name, text in _SSHD.items():
                file = directory.path / "disk" / "upper" / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
                file.chmod(0o755)
        seed = directory.path / "disk" / "upper" / "var/lib/cloud/seed/nocloud" / "meta-data"
        told = json.loads(seed.read_text())
        told["instance-id"] = self._ids[record.launch_id, record.index]
        seed.write_text(json.dumps(told))


class Ec2VirtualMachines(QemuCloud):
    """The same with virtual machines."""

    def __init__(self, root: Path, settings: QemuSettings) -> None:
        super().__init__(root, settings)
        self.ids: dict[tuple[str, int], str] = {}
        self._machines = LocalMachines(root, _Ec2VirtualKind(settings, self.ids))


class _Ec2VirtualKind(VirtualMachines):
    def __init__(self, settings: QemuSettings, ids: dict[tuple[str, int], str]) -> None:
        super().__init__(settings)
        self._ids = ids

    def prepare(
        self, directory: MachineDirectory, record: MachineRecord, request: LaunchRequest
    ) -> None:
        super().prepare(directory, record, request)
        instance_id = self._ids[record.launch_id, record.index]
        make_seed(directory.path, record, instance_id, request.user_data)


class BootsOn:
    """Boots machines on ``cloud``. ``problems``: what did not boot or end, and why."""

    def __init__(self, cloud: CloudDriver) -> None:
        self._cloud = cloud
        self._form = getattr(cloud, "user_data_form", "cloud-init")
        self._threads = ThreadPoolExecutor(8, thread_name_prefix="boots")
        self._booting: dict[str, Future[dict[int, str]]] = {}
        self._ending: list[Future[None]] = []
        self._local: dict[str, str] = {}
        self._looked_at = 0.0
        self._lock = threading.Lock()
        self.problems: list[str] = []

    def launch(self, machines: Sequence[Machine]) -> None:
        """See ``Boots``."""
        self._booting[machines[0].reservation] = self._threads.submit(self._boot, machines)

    def end(self, machine: Machine) -> None:
        """See ``Boots``. What still boots is ended when it has."""
        self._ending.append(self._threads.submit(self._end, machine))

    def console(self, machine: Machine) -> str:
        """See ``Boots``."""
        local = self._local.get(machine.cloud_id)
        return (self._cloud.console_output(local) or "") if local else ""

    def dead(self) -> Sequence[str]:
        """See ``Boots``."""
        with self._lock:
            if time.monotonic() - self._looked_at < _LOOK_EVERY:
                return ()
            self._looked_at = time.monotonic()
        known = {local: cloud_id for cloud_id, local in self._local.items()}
        listed = self._cloud.list_instances(RUN) if known else ()
        return [
            known[one.cloud_id]
            for one in listed
            if one.state is MachineState.GONE and one.cloud_id in known
        ]

    def local_id(self, machine: Machine) -> str:
        """The id of the machine in the local cloud; waits until it was launched."""
        return self._booting[machine.reservation].result(60)[machine.index]

    def close(self) -> None:
        """End whatever is left, and wait for it."""
        for future in self._booting.values():
            future.result(60)
        for ending in self._ending:
            ending.result(60)
        left = [
            one.cloud_id
            for one in self._cloud.list_instances(RUN)
            if one.state is not MachineState.GONE
        ]
        self._cloud.terminate(left)
        self._threads.shutdown()

    def _boot(self, machines: Sequence[Machine]) -> dict[int, str]:
        reservation = machines[0].reservation
        if isinstance(self._cloud, Ec2Containers | Ec2VirtualMachines):
            self._cloud.ids |= {(reservation, one.index): one.cloud_id for one in machines}
        try:
            self._cloud.launch(
                LaunchRequest(
                    launch_id=reservation,
                    run=RUN,
                    pool="machines",
                    count=len(machines),
                    user_data=self._readable(machines[0]),
                )
            )
            found = {one.index: one for one in self._cloud.list_instances(RUN, [reservation])}
        except Exception as problem:
            self.problems.append(f"{reservation} does not boot: {problem}")
            return {}
        for machine in machines:
            if machine.index in found:
                local = found[machine.index]
                machine.address = next(iter(local.addresses), machine.address)
                self._local[machine.cloud_id] = local.cloud_id
        return {index: one.cloud_id for index, one in found.items()}

    def _end(self, machine: Machine) -> None:
        local = self._booting[machine.reservation].result(60).get(machine.index)
        try:
            if local is not None:
                self._cloud.terminate([local])
                self._local.pop(machine.cloud_id, None)
        except Exception as problem:
            self.problems.append(f"{machine.cloud_id} does not end: {problem}")

    @staticmethod
    def text_of(machine: Machine) -> str:
        """The user-data as cloud-init would read it."""
        data = machine.user_data
        return (gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data).decode()

    def _readable(self, machine: Machine) -> str:
        """The user-data in the form that the local cloud wants."""
        text = self.text_of(machine)
        return agent_config(text) if self._form == "agent-config" else text


def agent_config(user_data: str) -> str:
    """What user-data for cloud-init would leave as the agent's configuration."""
    if not user_data.startswith("#cloud-config"):
        return user_data
    wanted: dict[str, Any] = yaml.safe_load(user_data)
    [content] = [
        file["content"] for file in wanted.get("write_files", ()) if file["path"] == _AGENT_CONFIG
    ]
    return str(content)
