"""The whole graph of references, checked before anything is launched. PURE.

Both plan readers call ``reference_problems``; keys of the problems are of the form
``services.<name>.<key>``, to which the reader adds file and line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any

from bootlevels.attributes import (
    ENVIRONMENT,
    GLOBAL,
    RUN,
    RUN_BUILT_INS,
    SELF,
    SERVICE_BUILT_INS,
    MalformedReference,
    Reference,
    built_in_names,
    declared_texts,
    references,
)
from bootlevels.machine_facts import MACHINE_BUILT_INS
from bootlevels.plan import CheckKind, LaunchPlan, Program, ServiceKind, ServiceSpec
from coordinator.errors import Problem, did_you_mean


class Phase(Enum):
    """When a text is resolved: ``LAUNCH`` before the service's machine is known, ``BOOT``
    before its own outputs are.
    """

    LAUNCH = "launch"
    BOOT = "boot"
    LATER = "later"


@dataclass(frozen=True)
class Use:
    """A text at a key of the plan, and when it is resolved."""

    key: str
    text: str
    phase: Phase


def uses_of(service: ServiceSpec) -> Iterator[Use]:
    """Every text of ``service`` that may hold references."""
    here = f"services.{service.name}"
    for name, text in service.attributes.items():
        yield Use(f"{here}.attributes.{name}", text, Phase.LATER)
    yield from _program_uses(f"{here}.boot", service.boot, Phase.BOOT)
    for at, check in enumerate(service.ready):
        if check.kind is CheckKind.RUN:
            yield from _program_uses(f"{here}.ready[{at}]", check.program, Phase.LATER)
        else:
            yield Use(f"{here}.ready[{at}].{check.kind.value}", check.target, Phase.LATER)
    yield from _program_uses(f"{here}.terminate", service.terminate, Phase.LATER)
    if service.pool:
        yield from _tree_uses(f"{here}.pool", service.pool.section)
    yield from _place_uses(here, service)


def _place_uses(here: str, service: ServiceSpec) -> Iterator[Use]:
    """What says where the service is."""
    if service.machine is not None:
        for name, text in service.machine.settings.items():
            yield Use(f"{here}.settings.{name}", text, Phase.LAUNCH)
        for name, text in service.machine.variables.items():
            yield Use(f"{here}.variables.{name}", text, Phase.LAUNCH)
        yield Use(f"{here}.user_data", service.machine.user_data, Phase.LAUNCH)
    if service.host:
        yield Use(f"{here}.host", service.host, Phase.LAUNCH)
    if service.ssh is not None:
        for part in fields(service.ssh):
            yield Use(f"{here}.ssh.{part.name}", getattr(service.ssh, part.name), Phase.LAUNCH)
    if service.bootconf:
        yield Use(f"{here}.bootconf", service.bootconf, Phase.BOOT)


def _program_uses(key: str, program: Program | None, phase: Phase) -> Iterator[Use]:
    if program is None:
        return
    for word in program.words:
        yield Use(f"{key}.run", word, phase)
    for name, text in program.environment.items():
        yield Use(f"{key}.environment.{name}", text, phase)


def _tree_uses(key: str, value: Any) -> Iterator[Use]:
    if isinstance(value, str):
        yield Use(key, value, Phase.BOOT)
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _tree_uses(f"{key}.{name}", inner)
    elif isinstance(value, list | tuple):
        for at, inner in enumerate(value):
            yield from _tree_uses(f"{key}[{at}]", inner)


def reference_problems(
    plan: LaunchPlan,
    environment: Mapping[str, str] | None = None,
    unsure: frozenset[str] = frozenset(),
) -> list[Problem]:
    """Everything wrong with the references of ``plan``, each with its key.

    ``unsure``: services (and GLOBAL) that could not be read, so that what they have is
    not known. With an ``environment``, unset ``env:NAME`` variables are problems too.
    """
    graph = _Graph(plan, unsure)
    for name, text in plan.globals.items():
        graph.check(Use(f"globals.{name}", text, Phase.LATER), None)
    graph.check_circles("globals", GLOBAL, plan.globals, frozenset({GLOBAL}))
    for service in plan.services():
        for use in uses_of(service):
            graph.check(use, service)
        key = f"services.{service.name}.attributes"
        graph.check_circles(key, service.name, service.attributes, _own_owners(service))
    if environment is not None:
        for key, text in declared_texts(plan):
            found = ENVIRONMENT.match(text)
            if found and found[1] not in environment:
                what = f"the environment has no {found[1]}"
                graph.add(Problem(key=key, what=what, remedy=f"export {found[1]}=… first"))
    return graph.problems


def global_names_used(plan: LaunchPlan) -> set[str]:
    """Names of the globals that some text refers to."""
    texts = [*plan.globals.values()]
    texts += [use.text for service in plan.services() for use in uses_of(service)]
    names: set[str] = set()
    for text in texts:
        try:
            names.update(found.name for found in references(text) if found.owner == GLOBAL)
        except MalformedReference:
            continue
    return names


def _circles(texts: Mapping[str, str], inner: frozenset[str]) -> list[tuple[str, ...]]:
    """Names whose texts lead back to themselves through references of the owners ``inner``."""
    circles: list[tuple[str, ...]] = []
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            circles.append((*trail[trail.index(name) :], name))
        elif name in texts and name not in done:
            for reference in _readable(texts[name]):
                if reference.owner in inner:
                    visit(reference.name, (*trail, name))
            done.add(name)

    for name in texts:
        visit(name, ())
    return circles


def _readable(text: str) -> tuple[Reference, ...]:
    try:
        return references(text)
    except MalformedReference:
        return ()  # reported where it is written


def _own_owners(service: ServiceSpec) -> frozenset[str]:
    """The ways in which a text of ``service`` names the service itself."""
    return frozenset({SELF, service.name})


def _late_attributes(service: ServiceSpec) -> set[str]:
    """Attributes that need, at the end of a chain, an output of the service itself."""
    late = {name for name in service.outputs if name not in service.attributes}
    while True:
        more = {
            name
            for name, text in service.attributes.items()
            if name not in late
            and any(
                reference.name in late and reference.owner in _own_owners(service)
                for reference in _readable(text)
            )
        }
        if not more:
            return late
        late |= more


@dataclass
class _Graph:
    plan: LaunchPlan
    unsure: frozenset[str]
    problems: list[Problem] = field(default_factory=list)
    _levels: dict[str, int] = field(default_factory=dict)
    _late: dict[str, set[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for level in self.plan.levels:
            for service in level.services:
                self._levels[service.name] = level.number
                self._late[service.name] = _late_attributes(service)

    def add(self, problem: Problem) -> None:
        if problem not in self.problems:
            self.problems.append(problem)

    def check(self, use: Use, user: ServiceSpec | None) -> None:
        """Report what is wrong with the references of ``use``."""
        try:
            found = references(use.text)
        except MalformedReference as malformed:
            self.add(Problem(key=use.key, what=str(malformed)))
            return
        for reference in found:
            problem = self._problem(use.key, reference, user, use.phase)
            if problem is not None:
                self.add(problem)

    def check_circles(
        self, key: str, owner: str, texts: Mapping[str, str], inner: frozenset[str]
    ) -> None:
        """Report the declared ``texts`` of ``owner`` that refer to themselves."""
        for circle in _circles(texts, inner):
            shown = " → ".join(f"{owner}.{name}" for name in circle)
            self.add(Problem(key=f"{key}.{circle[0]}", what=f"refers to itself: {shown}"))

    def _problem(
        self, key: str, reference: Reference, user: ServiceSpec | None, phase: Phase
    ) -> Problem | None:
        name = reference.name
        if reference.owner == GLOBAL:
            if name in self.plan.globals or GLOBAL in self.unsure:
                return None
            near = did_you_mean(name, self.plan.globals)
            remedy = f"give it with -g {name}=…" + (f"; {near}" if near else "")
            return Problem(key=key, what=f"unknown global '{name}'", remedy=remedy)
        if reference.owner == RUN:
            if name in RUN_BUILT_INS:
                return None
            if name not in (*SERVICE_BUILT_INS, *MACHINE_BUILT_INS):
                remedy = did_you_mean(name, (*RUN_BUILT_INS, *SERVICE_BUILT_INS))
                return Problem(key=key, what=f"unknown built-in '{reference}'", remedy=remedy)
        if user is None:
            what = f"'{reference}' is not possible here"
            return Problem(key=key, what=what, remedy="use built-ins of the run and globals")
        if reference.owner in (SELF, RUN, user.name):
            return self._own_problem(key, reference, user, phase)
        return self._other_problem(key, reference, user)

    def _own_problem(
        self, key: str, reference: Reference, user: ServiceSpec, phase: Phase
    ) -> Problem | None:
        name = reference.name
        if phase is not Phase.LATER and name in self._late[user.name]:
            what = f"'{reference}' is known only after the boot program ran"
            return Problem(key=key, what=what)
        if name in user.attributes or name in user.outputs:
            return None
        if name not in built_in_names(user, self.plan):
            return self._unknown_attribute(key, name, user)
        is_machine = user.kind is ServiceKind.MACHINE
        if phase is Phase.LAUNCH and is_machine and name in MACHINE_BUILT_INS:
            return Problem(key=key, what=f"'{reference}' is known only after the launch")
        return None

    def _other_problem(self, key: str, reference: Reference, user: ServiceSpec) -> Problem | None:
        here = self._levels[user.name]
        if reference.owner in self.unsure:
            return None
        if reference.owner not in self._levels:
            below = [name for name, level in self._levels.items() if level < here]
            what = f"unknown service '{reference.owner}' in '{reference}'"
            return Problem(key=key, what=what, remedy=did_you_mean(reference.owner, below))
        there = self._levels[reference.owner]
        if there >= here:
            when = "in the same level" if there == here else f"in level {there}, which boots later"
            return Problem(
                key=key,
                what=f"'{reference}' is not known yet: '{reference.owner}' is {when}",
                remedy=f"move '{user.name}' to a level above it",
            )
        owner = self.plan.service(reference.owner)
        name = reference.name
        if name in owner.attributes or name in owner.outputs:
            return None
        if name in built_in_names(owner, self.plan):
            return None
        return self._unknown_attribute(key, name, owner)

    def _unknown_attribute(self, key: str, name: str, owner: ServiceSpec) -> Problem:
        if name in MACHINE_BUILT_INS:
            return Problem(key=key, what=f"'{owner.name}' has no '{name}': it is not a machine")
        known = {*owner.attributes, *owner.outputs, *built_in_names(owner, self.plan)}
        return Problem(
            key=key,
            what=f"'{owner.name}' has no attribute '{name}'",
            remedy=did_you_mean(name, known),
        )
