"""What must hold of a plan beyond its references; for every reader of plans.

Pools are parsed as the coordinator will parse them, programs must exist, and there must
be a way to the coordinator. Keys of the problems are ``services.<name>.<key>``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from bootlevels.attribute_graph import uses_of
from bootlevels.attributes import ENVIRONMENT, Attributes, MalformedReference, Unresolved
from bootlevels.place_checks import place_problems
from bootlevels.plan import LaunchPlan, ServiceSpec
from coordinator.clouds.agent_settings import split_settings
from coordinator.errors import ConfigProblem, Problem, did_you_mean
from coordinator.plugins import find_plugin
from coordinator.pool_spec import parse_pool

#: Stands for what only the boot will tell.
_NOT_YET = "x"


def plan_problems(
    plan: LaunchPlan, environment: Mapping[str, str], unsure: frozenset[str]
) -> list[Problem]:
    """Everything wrong with ``plan`` but its references; ``unsure`` services are left out."""
    # Without run_dir: nothing in it is there yet, so what refers to it can't be checked.
    run = {"run_name": plan.name, "plan_dir": plan.directory, "python": sys.executable}
    known = Attributes(plan=plan, run=run, outputs={}, environment=environment)
    problems = list(_cloud_problems(plan))
    for service in plan.services():
        if service.name in unsure:
            continue
        problems += _registrar_problems(plan, service, unsure)
        problems += place_problems(plan, service, known, unsure)
        if service.pool:
            problems += _pool_problems(plan, service, known)
        problems += _keeping_problems(plan, service, unsure)
    return problems


def _cloud_problems(plan: LaunchPlan) -> Iterator[Problem]:
    for name, settings in plan.clouds.items():
        driver = settings.get("driver")
        if driver is None:
            yield Problem(key=f"clouds.{name}.driver", what="is missing")
            continue
        try:
            find_plugin("epu.clouds", driver, f"clouds.{name}.driver")
            if not any("${" in text or ENVIRONMENT.match(text) for text in settings.values()):
                split_settings(settings, f"clouds.{name}")
        except ConfigProblem as found:
            yield from found.problems


def _registrar_problems(
    plan: LaunchPlan, service: ServiceSpec, unsure: frozenset[str]
) -> Iterator[Problem]:
    here = f"services.{service.name}"
    registrar = plan.registrar()
    if registrar is service and not {"accounts"} & {*service.attributes, *service.outputs}:
        what = "whoever provides the registrar has an attribute or output 'accounts'"
        yield Problem(key=f"{here}.provides", what=what, remedy="the path of an accounts.json")
    if registrar not in (None, service) and service.provides:
        yield Problem(key=f"{here}.provides", what="another service provides the registrar too")
    if service.pool is None or (registrar is None and unsure):
        return
    if registrar is None or plan.level_of(registrar.name) >= plan.level_of(service.name):
        yield Problem(
            key=f"{here}.pool",
            what="no coordinator below it that could keep the pool",
            remedy="a service of a lower level has provides: [registrar]",
        )


def _keeping_problems(
    plan: LaunchPlan, service: ServiceSpec, unsure: frozenset[str]
) -> Iterator[Problem]:
    """A pool that says whose it is must be one, come later, and be nobody else's."""
    key = f"services.{service.name}.keeps"
    pools = {one.name for one in plan.services() if one.pool is not None}
    for name in service.keeps:
        if name not in pools:
            if name not in unsure:
                yield Problem(key=key, what=f"no pool '{name}'", remedy=did_you_mean(name, pools))
        elif plan.level_of(name) <= plan.level_of(service.name):
            what = f"the pool {name} is not in a higher level than this, its controller"
            yield Problem(key=key, what=what, remedy="move one of them")
        others = [one.name for one in plan.services() if one is not service and name in one.keeps]
        if service.keeps.count(name) > 1 or others:
            yield Problem(key=key, what=f"the pool {name} is kept twice: {', '.join(others)}")


def _pool_problems(plan: LaunchPlan, service: ServiceSpec, known: Attributes) -> Iterator[Problem]:
    assert service.pool is not None
    here = f"services.{service.name}.pool"
    guessed = {use.key for use in uses_of(service) if _is_guess(use.text, service, known)}
    section = _filled(service.pool.section, service, known)
    try:
        spec = parse_pool(service.name, section, key=here)
    except ConfigProblem as found:
        for problem in found.problems:
            if not any(_same_place(key, problem.key) for key in guessed):
                yield problem
        return
    for cloud in spec.clouds:
        if plan.clouds and cloud not in plan.clouds and f"{here}.clouds" not in str(guessed):
            remedy = did_you_mean(cloud, plan.clouds)
            yield Problem(key=f"{here}.clouds", what=f"unknown cloud '{cloud}'", remedy=remedy)


def _is_guess(text: str, service: ServiceSpec, known: Attributes) -> bool:
    try:
        known.expand(text, service)
    except (Unresolved, MalformedReference):
        return True
    return False


def _same_place(guessed: str, key: str) -> bool:
    """Whether a problem at ``key`` may come from the guessed value at ``guessed``."""
    plain = guessed.replace("[", ".").replace("]", "")
    return plain == key or plain.startswith(f"{key}.")


def _filled(value: Any, service: ServiceSpec, known: Attributes) -> Any:
    if isinstance(value, str):
        return _NOT_YET if _is_guess(value, service, known) else known.expand(value, service)
    if isinstance(value, Mapping):
        return {key: _filled(inner, service, known) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(inner, service, known) for inner in value]
    return value
