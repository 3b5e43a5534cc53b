"""Whether every service can be where the plan puts it, and its programs can get there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

from bootlevels.attributes import Attributes, MalformedReference, Unresolved
from bootlevels.bootconf import template_problems
from bootlevels.cloud_drivers import driver_class
from bootlevels.plan import (
    CheckKind,
    LaunchPlan,
    MachineRequest,
    Program,
    ServiceKind,
    ServiceSpec,
    TransportKind,
)
from bootlevels.staging import agent_is_default, carried_file
from bootlevels.transports.staged import tarball_problem
from coordinator.errors import ConfigProblem, Problem, did_you_mean
from userdata_templates.render import known_templates

_PLACES = (ServiceKind.LOCAL, ServiceKind.MACHINE, ServiceKind.HOST, ServiceKind.RESIDENT)
#: Drivers that say nothing else read what most clouds read.
_USUAL_FORM = "cloud-init"
_MAX_TEMPLATE = 1_000_000


def place_problems(
    plan: LaunchPlan, service: ServiceSpec, known: Attributes, unsure: frozenset[str] = frozenset()
) -> Iterator[Problem]:
    """Everything wrong with where ``service`` is and with the files it takes along.

    Nothing is said of what depends on a service in ``unsure``.
    """
    here = f"services.{service.name}"
    if service.kind is ServiceKind.RESIDENT:
        if service.on in unsure:
            return
        found = list(_landlord_problems(plan, service, here))
        yield from found
        if found:
            return
    home = plan.landlord(service)
    driver = _driver(plan, home.machine) if home.machine else None
    if service.machine is not None:
        yield from _machine_problems(plan, service, service.machine, driver, known)
    yield from _transport_problems(plan, service, home, driver)
    yield from _file_problems(service, known)
    if service.programs:
        is_local = ServiceKind.LOCAL is home.kind or service.transport is TransportKind.LOCAL
        for part, program in service.programs:
            yield from _program_problems(f"{here}.{part}.run", service, program, known, is_local)
    for at, check in enumerate(service.ready):
        if check.kind is CheckKind.POOL:
            yield from _pool_check_problems(plan, f"{here}.ready[{at}].pool", check.target)


def find_program(word: str, directory: str) -> str | None:
    """The path of program ``word`` on this machine: relative paths are from ``directory``,
    names from PATH.
    """
    if "/" not in word:
        return shutil.which(word)
    path = os.path.join(directory, word)
    return path if os.path.isfile(path) and os.access(path, os.X_OK) else None


def _landlord_problems(plan: LaunchPlan, service: ServiceSpec, here: str) -> Iterator[Problem]:
    level = plan.level_of(service.name)
    try:
        landlord = plan.service(service.on)
    except KeyError:
        below = [s.name for s in plan.services() if plan.level_of(s.name) < level]
        remedy = did_you_mean(service.on, below)
        yield Problem(key=f"{here}.on", what=f"unknown service '{service.on}'", remedy=remedy)
        return
    if plan.level_of(landlord.name) >= level:
        what = f"'{landlord.name}' is not in a lower level, so its machine is not there yet"
        remedy = f"move '{service.name}' to a level above it"
        yield Problem(key=f"{here}.on", what=what, remedy=remedy)
    elif landlord.kind not in _PLACES:
        yield Problem(key=f"{here}.on", what=f"'{landlord.name}' is not on any one machine")


def _driver(plan: LaunchPlan, machine: MachineRequest) -> Any:
    try:
        return driver_class(machine.cloud, plan.clouds.get(machine.cloud, {}))
    except ConfigProblem:
        return None  # reported with the cloud


def _machine_problems(
    plan: LaunchPlan,
    service: ServiceSpec,
    machine: MachineRequest,
    driver: Any,
    known: Attributes,
) -> Iterator[Problem]:
    here = f"services.{service.name}"
    if machine.cloud not in plan.clouds:
        remedy = did_you_mean(machine.cloud, plan.clouds)
        yield Problem(key=f"{here}.cloud", what=f"unknown cloud '{machine.cloud}'", remedy=remedy)
        return
    if driver is None:
        return
    form = getattr(driver, "user_data_form", _USUAL_FORM)
    if machine.template:
        templates = known_templates()
        forms = templates.get(machine.template, ())
        if form not in forms:
            fitting = [name for name, has in templates.items() if form in has]
            what = f"there is no template '{machine.template}' for cloud '{machine.cloud}'"
            remedy = did_you_mean(machine.template, fitting)
            yield Problem(key=f"{here}.template", what=f"{what} ({form})", remedy=remedy)
    if machine.user_data:
        key = f"{here}.user_data"
        if form == "agent-config":
            what = f"machines of cloud '{machine.cloud}' read no user-data but an agent's"
            yield Problem(key=key, what=what, remedy="use boot programs")
        else:
            yield from _template_problems(key, machine.user_data, service, known, launch=True)


def _transport_problems(
    plan: LaunchPlan, service: ServiceSpec, home: ServiceSpec, driver: Any
) -> Iterator[Problem]:
    here = f"services.{service.name}"
    kind = service.transport or home.transport
    if kind is TransportKind.AGENT:
        yield from _agent_problems(plan, service, home, here)
        return
    if home.kind is not ServiceKind.MACHINE or driver is None:
        return
    if kind is None and agent_is_default(plan, home):
        return
    has_exec = hasattr(driver, "exec_command")
    if kind is TransportKind.EXEC and not has_exec:
        what = f"cloud '{home.machine.cloud if home.machine else ''}' has no way of its own"
        yield Problem(key=f"{here}.transport", what=what, remedy="write ssh: {user: …, key: …}")
    elif kind is None and not has_exec and home.ssh is None and service.programs:
        what = "its programs have no way to the machine"
        remedy = "write ssh: {user: …, key: …}, or transport: none and checks only"
        yield Problem(key=f"{here}.{service.programs[0][0]}", what=what, remedy=remedy)


def _agent_problems(
    plan: LaunchPlan, service: ServiceSpec, home: ServiceSpec, here: str
) -> Iterator[Problem]:
    registrar = plan.registrar()
    remedy = "use exec, ssh, or none with user-data and checks"
    if registrar is None:
        what = "no service provides the registrar, so no agent can enrol"
    elif plan.level_of(registrar.name) >= plan.level_of(service.name):
        what = f"no agent can enrol before '{registrar.name}', the registrar, is booted"
    elif home.machine is not None and not (home.machine.template or home.machine.user_data):
        what, remedy = "nothing starts an agent on its machine", "write template: …"
    else:
        return
    yield Problem(key=f"{here}.transport", what=what, remedy=remedy)


def _file_problems(service: ServiceSpec, known: Attributes) -> Iterator[Problem]:
    here = f"services.{service.name}"
    if service.ssh is not None:
        for name in ("key", "known_hosts"):
            path = _path(getattr(service.ssh, name), service, known)
            if path and not os.path.isfile(path):
                yield Problem(key=f"{here}.ssh.{name}", what=f"there is no file '{path}'")


def _template_problems(
    key: str, file: str, service: ServiceSpec, known: Attributes, *, launch: bool
) -> Iterator[Problem]:
    path = _path(file, service, known)
    if not path:
        return
    try:
        with open(path, "rb") as opened:
            text = opened.read(_MAX_TEMPLATE + 1).decode()
    except (OSError, ValueError) as problem:
        said = problem.strerror if isinstance(problem, OSError) else "is not a UTF-8 text"
        yield Problem(key=key, what=f"'{path}' can't be read: {said}")
        return
    names = dict.fromkeys((*service.attributes, "name", "run_name"))
    for what in template_problems(text, names):
        yield Problem(key=key, what=f"'{path}': {what}")


def _program_problems(
    key: str, service: ServiceSpec, program: Program, known: Attributes, is_local: bool
) -> Iterator[Problem]:
    try:
        first = known.expand(program.words[0], service)
    except (Unresolved, MalformedReference):
        return  # known at boot only, or reported already
    carried = carried_file(program, first, known.plan.directory)
    remedy = "a name on PATH, or a path relative to the plan"
    if carried is not None and carried.inside:
        wrong = tarball_problem(str(carried.path), carried.inside)
        if not carried.path.is_file():
            wrong = "is not there"
        if wrong:
            yield Problem(key=key, what=f"program '{first}' {wrong}")
    elif carried is not None:
        runs = program.staged or os.access(carried.path, os.X_OK)
        if not carried.path.is_file() or not runs:
            yield Problem(key=key, what=f"there is no program '{first}'", remedy=remedy)
    elif is_local and find_program(first, known.plan.directory) is None:
        yield Problem(key=key, what=f"there is no program '{first}'", remedy=remedy)


def _pool_check_problems(plan: LaunchPlan, key: str, target: str) -> Iterator[Problem]:
    pools = [s.name for s in plan.services() if s.kind is ServiceKind.POOL]
    if target not in pools:
        yield Problem(
            key=key, what=f"there is no pool '{target}'", remedy=did_you_mean(target, pools)
        )


def _path(text: str, service: ServiceSpec, known: Attributes) -> str:
    """A file of this machine, lexically; empty when there is none or it is not known yet."""
    if not text:
        return ""
    try:
        return os.path.join(known.plan.directory, os.path.expanduser(known.expand(text, service)))
    except (Unresolved, MalformedReference):
        return ""
