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

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from bootlevels.machine_facts import MACHINE_BUILT_INS, Facts
from bootlevels.plan import LaunchPlan, ServiceKind, ServiceSpec
from bootlevels.secret_keys import is_secret_key

SELF = "."
GLOBAL = "global"
RUN = ""

#: Known for every run.
RUN_BUILT_INS = ("run_name", "run_dir", "plan_dir", "python")
#: Known for every service that is somewhere; machines add MACHINE_BUILT_INS.
SERVICE_BUILT_INS = ("name", "hostname")
#: Longest text that references may grow to.
MAX_LENGTH = 64_000

ENVIRONMENT = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)\Z")
_SEALED = re.compile(r"\0env:([A-Za-z_][A-Za-z0-9_]*)\0")
_URL_PASSWORD = re.compile(r"://[^/\s:@]*:([^/\s:@]+)@")
#: What stands for a literal secret that is not at hand (``run_secrets``).
_ABSENT = re.compile(r"\0secret:[0-9a-f.]+\0")
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
    if "${" not in text:
        return ()
    return tuple(part for part in split(text) if isinstance(part, Reference))


def built_ins_of(service: ServiceSpec) -> dict[str, str]:
    """SERVICE_BUILT_INS that ``service`` has by itself: a pool is on no one host."""
    built_ins = {"name": service.name}
    if service.kind is ServiceKind.LOCAL:
        built_ins["hostname"] = "localhost"
    return built_ins


def built_in_names(service: ServiceSpec, plan: LaunchPlan) -> frozenset[str]:
    """Every built-in that ``service`` has once it is booted.

    What is on another's machine shares its names; a HOST's ``hostname`` is an attribute.
    """
    try:
        home = plan.landlord(service)
    except KeyError:  # reported where it is written
        return frozenset({"name", *MACHINE_BUILT_INS})
    names = {"name"}
    if home.kind is ServiceKind.MACHINE:
        names |= set(MACHINE_BUILT_INS)
    elif home.kind in (ServiceKind.LOCAL, ServiceKind.HOST):
        names.add("hostname")
    return frozenset(names)


@dataclass
class Attributes:
    """Values of one plan in one run.

    ``run``: the values of RUN_BUILT_INS; ``outputs``: by service, what boot programs
    gave; ``environment``: for ``env:NAME``; ``machines``: by service, what is known of its
    machine (``machine_facts``).
    """

    plan: LaunchPlan
    run: Mapping[str, str]
    outputs: Mapping[str, Mapping[str, str]]
    environment: Mapping[str, str]
    machines: Facts = field(default_factory=dict)
    _open: list[tuple[str, str]] = field(default_factory=list, init=False)

    def expand(self, text: str, service: ServiceSpec | None = None) -> str:
        """``text`` with every reference resolved. Raises Unresolved, MalformedReference."""
        if "\0secret:" in text:
            raise Unresolved("a secret of the plan is needed, and is not there any more")
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
        names = {*built_in_names(service, self.plan), *service.attributes}
        names |= self.outputs.get(name, {}).keys()
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
            return unsealed(outputs[reference.name], self.environment)
        if reference.name in owner.attributes:
            return self._nested(reference, owner.attributes[reference.name], owner)
        if (built_in := self._built_in(owner, reference.name)) is not None:
            return built_in
        if reference.name in owner.outputs:
            raise Unresolved(f"'{owner.name}' did not provide its output '{reference.name}'")
        raise Unresolved(f"'{owner.name}' has no attribute '{reference.name}'")

    def _built_in(self, owner: ServiceSpec, name: str) -> str | None:
        if name != "name" and owner.kind is ServiceKind.RESIDENT and name in MACHINE_BUILT_INS:
            return self.value(Reference(SELF, name), self.plan.landlord(owner))
        if name in built_ins_of(owner):
            return built_ins_of(owner)[name]
        if owner.kind is ServiceKind.MACHINE and name in MACHINE_BUILT_INS:
            found = self.machines.get(owner.name, {}).get(name)
            if found is None:
                raise Unresolved(f"the machine of '{owner.name}' has no '{name}' yet")
            return found
        return None

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
        for part, program in service.programs:
            for name, text in program.environment.items():
                yield f"{here}.{part}.environment.{name}", text
        if service.machine is not None:
            for name, text in service.machine.settings.items():
                yield f"{here}.settings.{name}", text
            for name, text in service.machine.variables.items():
                yield f"{here}.variables.{name}", text


def secrets_of(plan: LaunchPlan, environment: Mapping[str, str]) -> frozenset[str]:
    """The values that came in as ``env:NAME``, or in clear under a name like ``password``, and
    what they look like inside JSON, URLs and shell words: what ``masked`` hides.

    Values shorter than four characters protect nothing and would garble every line.
    """
    found: set[str] = set()
    for value in (*named_secrets(plan, environment).values(), *literal_secrets(plan)):
        found |= {value, quote(value, safe=""), json.dumps(value)[1:-1]}
        found |= {value.replace("'", quoted) for quoted in ("'\"'\"'", "'\\''")}
        # Output is shown by lines; a key that has several is hidden in each.
        found |= {line for line in value.splitlines() if len(line) >= 8}
    return frozenset(each for each in found if len(each) >= 4)


def named_secrets(plan: LaunchPlan, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that the plan takes from the environment, with the values to hide."""
    names = (ENVIRONMENT.match(text) for _, text in declared_texts(plan))
    values = {found[1]: environment.get(found[1], "") for found in names if found}
    return {name: value for name, value in values.items() if len(value) >= 4}


def literal_secrets(plan: LaunchPlan) -> set[str]:
    """Values that stand in the plan in clear under a name that says they are secrets, and
    passwords in URLs.
    """
    texts = list(declared_texts(plan))
    found = {text for key, text in texts if is_secret_key(key.rpartition(".")[2])}
    found |= {one for _, text in texts for one in _URL_PASSWORD.findall(text)}
    return {text for text in found if text and "${" not in text and not ENVIRONMENT.match(text)}


def sealed(text: str, secrets: Mapping[str, str]) -> str:
    """``text`` with every secret replaced by its variable's name, to be stored."""
    for name, value in sorted(secrets.items(), key=lambda each: len(each[1]), reverse=True):
        text = text.replace(value, f"\0env:{name}\0")
    return text


def unsealed(text: str, environment: Mapping[str, str]) -> str:
    """What ``sealed`` was given; a secret that the environment has no more is masked."""
    if "\0" not in text:
        return text
    return _SEALED.sub(lambda found: environment.get(found[1], "***"), text)


def masked(text: str, secrets: frozenset[str]) -> str:
    """``text`` with every secret replaced by ``***``, longer secrets first."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return _ABSENT.sub("***", text) if "\0" in text else text
