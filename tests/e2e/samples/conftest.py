"""A shipped sample, booted as its README says, looked at, and torn down with a receipt."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.messages import BrokerAccess
from coordinator.config import read_access


@dataclass
class Booted:
    """One booted sample; the run has its name. ``system`` is a System that looks at it."""

    name: str
    home: Path
    environment: dict[str, str]
    system: Any

    @property
    def directory(self) -> Path:
        return self.home / "runs" / self.name

    def epu(self, *words: str, code: int = 0) -> str:
        """What ``epu`` with ``words`` prints; it must end with ``code``."""
        done = subprocess.run(
            [sys.executable, "-m", "mgmt.cli", *words],
            env={**os.environ, "EPU_HOME": str(self.home), **self.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert done.returncode == code, f"epu {words}: {done.returncode} {done.stdout}{done.stderr}"
        return done.stdout

    def json(self, *words: str) -> Any:
        return json.loads(self.epu(*words, "--json"))

    def pool(self, name: str) -> dict[str, Any]:
        """What the controller says of a pool now."""
        found: dict[str, Any] = self.system.call("controller", "pool", name)
        return found

    def clouds_of(self, pool: str) -> list[str]:
        """The clouds of its running nodes, sorted."""
        found = self.system.call("management", "nodes", pool)["nodes"]
        return sorted(one["cloud"] for one in found if one["state"] == "RUNNING")

    def attributes(self, service: str) -> dict[str, str]:
        """The attributes of one of the plan's services."""
        found = {one["name"]: one for one in self.json("status", self.name)["services"]}
        return dict(found[service]["attributes"])


Boot = Callable[..., Booted]


@pytest.fixture
def boot(
    tmp_path: Path, broker: BrokerAccess, system_in: Callable[[Path, str], Any]
) -> Iterator[Boot]:
    """``boot(plan, *words)`` boots it; at the end it is taken down and nothing may be left.

    All samples share the tests' broker, each in a virtual host of its own, as with
    ``EPU_BROKER_URL``: that saves a broker's start and end each time.
    """
    shared = {
        "EPU_BROKER_URL": broker.amqp_url("admin"),
        "EPU_BROKER_MANAGEMENT_URL": str(broker.management_url),
    }
    started: list[Booted] = []

    def start(plan: str, *words: str, code: int = 0) -> Booted:
        home = tmp_path / "home"
        found = Booted(plan, home, shared, system_in(home / "runs" / plan, plan))
        started.append(found)
        found.epu("boot", plan, "-n", plan, "-q", *words, code=code)
        found.system.access = read_access(found.system.accounts)
        return found

    try:
        yield start
        for found in started:
            found.epu("teardown", found.name, "--now")
            receipt = json.loads((found.directory / "receipt.json").read_text())
            assert receipt["clean"] is True
            assert found.system.processes_left() == []
    finally:
        for found in started:
            found.system.end()
