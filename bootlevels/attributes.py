"""References in a plan's texts and what they stand for. PURE.

====================  ==========================================================
``${service.attr}``   attribute or output of a service in a lower level
``${.attr}``          the service's own
``${global.name}``    a global of the plan, or ``-g name=value``
``${run_name}`` …     built-ins: RUN_BUILT_INS, and SERVICE_BUILT_INS of the service itself
``$${``               the two characters ``${``
====================  ==========================================================

Every reference of a text is resolved, also those inside declared attributes and globals.
What a program wrote into its ``bootout.json`` is data: never read for references again. A
declared value that is ``env:NAME`` as a whole is the variable NAME of the environment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bootlevels.plan import LaunchPlan, ServiceKind, ServiceSpec

SELF = "."
GLOBAL = "global"
RUN = ""

#: Known for every run.
RUN_BUILT_INS = ("run_name", "run_dir", "plan_dir", "python")
#: Known for every service; machines will add ``instance_id`` and ``private_ip``.
SERVICE_BUILT_INS = ("name", "hostname")
#: Longest text that references may grow to.
MAX_LENGTH = 64_000

ENVIRONMENT = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)\Z")
_OPEN = re.compile(r"\$?\$\{")
_INSIDE = re.compile(
    r"(?:(?P<owner>\.|[A-Za-z][A-Za-z0-9_-]*\.))?(?P<name>[A-Za-z_][A-Za-z0-9_-]*)\Z"
)


class MalformedReference(ValueError):
    """A ``${`` that is not a reference; the text says how it should look."""


class Unresolved(LookupError):
    """A reference that has no value (yet); the text says which and why."""


@dataclass(frozen=True)
class Reference:
    """``owner``: a service's name, SELF, GLOBAL or RUN (a built-in)."""

    owner: str
    name: str

    def __str__(self) -> str:
        dot = "" if self.owner in (SELF, RUN) else "."
        return f"${{{self.owner}{dot}{self.name}}}"


def split(text: str) -> tuple[str | Reference, ...]:
    """``text`` as literal pieces and references. Raises MalformedReference."""
    parts: list[str | Reference] = []
    literal, at = "", 0
    for found in _OPEN.finditer(text):
        if found.start() < at:
            continue
        literal += text[at : found.start()]
        if found.group() == "$${":
            literal, at = literal + "${", found.end()
            continue
        end = text.find("}", found.end())
        if end < 0:
            raise MalformedReference(f"'{text[found.start() :][:40]}' has no closing brace")
        inside = _INSIDE.match(text[found.end() : end])
        if inside is None:
            raise MalformedReference(
                f"'{text[found.start() : end + 1][:60]}' is not a reference: "
                "write ${service.attribute}, ${.attribute}, ${global.name} or a built-in"
            )
        if literal:
            parts.append(literal)
        owner = inside["owner"] or RUN
        parts.append(Reference(owner if owner == SELF else owner.rstrip("."), inside["name"]))
        literal, at = "", end + 1
    literal += text[at:]
    if literal or not parts:
        parts.append(literal)
    return tuple(parts)


def references(text: str) -> tuple[Reference, ...]:
    """Only the references of ``text``. Raises MalformedReference."""
    return tuple(part for part in split(text) if isinstance(part, Reference))


def built_ins_of(service: ServiceSpec) -> dict[str, str]:
    """SERVICE_BUILT_INS that ``service`` has: a pool is on no one host."""
    built_ins = {"name": service.name}
    if service.kind is ServiceKind.LOCAL:
        built_ins["hostname"] = "localhost"
    return built_ins


@dataclass
class Attributes:
    """Values of one plan in one run.

    ``run``: the values of RUN_BUILT_INS; ``outputs``: by service, what boot programs
    gave; ``environment``: for ``env:NAME``.
    """

    plan: LaunchPlan
    run: Mapping[str, str]
    outputs: Mapping[str, Mapping[str, str]]
    environment: Mapping[str, str]
    _open: list[tuple[str, str]] = field(default_factory=list, init=False)

    def expand(self, text: str, service: ServiceSpec | None = None) -> str:
        """``text`` with every reference resolved. Raises Unresolved, MalformedReference."""
        expanded = ""
        for part in split(text):
            expanded += self.value(part, service) if isinstance(part, Reference) else part
            if len(expanded) > MAX_LENGTH:
                raise Unresolved(f"'{text[:40]}' grows beyond {MAX_LENGTH} characters")
        return expanded

    def declared(self, text: str, service: ServiceSpec | None = None) -> str:
        """A declared value: ``env:NAME`` from the environment, else as ``expand``."""
        found = ENVIRONMENT.match(text)
        if found is None:
            return self.expand(text, service)
        if found[1] not in self.environment:
            raise Unresolved(f"the environment has no {found[1]}")
        return self.environment[found[1]]

    def expand_tree(self, value: Any, service: ServiceSpec | None = None) -> Any:
        """``value`` with all texts in it expanded; keys are left as they are."""
        if isinstance(value, str):
            return self.expand(value, service)
        if isinstance(value, Mapping):
            return {key: self.expand_tree(inner, service) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.expand_tree(inner, service) for inner in value]
        return value

    def of(self, name: str) -> dict[str, str]:
        """Every attribute of service ``name`` that has a value now."""
        service = self.plan.service(name)
        known: dict[str, str] = {}
        names = {*built_ins_of(service), *service.attributes, *self.outputs.get(name, {})}
        for attribute in sorted(names):
            try:
                known[attribute] = self.value(Reference(SELF, attribute), service)
            except Unresolved:
                continue
        return known

    def value(self, reference: Reference, service: ServiceSpec | None = None) -> str:
        """What ``reference`` stands for when ``service`` uses it. Raises Unresolved."""
        if reference.owner == RUN:
            if reference.name in self.run:
                return self.run[reference.name]
            if reference.name not in SERVICE_BUILT_INS:
                raise Unresolved(f"'{reference}' is not a built-in")
        if reference.owner == GLOBAL:
            if reference.name not in self.plan.globals:
                raise Unresolved(f"there is no global '{reference.name}'")
            return self._nested(reference, self.plan.globals[reference.name], None)
        owner = service
        if reference.owner not in (SELF, RUN):
            try:
                owner = self.plan.service(reference.owner)
            except KeyError:
                raise Unresolved(f"there is no service '{reference.owner}'") from None
        if owner is None:
            raise Unresolved(f"'{reference}' has a meaning only inside a service")
        outputs = self.outputs.get(owner.name, {})
        if reference.name in outputs:
            return outputs[reference.name]
        if reference.name in owner.attributes:
            return self._nested(reference, owner.attributes[reference.name], owner)
        built_ins = built_ins_of(owner)
        if reference.name in built_ins:
            return built_ins[reference.name]
        if reference.name in owner.outputs:
            raise Unresolved(f"'{owner.name}' did not provide its output '{reference.name}'")
        raise Unresolved(f"'{owner.name}' has no attribute '{reference.name}'")

    def _nested(self, reference: Reference, text: str, owner: ServiceSpec | None) -> str:
        key = (owner.name if owner else GLOBAL, reference.name)
        if key in self._open:
            raise Unresolved(f"'{'.'.join(key)}' refers to itself")
        self._open.append(key)
        try:
            return self.declared(text, owner)
        finally:
            self._open.pop()


def declared_texts(plan: LaunchPlan) -> Iterator[tuple[str, str]]:
    """Key and text of every place where ``env:NAME`` may stand."""
    for name, text in plan.globals.items():
        yield f"globals.{name}", text
    for cloud, settings in plan.clouds.items():
        for name, text in settings.items():
            yield f"clouds.{cloud}.{name}", text
    for service in plan.services():
        here = f"services.{service.name}"
        for name, text in service.attributes.items():
            yield f"{here}.attributes.{name}", text
        for part, program in (("boot", service.boot), ("terminate", service.terminate)):
            for name, text in (program.environment if program else {}).items():
                yield f"{here}.{part}.environment.{name}", text


def secrets_of(plan: LaunchPlan, environment: Mapping[str, str]) -> frozenset[str]:
    """The values that came in as ``env:NAME``: what ``masked`` hides.

    Values shorter than four characters protect nothing and would garble every line.
    """
    names = (ENVIRONMENT.match(text) for _, text in declared_texts(plan))
    values = {environment.get(found[1], "") for found in names if found}
    return frozenset(value for value in values if len(value) >= 4)


def masked(text: str, secrets: frozenset[str]) -> str:
    """``text`` with every secret replaced by ``***``, longer secrets first."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text
