"""From a classic launch plan (cloudinit.d's ``.conf`` files) to a LaunchPlan.

A plan is a top file, a file for each level, files of attributes (``deps``) and templates.
All are read as they are: what the original could make sense of, we can. What it passed over
in silence (unknown keys, repeated keys) is a warning, what it stumbled over at boot
(missing files, unknown services) is a problem now, each with file and line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bootlevels.attribute_graph import reference_problems
from bootlevels.bootconf_check import bootconf_problems
from bootlevels.classic_clouds import CLOUD, ClassicClouds
from bootlevels.classic_ini import LISTS, Entry, Findings, Section, read_ini
from bootlevels.classic_keys import (
    Rank,
    Settings,
    lexical_path,
    report_unknown_keys,
)
from bootlevels.classic_links import with_found_attributes
from bootlevels.classic_services import ServiceReader, ServiceReading
from bootlevels.plan import BootLevel, LaunchPlan
from bootlevels.plan_checks import plan_problems
from bootlevels.plan_choices import PlanChoices, PlanReading, classic_global, with_choices
from bootlevels.plan_secrets import warn_of_classic_secrets
from bootlevels.plan_values import replicas_of
from coordinator.errors import ConfigProblem, Problem, did_you_mean

SERVICE = "svc-"
MAX_SERVICES = 10_000

_LEVEL = re.compile(r"level([0-9]{1,6})\Z")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,59}\Z")
_TOP_SECTIONS = (LISTS, "defaults", "globals")
#: Names of top files that say nothing about the plan; its directory's name does.
_PLAIN_NAMES = ("main", "top", "plan", "launch", "boot")


def read_classic_plan(path: Path, choices: PlanChoices) -> PlanReading:
    """The classic plan whose top file is ``path``. Raises ConfigProblem with all problems."""
    reader = _Reader(path, choices)
    plan = reader.plan()
    given: dict[str, str] = {}
    found = reader.found
    if plan is not None:
        plan, given = with_choices(plan, choices, found)
        plan = with_found_attributes(plan, reader.askable(), reader.place_of, found.warnings)
        unsure = frozenset(reader.unsure)
        problems = [
            *reference_problems(plan, choices.environment, unsure),
            *plan_problems(plan, choices.environment or {}, unsure),
            *bootconf_problems(plan, reader.shown, unsure),
        ]
        found.problems += [reader.located(problem) for problem in problems]
    if plan is None or found.problems:
        raise ConfigProblem(list(dict.fromkeys(found.problems)))
    warnings = tuple(dict.fromkeys(found.warnings))
    return PlanReading(plan=plan, warnings=warnings, given=given)


@dataclass
class _Reader:
    path: Path
    choices: PlanChoices
    found: Findings = field(default_factory=Findings)
    services: dict[str, ServiceReading] = field(default_factory=dict)
    unsure: set[str] = field(default_factory=set)
    _deps: dict[str, dict[str, Entry]] = field(default_factory=dict)
    _global_places: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Lexical, never resolved: a plan reached through a link keeps its neighbours there.
        self._top_path = os.path.abspath(os.path.join(Path.cwd(), os.fspath(self.path)))
        self._directory = os.path.dirname(self._top_path)
        self._shown_directory = os.path.dirname(str(self.path))
        environment = self.choices.environment
        self._environment: Mapping[str, str] = os.environ if environment is None else environment

    def shown(self, path: str) -> str:
        """``path`` as the user would write it."""
        relative = os.path.relpath(path, self._directory)
        near = relative.count("..") <= 2
        return os.path.join(self._shown_directory, relative) if near else path

    # ---------------------------------------------------------------- the top file

    def plan(self) -> LaunchPlan | None:
        """The plan as far as it can be read; None without any level."""
        top = self._ini(self._top_path)
        if top is None:
            return None
        self._report_sections(top)
        self._defaults = self._entries(top, "defaults")
        self._clouds = ClassicClouds(
            sections={n[len(CLOUD) :]: s for n, s in top.items() if n.startswith(CLOUD)},
            defaults=self._defaults,
            remapped=self.choices.remapped,
            environment=self._environment,
            found=self.found,
        )
        levels = self._levels(top)
        if levels is None:
            return None
        globals_ = top.get("globals")
        entries = globals_.entries if globals_ else {}
        self._global_places = {name: entry.place for name, entry in entries.items()}
        return LaunchPlan(
            name=_plan_name(self._top_path),
            directory=self._directory,
            source=str(self.path),
            globals={
                name: classic_global(entry.value, entry.place, name, self.found)
                for name, entry in entries.items()
            },
            clouds=self._clouds.drivers(),
            levels=levels,
        )

    def _ini(self, path: str) -> dict[str, Section] | None:
        shown = self.shown(path)
        sections = read_ini(Path(path), shown, self.found)
        if sections is not None:
            warn_of_classic_secrets(Path(path), sections, self.found)
        return sections

    def _report_sections(self, top: dict[str, Section]) -> None:
        for name, section in top.items():
            if name == "defaults" or name.startswith(CLOUD):
                report_unknown_keys(section, self.found)
            elif name.startswith(SERVICE):
                what = f"section [{name}] belongs into a level's file"
                self.found.warning(section.place, what, remedy="it has no effect here")
            elif name not in _TOP_SECTIONS:
                what = f"unknown section [{name}] has no effect"
                self.found.warning(section.place, what, remedy=did_you_mean(name, _TOP_SECTIONS))

    def _entries(self, top: dict[str, Section], name: str) -> dict[str, Entry]:
        return top[name].entries if name in top else {}

    def _levels(self, top: dict[str, Section]) -> tuple[BootLevel, ...] | None:
        """All levels in numeric order; a level may have several files."""
        shown = self.shown(self._top_path)
        if LISTS not in top:
            remedy = "write level1: path of a level's file"
            self.found.problem(shown, "has no section [runlevels]", remedy=remedy)
            return None
        files: dict[int, list[Entry]] = {}
        for key, entry in top[LISTS].entries.items():
            level = _LEVEL.match(key)
            if level is None:
                what = f"'{key}' is no level and has no effect"
                self.found.warning(entry.place, what, key=key, remedy="levels are level1, level2 …")
                continue
            listed = files.setdefault(int(level[1]), [])
            for each in (*top[LISTS].earlier.get(key, []), entry):
                names = [name.strip() for name in each.value.split("\n") if name.strip()]
                if not names:
                    self.found.problem(each.place, "names no file", key=key)
                listed += [Entry(name, each.place) for name in names]
        if not files:
            self.found.problem(top[LISTS].place, "there are no levels in [runlevels]")
            return None
        levels = []
        for number in sorted(files):
            names = [name for entry in files[number] for name in self._level_file(entry)]
            specs = tuple(self.services[name].spec for name in names)
            levels.append(BootLevel(number=number, services=specs))
        return tuple(levels)

    # ---------------------------------------------------------------- a level's file

    def _level_file(self, entry: Entry) -> list[str]:
        """Names of the services in a level's file, which are then in ``services``."""
        path = lexical_path(entry.value, self._directory)
        if not os.path.isfile(path):
            kind = "is a directory" if os.path.isdir(path) else "there is no such level file"
            self.found.problem(entry.place, f"{kind}: '{self.shown(path)}'")
            return []
        sections = self._ini(path)
        if sections is None:
            return []
        reader = ServiceReader(os.path.dirname(path), self.shown, self._clouds.cloud_of, self.found)
        names = []
        for name, section in sections.items():
            if name.startswith(SERVICE):
                names += self._service(name[len(SERVICE) :], section, reader)
            else:
                what, remedy = f"unknown section [{name}] has no effect", "services are [svc-NAME]"
                self.found.warning(section.place, what, remedy=remedy)
        if not any(name.startswith(SERVICE) for name in sections):
            self.found.problem(self.shown(path), "there is no service in it", remedy="[svc-NAME]")
        return names

    def _service(self, name: str, section: Section, reader: ServiceReader) -> list[str]:
        """Names of the service or its replicas; none when it can't be read."""
        if not _NAME.match(name) or name == "global":
            what = f"'{name[:70]}' is not a name for a service"
            remedy = "letters, digits, - and _, at most 60, a letter first, not global"
            self.found.problem(section.place, what, remedy=remedy)
            return []
        report_unknown_keys(section, self.found)
        before = len(self.found.problems)
        settings = self._settings(section)
        reading = reader.read(name, settings, self._deps_of(settings, reader.directory))
        count = settings.replicas()
        if len(self.services) + count > MAX_SERVICES:
            self.found.problem(section.place, f"more than {MAX_SERVICES} services in one plan")
            return []
        specs = replicas_of(reading.spec, count) if count > 1 else [reading.spec]
        names = []
        for spec in specs:
            if spec.name in self.services:
                first = self.services[spec.name].place
                what = f"service '{spec.name}' is there twice, see {first}"
                self.found.problem(section.place, what, key=f"services.{spec.name}")
                continue
            self.services[spec.name] = replace(reading, spec=spec)
            names.append(spec.name)
            if len(self.found.problems) > before:
                self.unsure.add(spec.name)
        return names

    def _settings(self, section: Section) -> Settings:
        settings = Settings(section, self._environment, self.found)
        settings.lay(self._defaults, Rank.DEFAULTS)
        settings.lay(section.entries, Rank.SERVICE)
        below = self._clouds.entries_for(settings)
        if below:
            settings.lay(below, Rank.CLOUD)
            settings.lay(section.entries, Rank.SERVICE)
        return settings

    def _deps_of(self, settings: Settings, directory: str) -> dict[str, Entry]:
        attributes: dict[str, Entry] = {}
        for key in settings.deps_keys():
            path = settings.path(key, directory)
            if path and path not in self._deps:
                self._deps[path] = self._read_deps(path, key, settings)
            attributes.update(self._deps.get(path, {}))
        return attributes

    def _read_deps(self, path: str, key: str, settings: Settings) -> dict[str, Entry]:
        if not os.path.isfile(path):
            settings.problem(key, f"there is no such file: '{self.shown(path)}'")
            return {}
        sections = self._ini(path)
        if sections is None:
            return {}
        if "deps" not in sections:
            what = "has no section [deps]"
            self.found.problem(self.shown(path), what, remedy=f"named in {settings.place(key)}")
            return {}
        for name, section in sections.items():
            if name != "deps":
                self.found.warning(section.place, f"section [{name}] has no effect here")
        return sections["deps"].entries

    # ---------------------------------------------------------------- places

    def askable(self) -> dict[str, dict[str, str]]:
        """By service, the texts that others could ask for beside its attributes."""
        return {name: reading.askable for name, reading in self.services.items()}

    def place_of(self, key: str) -> str:
        """``file:line`` of a problem's key."""
        head, _, rest = key.partition(".")
        if head == "globals":
            return self._global_places.get(rest, self.shown(self._top_path))
        if head == "clouds":
            place = self._clouds.places.get(rest.partition(".")[0])
            return place or self.shown(self._top_path)
        if head == "services":
            name, _, inner = rest.partition(".")
            reading = self.services.get(name)
            if reading is not None:
                while inner:
                    if inner in reading.places:
                        return reading.places[inner]
                    inner = inner.rpartition(".")[0]
                return reading.place
        return self.shown(self._top_path)

    def located(self, problem: Problem) -> Problem:
        """``problem`` with file and line; what is wrong with replicas is said once, for all."""
        where, key = problem.where or self.place_of(problem.key), problem.key
        name = key.removeprefix("services.").partition(".")[0]
        if key.startswith("services.") and name in self.services:
            written = self.services[name].written
            key = f"services.{written}{key[len('services.') + len(name) :]}"
        return replace(problem, where=where, key=key)


def _plan_name(path: str) -> str:
    """A name for the plan from the names of its file and directory."""
    directory, file = os.path.split(path)
    stem = os.path.splitext(file)[0]
    if stem.lower() in _PLAIN_NAMES:
        stem = os.path.basename(directory) or stem
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_")[:40]
    return name if re.match(r"[A-Za-z]", name) else f"plan-{name}".rstrip("-")[:40]
