"""What ``validate`` adds: the clouds are asked, and nothing is launched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bootlevels import cloud_checks
from bootlevels.cloud_checks import cloud_problems
from bootlevels.plan import (
    BootLevel,
    LaunchPlan,
    MachineRequest,
    PoolRequest,
    ServiceKind,
    ServiceSpec,
)
from coordinator.clouds.ec2 import Ec2Cloud
from coordinator.errors import CredentialsRejected, RetryLater

WEB = ServiceSpec(
    name="web",
    kind=ServiceKind.MACHINE,
    machine=MachineRequest(cloud="west", settings={"image": "old"}, timeout=1.0),
)


def plan(**settings: str) -> LaunchPlan:
    return LaunchPlan(
        name="p",
        clouds={"west": {"driver": "asked", **settings}, "unused": {"driver": "asked"}},
        levels=(BootLevel(number=1, services=(WEB,)),),
    )


class AskedCloud:
    """Answers as ``answer`` says; knows which images there are."""

    answer: Exception | None = None
    given: Mapping[str, str] = {}
    asked = 0

    @classmethod
    def from_settings(cls, settings: Mapping[str, str], state_dir: Path) -> AskedCloud:
        cls.given = dict(settings)
        return cls()

    def list_instances(self, run: str) -> Sequence[Any]:
        type(self).asked += 1
        if self.answer is not None:
            raise self.answer
        return []

    def problems_of(self, settings: Mapping[str, str]) -> list[str]:
        return [f"there is no image '{settings['image']}'"]


@pytest.fixture(autouse=True)
def cloud(monkeypatch: pytest.MonkeyPatch) -> type[AskedCloud]:
    monkeypatch.setattr(cloud_checks, "find_plugin", lambda *_: AskedCloud)
    monkeypatch.setattr(AskedCloud, "answer", None)
    monkeypatch.setattr(AskedCloud, "asked", 0)
    return AskedCloud


def test_a_cloud_says_what_it_has_not(cloud: type[AskedCloud]) -> None:
    (problem,) = cloud_problems(plan(), {})
    assert problem.key == "services.web.settings"
    assert problem.what == "there is no image 'old'"
    assert cloud.asked == 1, "a cloud that no service uses is not asked"


def test_rejected_credentials_are_a_problem_of_the_cloud(cloud: type[AskedCloud]) -> None:
    cloud.answer = CredentialsRejected("signature")
    (problem,) = cloud_problems(plan(), {})
    assert problem.key == "clouds.west"
    assert "does not accept the credentials" in problem.what


def test_a_cloud_that_can_not_be_asked_is_said(cloud: type[AskedCloud]) -> None:
    cloud.answer = RetryLater("throttled")
    assert cloud_problems(plan(), {})[0].what == "the cloud can't be asked: throttled"


def test_secrets_come_from_the_environment(cloud: type[AskedCloud]) -> None:
    (problem,) = cloud_problems(plan(key="env:MY_KEY"), {})
    assert problem.what == "the environment has no MY_KEY"
    cloud_problems(plan(key="env:MY_KEY"), {"MY_KEY": "k"})
    assert cloud.given == {"key": "k"}


def test_the_machines_of_a_pool_are_asked_about_with_what_they_have_on_that_cloud() -> None:
    machine = {"image": "common", "clouds": {"west": {"image": "western"}}}
    section = {"clouds": ["west"], "machine": machine}
    pool = ServiceSpec(
        name="crowd", kind=ServiceKind.POOL, pool=PoolRequest(section=section, timeout=1.0)
    )
    levels = (BootLevel(number=1, services=(pool,)),)
    (problem,) = cloud_problems(
        LaunchPlan(name="p", clouds={"west": {"driver": "asked"}}, levels=levels), {}
    )
    assert problem.key == "services.crowd.pool.machine"
    assert problem.what == "there is no image 'western'"


@pytest.mark.parametrize("named", [["west"], []])
def test_what_no_machine_can_be_is_said_by_the_driver_and_no_cloud_is_asked(
    cloud: type[AskedCloud], monkeypatch: pytest.MonkeyPatch, named: list[str]
) -> None:
    """A pool that names no cloud is on the first one."""
    monkeypatch.setattr(cloud_checks, "find_plugin", lambda *_: Ec2Cloud)
    settings = {"driver": "ec2", "region": "r", "access_key": "k", "secret_key": "s"}
    section = {"clouds": named, "machine": {"type": "t3.small", "imgae": "ami-1"}}
    pool = ServiceSpec(
        name="crowd", kind=ServiceKind.POOL, pool=PoolRequest(section=section, timeout=1.0)
    )
    levels = (BootLevel(number=1, services=(pool,)),)
    asked = LaunchPlan(name="p", clouds={"west": settings}, levels=levels)
    (problem,) = cloud_problems(asked, {}, ask=False)
    assert problem.key == "services.crowd.pool.machine"
    assert problem.what == "imgae: unknown key (did you mean 'image'?)"
    secret = {**settings, "secret_key": "env:NOT_HERE"}
    assert cloud_problems(replace(asked, clouds={"west": secret}), {}, ask=False) == []


def test_a_setting_that_only_the_boot_tells_is_not_missing() -> None:
    section = {"clouds": ["west"], "machine": {"image": "${later.image}", "clouds": {}}}
    pool = ServiceSpec(
        name="crowd", kind=ServiceKind.POOL, pool=PoolRequest(section=section, timeout=1.0)
    )
    levels = (BootLevel(number=1, services=(pool,)),)
    asked = LaunchPlan(name="p", clouds={"west": {"driver": "asked"}}, levels=levels)
    assert cloud_problems(asked, {}, ask=False) == []


def test_replicas_are_one_question(
    cloud: type[AskedCloud], monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = []
    monkeypatch.setattr(
        AskedCloud, "problems_of", lambda _, settings: questions.append(settings) or ["no"]
    )
    services = tuple(replace(WEB, name=f"web-{number}") for number in range(5))
    levels = (BootLevel(number=1, services=services),)
    problems = cloud_problems(replace(plan(), levels=levels), {})
    assert len(problems) == 5
    assert len(questions) == 1
