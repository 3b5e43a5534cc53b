"""From a native plan file to a LaunchPlan, or every problem of it at once.

Each problem names ``file:line``, the dotted key (``services.web.boot.run``), what is wrong
and, where there is one, the remedy. A service that can't be read does not hide what is
wrong with the others.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from bootlevels.attribute_graph import reference_problems
from bootlevels.attributes import GLOBAL
from bootlevels.bootconf_check import bootconf_problems
from bootlevels.classic_ini import Findings
from bootlevels.plan import BootLevel, LaunchPlan, ServiceKind, ServiceSpec
from bootlevels.plan_checks import plan_problems
from bootlevels.plan_choices import PlanChoices, PlanReading, with_choices
from bootlevels.plan_include import with_includes
from bootlevels.plan_profiles import level_of_service, profile_names, with_profile
from bootlevels.plan_secrets import native_secret_warnings
from bootlevels.plan_shape import shape_problems
from bootlevels.plan_text import (
    DefaultsText,
    PlanText,
    ServiceText,
    known_keys,
)
from bootlevels.plan_values import service_specs
from bootlevels.yaml_text import MAX_BYTES, Text, path_of, read_yaml, shown_key
from coordinator.errors import ConfigProblem, Problem, did_you_mean

Model = TypeVar("Model", bound=BaseModel)


def read_native_plan(path: Path, choices: PlanChoices) -> PlanReading:
    """The plan in file ``path`` with what was chosen for it.

    Raises ConfigProblem with everything that is wrong.
    """
    # Lexical, never resolved: a plan reached through a link keeps its neighbours there.
    directory = os.path.dirname(os.path.abspath(path))
    found = Findings()
    tree = _tree_of(path, found)
    found.warnings += native_secret_warnings(tree, path)
    return _reading(tree, str(path), directory, choices, found)


def read_plan(
    path: Path,
    *,
    profile: str = "",
    given: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> LaunchPlan:
    """As ``read_native_plan``, for who wants the plan only."""
    choices = PlanChoices(profile=profile, given=given or {}, environment=environment)
    return read_native_plan(path, choices).plan


def profiles_of(path: Path) -> tuple[str, ...]:
    """Names of the profiles of the plan in ``path``. Raises ConfigProblem when it is not YAML."""
    found = Findings()
    directory = os.path.dirname(os.path.abspath(path))
    tree = with_includes(_tree_of(path, found), str(path), directory, found)
    profiles = tree.at(["profiles"])
    return tuple(profiles.value) if profiles and isinstance(profiles.value, dict) else ()


def parse_plan(
    text: str,
    *,
    file: str,
    directory: str,
    profile: str = "",
    given: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> LaunchPlan:
    """As ``read_plan``, from ``text`` that is called ``file``."""
    choices = PlanChoices(profile=profile, given=given or {}, environment=environment)
    return _reading(read_yaml(text, file), file, directory, choices, Findings()).plan


def _tree_of(path: Path, found: Findings) -> Text:
    try:
        with path.open("rb") as file:
            text = file.read(4 * MAX_BYTES + 1).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigProblem([Problem(where=str(path), what="is not a UTF-8 text")]) from None
    except OSError as error:
        what = f"can't be read: {error.strerror}"
        raise ConfigProblem([Problem(where=str(path), what=what)]) from None
    return read_yaml(text, str(path))


def _reading(
    tree: Text, file: str, directory: str, choices: PlanChoices, found: Findings
) -> PlanReading:
    if not isinstance(tree.value, dict):
        raise ConfigProblem([Problem(where=tree.place, what="a plan is a section of keys")])
    tree = with_includes(tree, file, directory, found)
    for name in profile_names(choices.profile):
        tree, wrong = with_profile(tree, name)
        found.problems += wrong
    reader = _Reader(tree, found.problems)
    plan = reader.plan(directory=directory, source=file, profile=choices.profile)
    given: dict[str, str] = {}
    if plan is not None:
        plan, given = with_choices(plan, choices, found)
        unsure = frozenset(reader.unsure)
        graph = reference_problems(plan, choices.environment, unsure)
        more = plan_problems(plan, choices.environment or {}, unsure)
        more += bootconf_problems(plan, lambda path: path, unsure)
        found.problems += [reader.located(problem) for problem in [*graph, *more]]
    if found.problems or plan is None:
        raise ConfigProblem(sorted(dict.fromkeys(found.problems), key=_line))
    return PlanReading(plan=plan, warnings=tuple(found.warnings), given=given)


def _line(problem: Problem) -> int:
    line = problem.where.rpartition(":")[2]
    return int(line) if line.isdecimal() else 0


@dataclass
class _Reader:
    """From the merged tree to values; collects problems and what could not be read."""

    tree: Text
    problems: list[Problem] = field(default_factory=list)
    unsure: set[str] = field(default_factory=set)
    #: As written in the plan, by the name of each replica.
    replicated: dict[str, str] = field(default_factory=dict)

    def located(self, problem: Problem) -> Problem:
        """``problem`` with the file and line of its key."""
        if problem.where:
            return problem
        path = path_of(problem.key)
        if path[:1] == ("services",) and len(path) > 1:
            written = self.replicated.get(str(path[1]))
            if written is not None:  # what is wrong with one replica is said once, for all
                path = ("services", written, *path[2:])
                problem = replace(problem, key=shown_key(path))
            levels = self.tree.at(["levels"])
            at = level_of_service(levels, str(path[1])) if levels else None
            if at is not None:
                path = ("levels", at, *path)
        return replace(problem, where=self.tree.place_of(path))

    def plan(self, *, directory: str, source: str, profile: str) -> LaunchPlan | None:
        """The plan as far as it can be read; None when not even its outline can."""
        given = self.tree.plain()
        self._find_empty(self.tree, ())
        top = self._top(given)
        defaults = top.defaults if top else DefaultsText()
        levels: list[BootLevel] = []
        seen: dict[str, int] = {}
        listed = given.get("levels")
        for at, level in enumerate(listed if isinstance(listed, list) else []):
            services = level.get("services") if isinstance(level, dict) else None
            specs = []
            for name, section in (services if isinstance(services, dict) else {}).items():
                for spec in self._service(at, name, section, defaults):
                    written = name if spec.name != name else ""
                    if spec.name in seen:
                        first = self.replicated.get(spec.name, spec.name)
                        place = self.tree.place_of(["levels", seen[spec.name], "services", first])
                        twice = f"name '{spec.name}' is" if written else "name is"
                        path = ("levels", at, "services", name)
                        self._add(path, f"{twice} used twice, see {place}")
                        continue
                    seen[spec.name] = at
                    if written:
                        self.replicated[spec.name] = written
                    specs.append(spec)
            about = top.levels[at].description if top else ""
            levels.append(BootLevel(number=at + 1, services=tuple(specs), description=about))
        if top is None:
            return None
        return LaunchPlan(
            name=top.plan,
            description=top.description,
            directory=directory,
            source=source,
            profile=profile,
            globals=top.globals,
            clouds=top.clouds,
            levels=tuple(levels),
        )

    def _find_empty(self, text: Text, path: tuple[str | int, ...]) -> None:
        """A key without a value is a slip, except in profiles, where it removes."""
        if path[:1] == ("profiles",):
            return
        if text.value is None:
            self._add(path, "has no value", "give it one, or remove the key")
        items: Any = text.value.items() if isinstance(text.value, dict) else ()
        items = enumerate(text.value) if isinstance(text.value, list) else items
        for step, inner in items:
            self._find_empty(inner, (*path, step))

    def _top(self, given: dict[str, Any]) -> PlanText | None:
        """Everything but the services, each of which is read by itself."""
        outline = dict(given)
        if isinstance(given.get("levels"), list):
            outline["levels"] = [_outline_of(level) for level in given["levels"]]
        top, broken = self._model(PlanText, outline, (), PlanText)
        if top is not None or broken & {"plan", "levels"}:
            return top
        self.unsure |= {GLOBAL} if "globals" in broken else set()
        rest = {k: v for k, v in outline.items() if k not in broken}
        if not {"plan", "levels"} <= rest.keys():
            return None
        return PlanText.model_validate(rest)

    def _service(
        self, at: int, name: str, section: Any, defaults: DefaultsText
    ) -> list[ServiceSpec]:
        """The service, or one for each of its replicas."""
        path = ("levels", at, "services", name)
        text, _ = self._model(ServiceText, section, path, ServiceText)
        if text is not None:
            wrong = list(shape_problems(text, defaults))
            for inner, what, remedy in wrong:
                self._add((*path, *inner), what, remedy)
            text = None if wrong else text
        if text is None:
            self.unsure.add(name)
            return [ServiceSpec(name=name, kind=ServiceKind.ATTRIBUTES)]
        return service_specs(name, text, defaults)

    def _model(
        self,
        model: type[Model],
        given: Any,
        path: tuple[str | int, ...],
        root: type[BaseModel],
    ) -> tuple[Model | None, set[str]]:
        """``given`` as ``model``, or None and the first steps of what is wrong in it."""
        try:
            return model.model_validate(given), set()
        except ValidationError as found:
            errors = found.errors(include_url=False)
        broken: set[str] = set()
        for error in errors:
            inner = tuple(step for step in error["loc"] if step != "[key]")
            broken.add(str(inner[0]) if inner else "")
            if error["type"] != "missing" and error.get("input", "") is None:
                continue  # already said: has no value
            if error["type"] == "extra_forbidden":
                remedy = did_you_mean(str(inner[-1]), known_keys(root, inner[:-1]))
                self._add((*path, *inner), "unknown key", remedy)
                continue
            self._add((*path, *inner), _sentence(error))
        return None, broken

    def _add(self, path: Sequence[str | int], what: str, remedy: str = "") -> None:
        shown = path[2:] if len(path) > 3 and path[0] == "levels" else path
        place = self.tree.place_of(path)
        self.problems.append(Problem(where=place, key=shown_key(shown), what=what, remedy=remedy))


def _outline_of(level: Any) -> Any:
    if not isinstance(level, dict) or not isinstance(level.get("services"), dict):
        return level
    return {**level, "services": {name: {} for name in level["services"]}}


def _sentence(error: Any) -> str:
    what = str(error["msg"]).removeprefix("Value error, ")
    match error["type"]:
        case "missing":
            return "is missing"
        case "value_error":
            return what
        case "dict_type" | "model_type" | "model_attributes_type":
            what = "must be a section of keys and values"
        case "too_short":
            return "must not be empty"
    shown = repr(error["input"])
    return f"{what}, not {shown if len(shown) <= 60 else shown[:57] + '...'}"
