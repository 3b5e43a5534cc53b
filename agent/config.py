"""What a node is told at birth: its user-data, and which machine of the batch it is.

Two files, because one user-data serves a whole batch: the *user-data* (rendered by
``worker.agent-config.j2``: run, pool, launch id, enrolment token, where the broker is) and
the *instance data* (the launch index, from the cloud): a file of ours, or cloud-init's own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from agent.messages import POOL_TOKEN, UNASSIGNED, WIRE_VERSION, BrokerAccess
from agent.wire import MalformedMessage, from_wire

#: Where a node's supervisord listens; see ``supervisor_socket``.
SOCKET_VARIABLE = "EPU_SUPERVISOR_SOCKET"
#: What clouds call the index of a machine inside its launch, in cloud-init's ``ds.meta_data``:
#: EC2 and our seeds the first (some versions of cloud-init write it as the second),
#: other clouds the rest.
INDEX_KEYS = ("ami-launch-index", "ami_launch_index", "launch-index", "launch_index")
#: What is to be added to the index where a launch took several calls to its cloud: a tag of
#: the machine, in ``ds.meta_data`` where the cloud shows tags to machines.
INDEX_BASE_TAG = "epu:index-base"
_ID_KEYS = ("instance-id", "instance_id")
#: Beside cloud-init's file: the same with nothing redacted, for root only.
SENSITIVE_FILE = "instance-data-sensitive.json"
#: Key of the only account that user-data holds.
ENROL_ACCOUNT = "enrol"


class ConfigError(Exception):
    """The agent can't start with these files. One line: which file, which key, what to do."""


@dataclass(frozen=True, kw_only=True)
class UserData:
    """The shape of the user-data file. ``launch_index`` is there for a launch of one machine:
    not every cloud tells its machines which one they are.
    """

    version: int
    run: str
    pool: str
    launch_id: str
    token: str = field(repr=False)
    broker: BrokerAccess
    launch_index: int | None = None


@dataclass(frozen=True, kw_only=True)
class InstanceData:
    """The shape of the instance-data file."""

    launch_index: int
    cloud_id: str = ""


@dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """Everything an agent knows before it enrols. The token never appears in ``repr``."""

    run: str
    pool: str
    launch_id: str
    index: int
    token: str = field(repr=False)
    broker: BrokerAccess
    directory: Path
    supervisor_socket: Path
    cloud_id: str = ""

    @property
    def adopted(self) -> bool:
        """Whether a person booted this machine: its index is only known once it has enrolled."""
        return self.index == UNASSIGNED

    @property
    def node_id(self) -> str:
        """The identity that was chosen for this machine before its cloud was asked.

        Of an adopted machine: as which machine it asks for one.
        """
        if self.adopted:
            return f"{self.launch_id}@{self.cloud_id or _machine_id()}"
        return f"{self.launch_id}-{self.index}"

    def is_mine(self, node_id: str) -> bool:
        """Whether the registrar can have meant this machine by ``node_id``."""
        if not self.adopted:
            return node_id == self.node_id
        launch_id, _, index = node_id.rpartition("-")
        return launch_id == self.launch_id and index.isdigit()


def supervisor_socket(environment: Mapping[str, str], directory: Path) -> Path:
    """Where the node's supervisord listens.

    What ``EPU_SUPERVISOR_SOCKET`` says, else what a supervisord tells its children (the
    socket of a deep directory is elsewhere, its path would be too long), else
    ``supervisor.sock`` in the node's directory.
    """
    if told := environment.get(SOCKET_VARIABLE):
        return Path(told)
    scheme, _, path = environment.get("SUPERVISOR_SERVER_URL", "").partition("://")
    return Path(path) if scheme == "unix" and path else directory / "supervisor.sock"


def read_config(
    user_data: Path,
    instance_data: Path,
    directory: Path,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> AgentConfig:
    """The agent's config out of its two files. Raises ConfigError."""
    told = _parse(UserData, user_data)
    if told.token.startswith(POOL_TOKEN):
        machine = InstanceData(launch_index=UNASSIGNED, cloud_id=_cloud_id(instance_data))
    else:
        machine = _read_instance_data(instance_data, told.launch_index)
    if told.version > WIRE_VERSION:
        raise ConfigError(
            f"{user_data}: version {told.version} is newer than this agent understands "
            f"({WIRE_VERSION}); install a newer agent in the image"
        )
    if ENROL_ACCOUNT not in told.broker.accounts:
        raise ConfigError(f"{user_data}: broker.accounts must hold the account '{ENROL_ACCOUNT}'")
    for key in ("run", "pool", "launch_id", "token"):
        if not getattr(told, key):
            raise ConfigError(f"{user_data}: {key} must not be empty")
    if machine.launch_index < 0 and not told.token.startswith(POOL_TOKEN):
        raise ConfigError(
            f"{instance_data}: launch_index must be 0 or more, not {machine.launch_index}"
        )
    if not directory.is_dir() or not os.access(directory, os.W_OK | os.X_OK):
        raise ConfigError(f"{directory} must be a directory that the agent can write")
    return AgentConfig(
        run=told.run,
        pool=told.pool,
        launch_id=told.launch_id,
        index=machine.launch_index,
        token=told.token,
        broker=told.broker,
        directory=directory,
        supervisor_socket=supervisor_socket(environment, directory),
        cloud_id=machine.cloud_id,
    )


def _cloud_id(instance_data: Path) -> str:
    """What its cloud calls a machine that a person booted; nothing where nobody says so."""
    try:
        found = _load(instance_data)
    except ConfigError:
        return ""
    if not _is_cloud_inits(found):
        return str(found.get("cloud_id") or "") if isinstance(found, dict) else ""
    told = _first(found, "v1", keys=_ID_KEYS) or _first(found, "ds", "meta_data", keys=_ID_KEYS)
    return str(told or "")


def _machine_id() -> str:
    """What tells this machine from others that were made from the same image."""
    try:
        return Path("/etc/machine-id").read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return "unknown"


def _read_instance_data(path: Path, otherwise: int | None) -> InstanceData:
    """Our own shape, or that of cloud-init's ``instance-data.json``. Raises ConfigError.

    ``otherwise``: the index where cloud-init was not told one.
    """
    found = _load(path)
    if not _is_cloud_inits(found):
        machine: InstanceData = _shaped(InstanceData, found, path)
        return machine
    sensitive = path.with_name(SENSITIVE_FILE)
    index = _first(found, "ds", "meta_data", keys=INDEX_KEYS)
    if index is None and sensitive.exists():
        found = _load(sensitive)
        index = _first(found, "ds", "meta_data", keys=INDEX_KEYS)
    if index is None:
        index = otherwise
    if index is None:
        raise ConfigError(
            f"{path}: ds.meta_data has no {INDEX_KEYS[0]}: the cloud did not say which machine "
            "of its launch this is (does its driver know how to tell cloud-init?)"
        )
    base = _first(found, "ds", "meta_data", "tags", "instance", keys=(INDEX_BASE_TAG,)) or 0
    try:
        number = int(str(base)) + int(str(index))
    except ValueError:
        raise ConfigError(f"{path}: {INDEX_KEYS[0]} is not a number") from None
    cloud_id = _first(found, "v1", keys=_ID_KEYS) or _first(found, "ds", "meta_data", keys=_ID_KEYS)
    return InstanceData(launch_index=number, cloud_id=str(cloud_id or ""))


def _is_cloud_inits(found: Any) -> bool:
    return isinstance(found, dict) and "launch_index" not in found and bool({"ds", "v1"} & {*found})


def _first(found: Any, *sections: str, keys: tuple[str, ...]) -> Any:
    """The first of ``keys`` that is there; what has another shape than expected has none."""
    for name in sections:
        found = found.get(name) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        return None
    return next((found[key] for key in keys if found.get(key) not in (None, "")), None)


def _parse(kind: type[Any], path: Path) -> Any:
    return _shaped(kind, _load(path), path)


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise ConfigError(f"{path} can't be read: {problem.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text") from None
    except ValueError as problem:
        # The message of json names a position, never the text around it: no secret leaks.
        raise ConfigError(f"{path} is not JSON: {problem}") from None


def _shaped(kind: type[Any], found: Any, path: Path) -> Any:
    try:
        return from_wire(kind, found)
    except MalformedMessage as problem:
        raise ConfigError(f"{path}: {problem}") from None
