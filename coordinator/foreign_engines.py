"""Engines that are not ours, as who reads a pool's section sees them: from outside.

Anybody's module may hang, print, exit or crash as it is imported, and its ``Settings`` as they
are made. So neither happens in a process that keeps pools, boots plans or talks to a person:
a process of its own does both, within a deadline, and says what is wrong or which queues the
engine follows. An engine that decides for ours (a member of ``combined``) makes the whole one
that is not ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from agent.wire import MalformedMessage, from_wire
from coordinator.engine_life import EngineLife
from coordinator.engines.base import Decision, PoolView
from coordinator.errors import ConfigProblem, EngineFailed, Problem
from coordinator.plugins import is_foreign

#: Seconds in which an engine is to be loaded where nobody says otherwise.
LOADED_WITHIN = 20.0


@dataclass(frozen=True)
class HostedSettings:
    """What is known here of the settings of an engine that is not ours: its ``queues``."""

    queues: tuple[str, ...] = ()


class Elsewhere:
    """Stands for an engine that decides in a process of its own (``controller.engine_process``)."""

    Settings: type = dict

    def decide(self, view: PoolView) -> Decision:
        """Raises EngineFailed: nobody decides here."""
        raise EngineFailed("it decides in a process of its own")


class ForeignParser(Protocol):
    """What becomes of an ``engine:`` section that names an engine which is not ours."""

    def __call__(self, section: Mapping[str, Any], where: str, key: str) -> HostedSettings: ...


def names_foreign(section: Mapping[str, Any]) -> bool:
    """Whether an ``engine:`` section, or one inside it, names an engine that is not ours."""
    return any(is_foreign("epu.engines", name) for name in _names(section))


def checked(
    section: Mapping[str, Any], where: str, key: str, within: float = LOADED_WITHIN
) -> HostedSettings:
    """The engine loaded and its settings parsed, once, in a process that ends with it.

    Raises ConfigProblem for whatever goes wrong, ``within`` seconds passing included.
    """
    try:
        life = EngineLife(section, within, quiet=True)
    except OSError as problem:
        raise _refused(
            section, where, key, f"no process can be started for it: {problem}"
        ) from None
    try:
        answer = life.load(within, where, key)
    except TimeoutError:
        what = f"it was not loaded within {within:g} s"
        raise _refused(
            section, where, key, what, "its module must do nothing as it is imported"
        ) from None
    except ConnectionError:
        raise _refused(
            section, where, key, f"its process ended meanwhile ({life.how_it_ended()})"
        ) from None
    except (OSError, ValueError) as problem:
        raise _refused(section, where, key, f"its process said nothing of use: {problem}") from None
    finally:
        life.kill()
    return settings_in(answer, section, where, key)


def unchecked(section: Mapping[str, Any], where: str, key: str) -> HostedSettings:
    """Nothing is loaded: for sections that were checked before."""
    return HostedSettings()


def settings_in(
    answer: Mapping[str, Any], section: Mapping[str, Any], where: str, key: str
) -> HostedSettings:
    """What a process said to ``load``. Raises ConfigProblem."""
    try:
        if "problems" in answer:
            raise ConfigProblem(from_wire(list[Problem], answer["problems"]))
        if "raised" not in answer:
            return HostedSettings(from_wire(tuple[str, ...], answer["queues"]))
    except (MalformedMessage, KeyError) as problem:
        raise _refused(section, where, key, f"its process said nothing of use: {problem}") from None
    raise _refused(section, where, key, f"{answer['raised']}: {answer.get('text', '')}")


def _refused(
    section: Mapping[str, Any], where: str, key: str, what: str, remedy: str = ""
) -> ConfigProblem:
    named = ", ".join(f"'{name}'" for name in _names(section) if is_foreign("epu.engines", name))
    said = f"{named} can't be loaded: {what}"
    return ConfigProblem([Problem(where=where, key=f"{key}.type", what=said, remedy=remedy)])


def _names(section: Mapping[str, Any]) -> Iterator[str]:
    name = section.get("type")
    if isinstance(name, str):
        yield name
    for inner in section.values():
        if isinstance(inner, Mapping):
            yield from _names(inner)
