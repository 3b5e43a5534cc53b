"""What a classic plan refers to without declaring it. PURE.

Every setting of a service could be asked for as an attribute, and so could whatever its
boot program would write at run time. The first kind is looked up here; the second is taken
for an output, with a warning, because only the boot can tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from bootlevels.attribute_graph import uses_of
from bootlevels.attributes import (
    GLOBAL,
    RUN,
    SELF,
    SERVICE_BUILT_INS,
    MalformedReference,
    references,
)
from bootlevels.machine_facts import MACHINE_BUILT_INS
from bootlevels.plan import LaunchPlan, ServiceSpec
from coordinator.errors import Problem, did_you_mean

#: What is known of a place, so never an output.
_OF_PLACES = frozenset({*MACHINE_BUILT_INS, *SERVICE_BUILT_INS})


def with_found_attributes(
    plan: LaunchPlan,
    askable: Mapping[str, Mapping[str, str]],
    place_of: Callable[[str], str],
    warnings: list[Problem],
) -> LaunchPlan:
    """``plan`` with the attributes and outputs that its references ask for.

    ``askable``: by service, texts that may become attributes. ``place_of`` gives the place
    of a use's key.
    """
    services = {service.name: service for service in plan.services()}
    levels = {s.name: level.number for level in plan.levels for s in level.services}
    attributes: dict[str, dict[str, str]] = {}
    outputs: dict[str, list[str]] = {}
    for user in services.values():
        for use in uses_of(user):
            if "${" not in use.text:
                continue
            try:
                asked = references(use.text)
            except MalformedReference:
                continue  # the graph says so
            for reference in asked:
                name = user.name if reference.owner == SELF else reference.owner
                owner = services.get(name)
                if reference.owner in (GLOBAL, RUN) or owner is None:
                    continue
                if owner is not user and levels[name] >= levels[user.name]:
                    continue
                asked_for = reference.name
                if _has(owner, asked_for) or asked_for in attributes.get(name, {}):
                    continue
                if asked_for in askable[name]:
                    attributes.setdefault(name, {})[asked_for] = askable[name][asked_for]
                elif owner.boot is not None and asked_for not in outputs.setdefault(name, []):
                    outputs[name].append(asked_for)
                    warnings.append(_guess(owner, asked_for, use.key, place_of(use.key)))

    def grown(service: ServiceSpec) -> ServiceSpec:
        more, given = attributes.get(service.name), outputs.get(service.name)
        if not more and not given:
            return service
        return replace(
            service,
            attributes={**service.attributes, **(more or {})},
            outputs=(*service.outputs, *(given or ())),
        )

    return replace(
        plan,
        levels=tuple(
            replace(level, services=tuple(grown(service) for service in level.services))
            for level in plan.levels
        ),
    )


def _has(owner: ServiceSpec, name: str) -> bool:
    return name in owner.attributes or name in owner.outputs or name in _OF_PLACES


def _guess(owner: ServiceSpec, name: str, key: str, place: str) -> Problem:
    near = did_you_mean(name, owner.attributes)
    remedy = near if near.startswith("did you mean") else ""
    what = f"'{owner.name}' declares no '{name}': its boot program must give it"
    return Problem(where=place, key=key, what=what, remedy=remedy)
