"""The coordinator's configuration: one file (mode 0600) for all its processes.

It is a nameko config file, so ``nameko run --config`` and ``nameko shell --config`` take
it: ``AMQP_URI`` at the top, ours in the section ``epu``.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from agent.broker_tls import nameko_address
from agent.keeper_names import controller_name, sensors_name
from agent.messages import BrokerAccess
from agent.wire import MalformedMessage, from_wire
from coordinator.errors import ConfigProblem, Problem

TOKEN_KEY_FILE = "token.key"


@dataclass(frozen=True, kw_only=True)
class CoordinatorConfig:
    """What every process of the coordinator is told. Paths are absolute; times seconds.

    ``clouds``: name → settings, ``driver`` among them. ``accounts``: the accounts.json of
    the broker. ``blindness_grace``: after the sensors service could not hear, silence
    counts again only so much later. ``engine_deadline``: how long a decision of an engine
    that is not ours may take. ``pool``: of a controller and a sensors service that are this
    pool's own; those without one keep every pool that has none. ``launch_deadline``: after so
    long a launch call is given up, and with it all that its cloud's process does; until then it
    holds up that cloud's launches.
    """

    run: str
    accounts: str
    state_dir: str
    clouds: dict[str, dict[str, str]] = field(default_factory=dict)
    cycle_interval: float = 1.0
    listing_interval: float = 5.0
    queue_poll_interval: float = 1.0
    loopback_interval: float = 2.0
    blindness_grace: float = 30.0
    call_timeout: float = 10.0
    engine_deadline: float = 5.0
    pool: str = ""
    launch_deadline: float = 120.0

    @property
    def default_cloud(self) -> str:
        """The cloud of a pool that names none: the first."""
        return next(iter(self.clouds), "")

    @property
    def controller_name(self) -> str:
        """The nameko service name of the controller with this configuration."""
        return controller_name(self.pool)

    @property
    def sensors_name(self) -> str:
        """The nameko service name of its sensors service."""
        return sensors_name(self.pool)

    def store_path(self, component: str) -> Path:
        return Path(self.state_dir) / f"{component}.db"


def cloud_directory(state_dir: Path | str, cloud: str) -> Path:
    """Where the driver of one cloud keeps what it needs; no two clouds share it."""
    return Path(state_dir) / "clouds" / cloud


def config_of(nameko_config: Mapping[str, Any]) -> CoordinatorConfig:
    """The section ``epu`` of a loaded nameko config. Raises ConfigProblem."""
    try:
        return from_wire(CoordinatorConfig, nameko_config.get("epu"))
    except MalformedMessage as problem:
        raise ConfigProblem([Problem(key="epu", what=str(problem))]) from None


def read_access(path: Path | str) -> BrokerAccess:
    """The broker's address and accounts from an accounts.json. Raises ConfigProblem."""
    try:
        return from_wire(BrokerAccess, json.loads(Path(path).read_text()))
    except (OSError, ValueError) as problem:
        what = problem.strerror if isinstance(problem, OSError) else str(problem)
        raise ConfigProblem(
            [Problem(where=str(path), what=f"not a readable accounts file: {what}")]
        ) from None


def config_file(pool: str = "") -> str:
    """The name of the file for all processes, or for those that are one pool's own."""
    return f"config-{pool}.yaml" if pool else "config.yaml"


def write_config(config: CoordinatorConfig) -> Path:
    """Write the ``config_file`` in ``state_dir`` and, once, the token key; both mode 0600."""
    state_dir = Path(config.state_dir)
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    access = read_access(config.accounts)
    content = {
        **nameko_address(access, "coordinator"),
        "max_workers": 50,
        "HEARTBEAT": 20,
        "epu": asdict(config),
    }
    path = state_dir / config_file(config.pool)
    _write_private(path, yaml.safe_dump(content, sort_keys=False))
    key = state_dir / TOKEN_KEY_FILE
    if not key.exists():
        _write_private(key, secrets.token_hex(32))
    return path


def read_token_key(config: CoordinatorConfig) -> bytes:
    """The key with which enrolment tokens are minted and checked."""
    return bytes.fromhex((Path(config.state_dir) / TOKEN_KEY_FILE).read_text().strip())


def _write_private(path: Path, text: str) -> None:
    """Replace ``path`` atomically by a file that only its owner can read."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)
