"""What the clouds say of a plan: may we use them, and do they have what is asked for."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bootlevels.attributes import Attributes, MalformedReference, Unresolved
from bootlevels.plan import LaunchPlan
from coordinator.clouds.agent_settings import split_settings, with_our_keys
from coordinator.errors import ConfigProblem, CredentialsRejected, EpuError, Problem
from coordinator.plugins import find_plugin


def cloud_problems(plan: LaunchPlan, environment: Mapping[str, str]) -> list[Problem]:
    """Ask every cloud that ``plan`` uses; launches nothing and leaves nothing behind.

    A driver that can say more than whether it lists (does this image, type, key exist?)
    has ``problems_of(settings) -> Sequence[str]``.
    """
    used: dict[str, list[str]] = {}
    for service in plan.services():
        if service.machine is not None:
            used.setdefault(service.machine.cloud, []).append(service.name)
        elif service.pool is not None:
            for cloud in service.pool.section.get("clouds", ()):
                used.setdefault(str(cloud), [])
    problems: list[Problem] = []
    with tempfile.TemporaryDirectory(prefix="epu-validate-") as directory:
        for cloud, services in used.items():
            if cloud in plan.clouds:
                problems += _problems_of(plan, cloud, services, environment, Path(directory))
    return problems


def _problems_of(
    plan: LaunchPlan,
    cloud: str,
    services: list[str],
    environment: Mapping[str, str],
    directory: Path,
) -> list[Problem]:
    key = f"clouds.{cloud}"
    attributes = Attributes(
        plan=plan, run={"run_name": plan.name}, outputs={}, environment=environment
    )
    try:
        given = {k: attributes.declared(v) for k, v in plan.clouds[cloud].items()}
        settings, _ = split_settings(given, key)
        name = settings.pop("driver")
        driver = find_plugin("epu.clouds", name, f"{key}.driver").from_settings(
            settings, directory / cloud
        )
        driver.list_instances(f"validate-{os.getpid()}")
    except (Unresolved, MalformedReference) as problem:
        return [Problem(key=key, what=str(problem))]
    except ConfigProblem as wrong:
        found_wrong = with_our_keys(wrong).problems
        return [replace(problem, key=problem.key or key) for problem in found_wrong]
    except CredentialsRejected as problem:
        what = f"the cloud does not accept the credentials: {problem}"
        return [Problem(key=key, what=what)]
    except (EpuError, OSError) as problem:
        return [Problem(key=key, what=f"the cloud can't be asked: {problem}")]
    asks: Any = getattr(driver, "problems_of", None)
    found: list[Problem] = []
    for service in services if asks is not None else ():
        machine = plan.service(service).machine
        wanted = _known(machine.settings if machine else {}, attributes, plan, service)
        try:
            found += [
                Problem(key=f"services.{service}.settings", what=what) for what in asks(wanted)
            ]
        except EpuError as problem:
            found.append(Problem(key=key, what=f"the cloud can't be asked: {problem}"))
    return found


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
