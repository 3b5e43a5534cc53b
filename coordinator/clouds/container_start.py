"""What a machine of the container cloud is made of, written down for ``container_setup``."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from coordinator.clouds import container_init
from coordinator.clouds.base import LaunchRequest
from coordinator.clouds.container_cloud_config import FILE, cloud_config
from coordinator.clouds.container_disk import MachineDisk, identity
from coordinator.clouds.container_host import ContainerSettings, missing_in
from coordinator.clouds.container_setup import CONSTRUCTION, INIT
from coordinator.clouds.machine_directory import (
    MachineDirectory,
    MachineRecord,
    write_atomically,
)
from coordinator.clouds.machine_network import ADDRESS
from coordinator.clouds.machine_start import script
from coordinator.clouds.nocloud_seed import seed_files
from coordinator.clouds.process_table import MARK_VARIABLE
from coordinator.errors import LaunchRefused

_SEED = "var/lib/cloud/seed/nocloud"
_DISABLED = "etc/cloud/cloud-init.disabled"
_PLACES = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ROOMS = ("agent", "bootlevels", "coordinator", "mgmt", "userdata_templates")
#: Where images have this system, and user-data looks for it.
_BAKED_IN = "/opt/epu"
_LABEL_LENGTH = 63


class ContainerKind:
    """See ``MachineKind``."""

    sets_up = True

    def __init__(self, settings: ContainerSettings) -> None:
        self._settings = settings

    def socket(self, directory: Path, mark: str) -> str:
        return ""

    def addresses(self, directory: MachineDirectory) -> tuple[str, ...]:
        if self._settings.network == "host":
            return ("127.0.0.1",)
        try:
            return ((directory.path / ADDRESS).read_text(encoding="utf-8"),)
        except FileNotFoundError:
            return ()

    def prepare(
        self, directory: MachineDirectory, record: MachineRecord, request: LaunchRequest
    ) -> None:
        rootfs = self._rootfs(request)
        hostname = hostname_of(record.node_id)
        disk = MachineDisk(directory.path, rootfs)
        seed = seed_files(
            cloud_id=record.cloud_id,
            hostname=hostname,
            launch_index=record.index,
            user_data=request.user_data,
        )
        is_host = rootfs == Path("/")
        shown = installation() if is_host else {}
        try:
            disk.create()
            for place in shown:  # first: whatever hides their surroundings leaves them be
                disk.directory(place.lstrip("/"))
            if is_host:
                disk.show_only_the_system()
                disk.empty("etc/cloud/cloud.cfg.d")
            disk.empty("var/lib/cloud")  # what the root file system's own machine remembers
            if (rootfs / _DISABLED).exists():
                disk.hide(_DISABLED)
            for name, text in seed.items():
                disk.write(f"{_SEED}/{name}", text, mode=0o600)
            for path, text in identity(hostname, record.mark):
                disk.write(path, text)
            disk.write(FILE, cloud_config())
            disk.write(INIT.lstrip("/"), Path(container_init.__file__).read_text("utf-8"))
            if is_host and not any(is_within(_BAKED_IN, place) for place in shown):
                disk.link(_BAKED_IN.lstrip("/"), sys.prefix)
        except UnicodeEncodeError:  # whose text holds the user-data
            raise LaunchRefused(f"{record.node_id}: the user-data is not text") from None
        construction = {
            "rootfs": str(rootfs),
            "network": self._settings.network,
            "mark": record.mark,
            "hostname": hostname,
            "shown": shown,
            "boot_command": self._settings.boot_command,
        }
        write_atomically(directory.path / CONSTRUCTION, json.dumps(construction))

    def _rootfs(self, request: LaunchRequest) -> Path:
        chosen = request.settings.get("rootfs")
        if not chosen:
            return self._settings.rootfs
        rootfs = Path(os.path.abspath(os.path.expanduser(chosen)))
        problems = list(missing_in(replace(self._settings, rootfs=rootfs)))
        if problems:
            raise LaunchRefused("; ".join(str(problem) for problem in problems))
        return rootfs

    def command(self, directory: MachineDirectory, record: MachineRecord) -> Sequence[str]:
        return script("container_setup")

    def environment(self, directory: MachineDirectory, record: MachineRecord) -> dict[str, str]:
        return machine_environment(record)


def machine_environment(record: MachineRecord) -> dict[str, str]:
    """All that the machine's first process has; nothing of it is this host's."""
    return {
        "PATH": _PLACES,
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "TERM": "linux",
        "container": "epu",  # by which cloud-init and others know that this is no hardware
        "EPU_NODE_ID": record.node_id,
        MARK_VARIABLE: record.mark,
    }


def installation() -> Mapping[str, str]:
    """Where this installation is, place → directory behind it, without what is in /usr.

    A machine over this host's own root has it baked in, like an image would.
    """
    places = [sys.prefix, sys.base_prefix]
    for name in _ROOMS:
        spec = find_spec(name)
        places += (spec.submodule_search_locations or ()) if spec else ()
    found: dict[str, str] = {}
    for place in (form for path in places for form in (os.path.abspath(path), _real(path))):
        if not any(is_within(place, known) for known in ("/usr", *found)):
            found[place] = _real(place)
    return found


def hostname_of(node_id: str) -> str:
    """A node id as one label of a host name; the end, which differs, is kept."""
    label = re.sub(r"[^a-z0-9-]", "-", node_id.lower())[-_LABEL_LENGTH:]
    return label.strip("-") or "machine"


def is_within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(f"{directory}/")


def _real(path: str) -> str:
    return os.path.realpath(path)
