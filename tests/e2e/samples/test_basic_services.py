"""The sample "basic-services": rendered addresses, two pools, a test that fails the boot."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from coordinator.config import config_file
from coordinator.testing import eventually
from mgmt.serve import PROGRAMS
from mgmt.serve_processes import program_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def test_the_result_of_the_system_test_is_that_of_the_boot(boot: Callable[..., Any]) -> None:
    sample = boot("basic-services", "-g", "within=0", code=1)
    assert {one["name"]: one["state"] for one in sample.json("pools")["pools"]}.keys() == {
        "epu-orders",
        "epu-reports",
    }
    told = json.loads((sample.directory / "services.json").read_text())
    assert told["broker"] == sample.system.access.public_url
    assert told["datastore"].startswith("counter://127.0.0.1:")

    # Each pool has its own controller: one that is killed takes nobody with it.
    base = sample.directory / "base"
    victim = program_of(base, PROGRAMS["controller"], config_file("epu-orders"))
    assert victim is not None
    os.kill(victim.pid, signal.SIGKILL)
    assert "epu-reports" in {one["name"] for one in sample.json("pools")["pools"]}
    assert sample.json("explain", "epu-reports")["pool"] == "epu-reports"
    eventually(
        lambda: (
            sample.system.ask("controller-epu-orders", "pool", "epu-orders")["state"] == "STABLE"
        ),
        60, 0.5, "its supervisor starts it again, and it goes on with its pool",
    )  # fmt: skip
    said = sample.epu("serve", "--dir", str(base), "--check")
    assert all(f"{part}-epu-orders" in said for part in ("controller", "sensors"))

    # What is booted stays; the rest is done by the next boot, which is asked for less haste.
    sample.epu("wait", "epu-reports", "--state", "STABLE", "--timeout", "60")
    said = sample.epu("boot", "basic-services", "-n", sample.name, "-g", "within=60")
    assert "system test: 10 jobs through 2 pools" in said
    log = "".join(file.read_text() for file in (sample.directory / "logs").glob("system-test*"))
    assert "of 10 jobs were done within 0 s" in log
