"""Profiles: named overlays that replace the copied plans of old."""

from __future__ import annotations

from dataclasses import replace

from bootlevels.yaml_text import Text, overlaid
from coordinator.errors import Problem, did_you_mean

_WHOLE = ("globals", "clouds", "defaults")


def profile_names(chosen: str) -> tuple[str, ...]:
    """The profiles that ``chosen`` names, with commas between them, in their order."""
    return tuple(name.strip() for name in chosen.split(",")) if chosen else ()


def with_profile(tree: Text, name: str) -> tuple[Text, list[Problem]]:
    """The plan's tree with profile ``name`` laid over it, and what does not fit."""
    profiles = tree.at(["profiles"])
    known = profiles.value if profiles and isinstance(profiles.value, dict) else {}
    chosen = known.get(name)
    if chosen is None:
        remedy = did_you_mean(name, known)
        return tree, [Problem(where=tree.place, what=f"unknown profile '{name}'", remedy=remedy)]
    if not isinstance(chosen.value, dict):
        return tree, []  # the models say so
    above = {k: v for k, v in chosen.value.items() if k in _WHOLE}
    keys = {key: chosen.keys[key] for key in above}
    tree = overlaid(tree, Text(above, chosen.place, keys))
    services = chosen.value.get("services")
    levels = tree.at(["levels"])
    if services is None or not isinstance(services.value, dict) or levels is None:
        return tree, []
    problems = []
    for service, overlay in services.value.items():
        at = level_of_service(levels, service)
        if at is None:
            remedy = did_you_mean(service, _service_names(levels))
            where, key = services.keys[service], f"profiles.{name}.services.{service}"
            problems.append(Problem(where=where, key=key, what="unknown service", remedy=remedy))
            continue
        wrapped = Text({service: overlay}, overlay.place, {service: services.keys[service]})
        old = levels.value[at]
        level = overlaid(old, Text({"services": wrapped}, overlay.place, {"services": old.place}))
        # The level stands where it stood; only what the profile names has moved.
        level = replace(level, keys=old.keys)
        levels = replace(levels, value=[*levels.value[:at], level, *levels.value[at + 1 :]])
    return replace(tree, value={**tree.value, "levels": levels}), problems


def _service_names(levels: Text) -> list[str]:
    found = [level.at(["services"]) for level in levels.value] if _is_list(levels) else []
    return [name for each in found if each and isinstance(each.value, dict) for name in each.value]


def level_of_service(levels: Text, service: str) -> int | None:
    """The index of the level in which ``service`` is written, None when there is none."""
    for at, level in enumerate(levels.value if _is_list(levels) else []):
        services = level.at(["services"])
        if services and isinstance(services.value, dict) and service in services.value:
            return at
    return None


def _is_list(text: Text) -> bool:
    return isinstance(text.value, list)
