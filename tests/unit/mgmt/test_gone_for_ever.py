"""A run whose broker and provisioner are gone for ever, with workers on hard-mode EC2.

The cloud's own word is all that is left: the tags of its machines.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from coordinator.clouds.base import LaunchRequest
from coordinator.clouds.ec2 import Ec2Cloud
from coordinator.config import cloud_directory
from mgmt.cli import epu
from mgmt.exit_codes import ExitCode
from tests.hard_ec2 import HardEc2
from tests.hard_ec2.account import IMAGE

RUN = "lost"
PLAN = """
plan: lost
levels:
  - services:
      provisioner:
        local: true
        provides: [registrar]
        attributes: {accounts: "%s/accounts.json", state_dir: "%s/coordinator"}
        boot: {run: [touch, "%s/standing"]}
        terminate: {run: [rm, "%s/standing"]}
"""


def run(*words: str) -> Result:
    return CliRunner().invoke(epu, list(words), prog_name="epu")


def launched(ec2: HardEc2, settings: dict[str, str], state_dir: Path, name: str) -> None:
    request = LaunchRequest(
        launch_id=f"web-{name}", run=name, pool="web", count=3, user_data="#!/bin/sh\n"
    )
    Ec2Cloud.from_settings(settings, cloud_directory(state_dir, "amazon")).launch(request)


def test_workers_on_ec2_of_a_provisioner_that_is_gone_for_ever_end_only_when_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("EPU_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("EPU_HOME", str(tmp_path / "home"))
    state_dir, standing = tmp_path / "coordinator", tmp_path / "standing"
    state_dir.mkdir()
    with HardEc2() as ec2:
        settings = {
            "region": "us-east-1",
            "endpoint": ec2.url,
            "access_key": "AKIATEST",
            "secret_key": "secret",
            "image": IMAGE,
            "type": "c5.large",
            "consistency_window": "0",
        }
        config: dict[str, Any] = {"epu": {"clouds": {"amazon": {"driver": "ec2", **settings}}}}
        (state_dir / "config.yaml").write_text(yaml.safe_dump(config))
        (tmp_path / "plan.yaml").write_text(PLAN % ((tmp_path,) * 4))
        assert run("boot", str(tmp_path / "plan.yaml"), "-n", RUN, "-q").exit_code == 0
        for name in (RUN, "other"):
            launched(ec2, settings, state_dir, name)
        ours = {f"web-{RUN}-{index}" for index in range(3)}
        assert len(ec2.machines) == 6

        refused = run("teardown", RUN)
        assert refused.exit_code == ExitCode.WORKERS_REMAIN, refused.output
        assert "the base system was left standing" in refused.stderr
        assert standing.exists() and len(ec2.machines) == 6

        found = run("doctor", RUN, "--json")
        assert found.exit_code == ExitCode.PROBLEM
        repairs = [one["repair"] for one in json.loads(found.stdout)["findings"] if one["repair"]]
        (offer,) = [one for one in repairs if one["action"] == "end_machines"]
        assert set(offer["subjects"]) == ours and offer["grave"]
        run("doctor", RUN, "--fix", "--yes")
        assert len(ec2.machines) == 6, "a grave repair takes a word of its own"

        run("doctor", RUN, "--fix", "--yes", "--end-workers")
        assert {machine.tags["epu:run"] for machine in ec2.machines} == {"other"}
        done = run("teardown", RUN, "--json")
        assert done.exit_code == ExitCode.WELL, done.output
        assert json.loads(done.stdout)["clean"] and not standing.exists()
        assert len(ec2.machines) == 3, "nobody else's machine was touched"
