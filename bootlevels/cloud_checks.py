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
from coordinator.errors import ConfigProblem, CredentialsRejected, EpuError, Problem
from coordinator.plugins import find_plugin


def cloud_problems(plan: LaunchPlan, environment: Mapping[str, str]) -> list[Problem]:
    """Ask every cloud that ``plan`` uses; launches nothing and leaves nothing behind.

    A driver that can say more than whether it lists (does this image, type, key exist?)
    has ``problems_of(settings) -> Sequence[str]``.
    """
    used: dict[str, list[_Wanted]] = {}
    for service in plan.services():
        if service.machine is not None:
            wanted = _Wanted(service.name, "settings", service.machine.settings)
            used.setdefault(service.machine.cloud, []).append(wanted)
        elif service.pool is not None:
            section = service.pool.section
            for cloud in map(str, section.get("clouds", ())):
                machine = _pool_machine(section, cloud)
                used.setdefault(cloud, []).append(_Wanted(service.name, "pool.machine", machine))
    problems: list[Problem] = []
    with tempfile.TemporaryDirectory(prefix="epu-validate-") as directory:
        for cloud, wanted_there in used.items():
            if cloud in plan.clouds:
                problems += _problems_of(plan, cloud, wanted_there, environment, Path(directory))
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


def _problems_of(
    plan: LaunchPlan,
    cloud: str,
    wanted_there: Sequence[_Wanted],
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
        return [replace(problem, key=_below(key, problem.key)) for problem in found_wrong]
    except CredentialsRejected as problem:
        what = f"the cloud does not accept the credentials: {problem}"
        return [Problem(key=key, what=what)]
    except (EpuError, OSError) as problem:
        return [Problem(key=key, what=f"the cloud can't be asked: {problem}")]
    asks: Any = getattr(driver, "problems_of", None)
    found: list[Problem] = []
    answers: dict[str, list[str]] = {}
    for wanted in wanted_there if asks is not None else ():
        known = _known(wanted.settings, attributes, plan, wanted.service)
        asked = json.dumps(known, sort_keys=True)
        try:
            if asked not in answers:  # a hundred replicas are one question
                answers[asked] = list(asks(known))
        except EpuError as problem:
            found.append(Problem(key=key, what=f"the cloud can't be asked: {problem}"))
            break
        where = f"services.{wanted.service}.{wanted.key}"
        found += [Problem(key=where, what=what) for what in answers[asked]]
    return found


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
