"""What is chosen for a plan at boot: globals from files and the command line, other clouds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bootlevels.attribute_graph import global_names_used
from bootlevels.classic_ini import Findings, parse_ini, read_text
from bootlevels.classic_keys import environment_name
from bootlevels.classic_text import MalformedReference, attribute_text
from bootlevels.plan import LaunchPlan
from bootlevels.plan_text import ATTRIBUTE_NAME, parse_scalar
from bootlevels.yaml_text import read_yaml
from coordinator.errors import ConfigProblem, Problem, did_you_mean

if TYPE_CHECKING:
    from bootlevels.record import RunRecord

MAX_GLOBAL = 4096
_COMMAND_LINE = "command line"


@dataclass(frozen=True, kw_only=True)
class PlanChoices:
    """Choices for one reading of a plan.

    Globals: the plan's own < ``stored`` (those of the run that goes on) < ``files``
    (``-G``, a later file wins) < ``given`` (``-g``). ``remapped``: driver by name of the
    cloud (``--cloud``). With an ``environment``, unset ``env:NAME`` is a problem.
    """

    profile: str = ""
    given: Mapping[str, str] = field(default_factory=dict)
    stored: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    remapped: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] | None = None

    def continuing(self, run: RunRecord) -> PlanChoices:
        """The choices for a run that goes on: what it was given holds unless given anew."""
        return replace(
            self,
            profile=self.profile or run.plan.profile,
            stored=run.given,
            remapped={**run.remapped, **self.remapped},
        )


@dataclass(frozen=True, kw_only=True)
class PlanReading:
    """A plan as read; ``warnings`` are to be shown, ``given`` to be stored with the run."""

    plan: LaunchPlan
    warnings: tuple[Problem, ...] = ()
    given: Mapping[str, str] = field(default_factory=dict)


def with_choices(
    plan: LaunchPlan, choices: PlanChoices, found: Findings
) -> tuple[LaunchPlan, dict[str, str]]:
    """``plan`` with the chosen globals and clouds, and the globals that were chosen."""
    known = {*plan.globals, *global_names_used(plan)}
    chosen = dict(choices.stored)
    for path in choices.files:
        for name, (value, place) in read_globals(path, found).items():
            if name in known:
                chosen[name] = value
            else:
                remedy = did_you_mean(name, known)
                found.warning(place, "the plan has no such global", key=name, remedy=remedy)
    for name, value in choices.given.items():
        if name in known:
            chosen[name] = value
        else:
            remedy = did_you_mean(name, known)
            found.problem(_COMMAND_LINE, "no such global in the plan", key=name, remedy=remedy)
    for name, value in chosen.items():
        if len(value) > MAX_GLOBAL or "\0" in value:
            what = f"at most {MAX_GLOBAL} characters and no zero byte"
            found.problem(_COMMAND_LINE, what, key=name)
    clouds = remapped_clouds(plan.clouds, choices.remapped, found)
    globals_ = {**plan.globals, **chosen}
    return replace(plan, globals=globals_, clouds=clouds), chosen


def remapped_clouds(
    clouds: Mapping[str, dict[str, str]], remapped: Mapping[str, str], found: Findings
) -> dict[str, dict[str, str]]:
    """``clouds`` with other drivers; what was set for the old driver means nothing to them."""
    changed = dict(clouds)
    for name, driver in remapped.items():
        if name not in clouds:
            what, remedy = f"the plan has no cloud '{name}'", did_you_mean(name, clouds)
            found.problem(_COMMAND_LINE, what, key="--cloud", remedy=remedy)
        elif clouds[name].get("driver") != driver:
            changed[name] = {"driver": driver}
    return changed


def read_globals(path: Path, found: Findings) -> dict[str, tuple[str, str]]:
    """Value and place of each global in ``path``: a YAML mapping, or ``[globals]`` in INI."""
    shown = str(path)
    text = read_text(path, shown, found)
    if text is None:
        return {}
    if path.suffix.lower() in (".yaml", ".yml", ".json"):
        return _yaml_globals(text, shown, found)
    section = parse_ini(text, shown, found).get("globals")
    if section is None:
        found.problem(shown, "has no section [globals]")
        return {}
    return {
        name: (classic_global(entry.value, entry.place, name, found), entry.place)
        for name, entry in section.entries.items()
    }


def classic_global(value: str, place: str, name: str, found: Findings) -> str:
    """A classic global's value as ours."""
    variable = environment_name(value)
    if variable is not None:
        return f"env:{variable}"
    try:
        return attribute_text(value)
    except MalformedReference as malformed:
        found.problem(place, str(malformed), key=name)
        return ""


def _yaml_globals(text: str, shown: str, found: Findings) -> dict[str, tuple[str, str]]:
    try:
        tree = read_yaml(text, shown)
    except ConfigProblem as broken:
        found.problems += broken.problems
        return {}
    if not isinstance(tree.value, dict):
        found.problem(tree.place, "must be a section of names and values")
        return {}
    values: dict[str, tuple[str, str]] = {}
    for name, value in tree.value.items():
        place = tree.keys[name]
        try:
            if not ATTRIBUTE_NAME.match(name):
                raise ValueError("is not a name")
            values[name] = (parse_scalar(value.value), place)
        except ValueError as error:
            found.problem(place, str(error), key=name)
    return values
