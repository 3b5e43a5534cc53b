"""What the clouds say of a plan: may we use them, and do they have what is asked for."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bootlevels.attributes import Attributes, MalformedReference, Unresolved
from bootlevels.plan import LaunchPlan
from coordinator.clouds.agent_settings import split_settings, with_our_keys
from coordinator.errors import ConfigProblem, CredentialsRejected, EpuError, LaunchRefused, Problem
from coordinator.plugins import find_plugin


def cloud_problems(
    plan: LaunchPlan, environment: Mapping[str, str], *, ask: bool = True
) -> list[Problem]:
    """What the clouds that ``plan`` uses say of it; launches nothing and leaves nothing behind.

    A driver that knows which settings a machine may have has ``check_machine(settings)``, which
    asks nobody and raises ConfigProblem or LaunchRefused. One that can say more than whether it
    lists (does this image, type, key exist?) has ``problems_of(settings) -> Sequence[str]``.
    Without ``ask`` no cloud is asked, and one whose secrets are not there is passed over.
    """
    used: dict[str, list[_Wanted]] = {}
    for service in plan.services():
        if service.machine is not None:
            wanted = _Wanted(service.name, "settings", service.machine.settings)
            used.setdefault(service.machine.cloud, []).append(wanted)
        elif service.pool is not None:
            section = service.pool.section
            # As the coordinator does where a pool names none: the first.
            for cloud in map(str, section.get("clouds") or list(plan.clouds)[:1]):
                machine = _pool_machine(section, cloud)
                used.setdefault(cloud, []).append(_Wanted(service.name, "pool.machine", machine))
    problems: list[Problem] = []
    with tempfile.TemporaryDirectory(prefix="epu-validate-") as directory:
        for cloud, wanted_there in used.items():
            if cloud in plan.clouds:
                talk = _Talk(plan, cloud, environment, Path(directory), ask)
                problems += talk.problems(wanted_there)
    return problems


@dataclass(frozen=True)
class _Wanted:
    """Machines that a service wants of a cloud; ``key`` is where it says so."""

    service: str
    key: str
    settings: Mapping[str, str]


def _pool_machine(section: Mapping[str, Any], cloud: str) -> dict[str, str]:
    """The driver's settings of a pool's machines on one cloud, as far as they are texts."""
    common = section.get("machine")
    if not isinstance(common, Mapping):
        return {}
    by_cloud = common.get("clouds")
    own = by_cloud.get(cloud) if isinstance(by_cloud, Mapping) else None
    merged = {**common, **(own if isinstance(own, Mapping) else {})}
    return {
        str(key): str(value)
        for key, value in merged.items()
        if not isinstance(value, (Mapping, list))
    }


@dataclass(frozen=True)
class _Talk:
    """With one cloud of a plan. ``ask`` False: only with its driver."""

    plan: LaunchPlan
    cloud: str
    environment: Mapping[str, str]
    directory: Path
    ask: bool

    def problems(self, wanted_there: Sequence[_Wanted]) -> list[Problem]:
        """What is wrong with the cloud, or with what is wanted of it."""
        key = f"clouds.{self.cloud}"
        attributes = Attributes(
            plan=self.plan,
            run={"run_name": self.plan.name},
            outputs={},
            environment=self.environment,
        )
        try:
            given = {k: attributes.declared(v) for k, v in self.plan.clouds[self.cloud].items()}
            settings, _ = split_settings(given, key)
            name = settings.pop("driver")
            driver = find_plugin("epu.clouds", name, f"{key}.driver").from_settings(
                settings, self.directory / self.cloud
            )
            if self.ask:
                driver.list_instances(f"validate-{os.getpid()}")
        except (Unresolved, MalformedReference) as problem:
            return [Problem(key=key, what=str(problem))] if self.ask else []
        except ConfigProblem as wrong:
            found_wrong = with_our_keys(wrong).problems if self.ask else []
            return [replace(problem, key=_below(key, problem.key)) for problem in found_wrong]
        except CredentialsRejected as problem:
            what = f"the cloud does not accept the credentials: {problem}"
            return [Problem(key=key, what=what)]
        except (EpuError, OSError) as problem:
            return [Problem(key=key, what=f"the cloud can't be asked: {problem}")]
        found: list[Problem] = []
        answers: dict[str, list[str]] = {}
        for wanted in wanted_there:
            known = _known(wanted.settings, attributes, self.plan, wanted.service)
            whole = len(known) == len(wanted.settings)
            asked = json.dumps(known, sort_keys=True)
            try:
                if asked not in answers:  # a hundred replicas are one question
                    answers[asked] = self._answers(driver, known, whole)
            except EpuError as problem:
                found.append(Problem(key=key, what=f"the cloud can't be asked: {problem}"))
                break
            where = f"services.{wanted.service}.{wanted.key}"
            found += [Problem(key=where, what=what) for what in answers[asked]]
        return found

    def _answers(self, driver: Any, machine: dict[str, str], whole: bool) -> list[str]:
        """``whole``: all settings of the machine are known before the boot."""
        check, asks = getattr(driver, "check_machine", None), getattr(driver, "problems_of", None)
        if check is not None and whole:
            try:
                check(machine)
            except ConfigProblem as wrong:
                return [str(problem) for problem in wrong.problems]
            except LaunchRefused as wrong:
                return [str(wrong)]
        return list(asks(machine)) if asks is not None and self.ask else []


def _below(key: str, inner: str) -> str:
    """Where a driver's ``inner`` key stands in the plan."""
    if not inner:
        return key
    return inner if inner.startswith(f"{key}.") else f"{key}.{inner}"


def _known(
    settings: Mapping[str, str], attributes: Attributes, plan: LaunchPlan, service: str
) -> dict[str, str]:
    """Settings that have a value before anything is booted."""
    known = {}
    for key, text in settings.items():
        try:
            known[key] = attributes.expand(text, plan.service(service))
        except (Unresolved, MalformedReference):
            continue
    return known
