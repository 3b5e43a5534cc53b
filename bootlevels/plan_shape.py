"""Whether the keys of one service fit together, before anything of it is looked up."""

from __future__ import annotations

from collections.abc import Iterator

from bootlevels.plan import KEEPS, REGISTRAR, TransportKind
from bootlevels.plan_text import DefaultsText, ServiceText
from coordinator.errors import did_you_mean

#: Path below the service, sentence, remedy.
ShapeProblem = tuple[tuple[str | int, ...], str, str]

_PLACE = "write local: true, host:, on:, or template:/image: with a cloud"
_ONLY_FOR = {
    "settings": "machines that are launched",
    "variables": "machines that are launched",
    "user_data": "machines that are launched",
    "ssh": "machines and hosts",
}


def shape_problems(text: ServiceText, defaults: DefaultsText) -> Iterator[ShapeProblem]:
    """Everything about ``text`` that contradicts itself or says nothing."""
    places = text.places
    programs = [key for key in ("boot", "ready", "terminate") if getattr(text, key)]
    needy = [key for key in programs if key != "ready" or any(c.run for c in text.ready)]
    is_machine = places in (["template"], ["image"], ["cloud"])
    if text.pool is not None and (text.local or programs):
        yield (), "a pool has no programs of its own here", "make it two services"
    elif len(places) > 1:
        yield (), f"is in more than one place: {', '.join(places)}", "leave one of them"
    elif not places and needy:
        yield (needy[0],), f"'{needy[0]}' needs a place to run", _PLACE
    if is_machine and not (text.cloud or defaults.cloud):
        yield ("cloud",), "is missing", "name one of the plan's clouds, here or in defaults"
    if text.template is not None and text.user_data is not None:
        yield ("user_data",), "the template makes the user-data", "leave one of them"
    for key, whose in _ONLY_FOR.items():
        fits = is_machine or (key == "ssh" and text.host is not None)
        if getattr(text, key) and not fits:
            yield (key,), f"only {whose} have it", ""
    if text.variables and text.template is None:
        yield ("variables",), "only a template uses them", ""
    if text.bootconf is not None and not needy:
        yield ("bootconf",), "no program of this service reads it", ""
    if text.pool is not None and text.replicas is not None:
        yield ("replicas",), "a pool has its own size", "say min, max and the engine's keys"
    yield from _transport_problems(text, needy)
    if text.pool is None and "verify" in text.model_fields_set:
        yield ("verify",), "only pools have it", ""
    if text.outputs and text.boot is None:
        yield ("outputs",), "only a boot program gives outputs", ""
    yield from _keeping_problems(text)
    for role in text.provides:
        if role != REGISTRAR:
            yield ("provides",), f"unknown role '{role}'", did_you_mean(role, [REGISTRAR])


def _keeping_problems(text: ServiceText) -> Iterator[ShapeProblem]:
    if not text.keeps:
        return
    if text.pool is not None or not text.places:
        yield ("keeps",), "nothing runs here that could keep pools", _PLACE
    if text.replicas is not None:
        yield ("replicas",), "two of them would keep the same pools", "write a service for each"
    if KEEPS in text.attributes:
        yield ("attributes", KEEPS), "is made from the service's keeps:", "remove it"


def _transport_problems(text: ServiceText, needy: list[str]) -> Iterator[ShapeProblem]:
    kind = text.transport
    if kind is None:
        return
    if text.pool is not None or not text.places:
        yield ("transport",), "only services with programs at a place have it", ""
    elif text.local and kind is not TransportKind.LOCAL:
        yield ("transport",), f"'{kind.value}' leads elsewhere, and the service is local", ""
    elif not text.local and kind is TransportKind.LOCAL:
        yield ("transport",), "the service is not on this machine", "write local: true for it"
    elif text.host is not None and kind is TransportKind.EXEC:
        yield ("transport",), "only machines that a cloud launched have it", "use ssh"
    elif kind is TransportKind.NONE and needy:
        yield (needy[0],), "with transport none nothing can be run", "use checks, or user-data"
