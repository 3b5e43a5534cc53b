"""What ``docs/launch-plans.md`` shows is read without a problem."""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path

import pytest
import yaml

from bootlevels.plan import ServiceKind
from bootlevels.plan_choices import PlanChoices
from bootlevels.plan_source import read_launch_plan
from coordinator.pool_spec import parse_pool

PAGE = Path(__file__).parents[3] / "docs" / "launch-plans.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The files that the examples name."""
    for directory in ("base", "web", "common"):
        (tmp_path / directory).mkdir()
    for name in (
        "start-db.sh", "stop-db.sh", "base/start-db.sh", "base/stop-db.sh", "common/ready.sh",
    ):  # fmt: skip
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    for name in ("web.tar.gz", "web/admin.tar.gz"):
        with tarfile.open(tmp_path / name, "w:gz") as packed:
            packed.addfile(tarfile.TarInfo("run.sh"), io.BytesIO())
    (tmp_path / "web.json").write_text('{"database": "$database"}')
    (tmp_path / "base/db.json").write_text('{"port": $port}')
    (tmp_path / "common.yaml").write_text("globals: {}\n")
    (tmp_path / "common/deps.conf").write_text("[deps]\nsite: here\n")
    (tmp_path / "web/level.conf").write_text("[svc-notes]\nlocal_exe: true\n")
    return tmp_path


@pytest.mark.parametrize("profile", ["", "small"])
def test_the_native_example_is_a_plan(profile: str, site: Path) -> None:
    text, *_ = blocks("yaml")
    (site / "shop.yaml").write_text(text)
    choices = PlanChoices(profile=profile, environment={"DB_PASSWORD": "x"})
    plan = read_launch_plan(site / "shop.yaml", choices).plan
    names = ["database", "web-0"] if profile else ["database", "web-0", "web-1"]
    assert [service.name for service in plan.services()] == names


def test_the_machines_of_a_pool_are_chosen_as_the_page_says() -> None:
    _, text, _ = blocks("yaml")
    spec = parse_pool("web", yaml.safe_load(text)["pool"])
    assert spec.clouds == ("onprem", "ec2")
    assert spec.machine_on("ec2") == {"disk": "20", "image": "ami-0abc", "type": "m5.large"}


def test_the_classic_example_is_a_plan(site: Path) -> None:
    top, level, upper, deps = blocks("ini")
    (site / "main.conf").write_text(top)
    (site / "base/level.conf").write_text(level)
    (site / "web/level.conf").write_text(upper)
    (site / "base/db.conf").write_text(deps)
    environment = {"IAAS_KEY": "k", "IAAS_SECRET": "s", "DB_PASSWORD": "p"}
    choices = PlanChoices(
        environment=environment, remapped={"default": "process", "lab": "process"}
    )
    reading = read_launch_plan(site / "main.conf", choices)
    assert reading.warnings == ()
    kinds = [service.kind for service in reading.plan.services()]
    assert kinds == [ServiceKind.MACHINE, ServiceKind.RESIDENT]
