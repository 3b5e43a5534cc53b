"""Whether every ``$key`` of the plan's ``bootconf`` templates will have a value."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from bootlevels.attributes import SERVICE_BUILT_INS
from bootlevels.bootconf import template_keys
from bootlevels.classic_ini import Findings, read_text
from bootlevels.machine_facts import MACHINE_BUILT_INS
from bootlevels.plan import LaunchPlan, ServiceSpec
from coordinator.errors import Problem, did_you_mean

#: What a place adds to a service's attributes.
_ADDED = frozenset({*SERVICE_BUILT_INS, *MACHINE_BUILT_INS})


def bootconf_problems(
    plan: LaunchPlan, shown: Callable[[str], str], unsure: frozenset[str]
) -> list[Problem]:
    """A problem for each variable of a template that its service does not have.

    ``shown``: how people know a path. Services in ``unsure`` are left out.
    """
    found = Findings()
    templates: dict[str, Mapping[str, str]] = {}
    for service in plan.services():
        if not service.bootconf or service.name in unsure:
            continue
        path = os.path.join(plan.directory, service.bootconf)
        if not os.path.isfile(path):
            key, what = f"services.{service.name}.bootconf", f"there is no file '{shown(path)}'"
            found.problems.append(Problem(key=key, what=what))
            continue
        if path not in templates:
            templates[path] = _variables_of(path, shown(path), found)
        found.problems += _missing(service, templates[path])
    return found.problems


def _variables_of(path: str, shown: str, found: Findings) -> dict[str, str]:
    """The variables of a template, each with the place where it stands first."""
    text = read_text(Path(path), shown, found)
    if text is None:
        return {}
    variables: dict[str, str] = {}
    for line, name in template_keys(text):
        if name:
            variables.setdefault(name, f"{shown}:{line}")
        else:
            what = "a '$' that is neither '$key' nor '${key}'"
            found.problem(f"{shown}:{line}", what, remedy="write $$ for a dollar sign")
    return variables


def _missing(service: ServiceSpec, variables: Mapping[str, str]) -> list[Problem]:
    known = {*service.attributes, *_ADDED}
    problems = []
    for name, place in variables.items():
        if name in known:
            continue
        key = f"services.{service.name}.bootconf"
        if name in service.outputs:
            what = f"'${name}' is known only after the boot program ran"
            problems.append(Problem(where=place, key=key, what=what))
            continue
        remedy = did_you_mean(name, service.attributes)
        what = f"'{service.name}' has no attribute '{name}'"
        problems.append(Problem(where=place, key=key, what=what, remedy=remedy))
    return problems
