"""PoolSpec: what a person wants of a pool, from text to the values of ``pool_values``.

The boot tool checks a plan's ``pool:`` section with the same parser before anything is
launched; that is why this module stands beside the controller and not inside it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from agent.messages import NodeRole
from coordinator.errors import ConfigProblem, Problem, did_you_mean
from coordinator.foreign_engines import Elsewhere, ForeignParser, names_foreign
from coordinator.foreign_engines import checked as checked
from coordinator.foreign_engines import unchecked as unchecked
from coordinator.plugins import find_plugin
from coordinator.pool_values import HealthSettings as HealthSettings
from coordinator.pool_values import PoolSpec as PoolSpec
from coordinator.pool_values import ScalingRules
from coordinator.pool_values import changed_section as changed_section
from coordinator.role_checks import role_problems
from coordinator.schedule import schedule_problems
from coordinator.settings import parse_settings

T = TypeVar("T")

NAME_RULE = "lower-case letters, digits and single dashes, starting with a letter, at most 40"
#: What a driver may call a setting; ``clouds`` is ours.
_SETTING_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}\Z")
_NAME = re.compile(r"[a-z](?:-?[a-z0-9]){0,39}\Z")


@dataclass(frozen=True, kw_only=True)
class _PoolText(ScalingRules):
    """The keys of a ``pool:`` section as people write them."""

    template: str = "worker"
    clouds: tuple[str, ...] = ()
    machine: dict[str, Any] = field(default_factory=dict)
    programs: dict[str, Any] = field(default_factory=dict)
    checks: tuple[dict[str, Any], ...] = ()
    outputs: dict[str, str] = field(default_factory=dict)
    work_queues: tuple[str, ...] = ()
    busy_file: str | None = None
    busy: dict[str, Any] | None = None
    drain: dict[str, Any] | None = None
    on_ready: dict[str, Any] | None = None
    on_drain: dict[str, Any] | None = None
    heartbeat_interval: float = 10.0
    drain_timeout: float = 300.0
    sensors: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    engine: dict[str, Any] = field(default_factory=dict)
    health: HealthSettings = field(default_factory=HealthSettings)
    min: int = 0
    max: int = 1000
    max_surge: int = 1
    settle_time: float = 30.0
    retain_failed: int = 0
    retain_failed_for: float = 3600.0
    declare_queue: bool = True
    development: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.min <= self.max:
            raise ValueError(f"min ({self.min}) must be between 0 and max ({self.max})")
        if len(set(self.clouds)) < len(self.clouds):
            raise ValueError(f"clouds must name each cloud once, not {', '.join(self.clouds)}")
        if self.max > 100_000:
            raise ValueError(f"max must be at most 100000, not {self.max}")
        if not 0 <= self.retain_failed <= 100:
            raise ValueError(f"retain_failed must be between 0 and 100, not {self.retain_failed}")
        if not 0 < self.retain_failed_for <= 7 * 86400:
            raise ValueError("retain_failed_for must be above 0 s and at most a week")
        if self.max_surge < 0:
            raise ValueError(f"max_surge must not be negative, not {self.max_surge}")
        if not 0 <= self.settle_time <= 86400:
            raise ValueError("settle_time must be between 0 s and a day")
        if not 0.1 <= self.heartbeat_interval <= 3600:
            raise ValueError("heartbeat_interval must be between 0.1 and 3600 s")
        if not 0 <= self.drain_timeout <= 7 * 86400:
            raise ValueError("drain_timeout must be between 0 s and a week")


_ROLE_KEYS = tuple(field.name for field in fields(NodeRole))
_RULE_KEYS = tuple(field.name for field in fields(ScalingRules))


def is_name(text: str) -> bool:
    """Whether a pool can have this name."""
    return _NAME.match(text) is not None


def parse_pool(
    name: str,
    given: object,
    where: str = "",
    key: str = "",
    foreign: ForeignParser = checked,
) -> PoolSpec:
    """The PoolSpec of a section, or one ConfigProblem with everything that is wrong.

    ``foreign``: what becomes of an engine that is not ours. It is never imported here: its
    settings are a HostedSettings, by a process of its own that takes seconds, or ``unchecked``.
    """
    problems: list[Problem] = []
    prefix = f"{key}." if key else ""
    if not _NAME.match(name):
        problems.append(Problem(where=where, key=key or name, what=f"a name is {NAME_RULE}"))
    text = _collect(problems, _PoolText, given, where, key)
    raw = given if isinstance(given, Mapping) else {}
    given_engine = raw.get("engine", {})
    engine: dict[str, Any] = {}
    settings: Any = None
    if isinstance(given_engine, Mapping):
        engine = {"type": "n_preserving", **given_engine}
        try:
            _, settings = parse_engine(engine, where, f"{prefix}engine", foreign)
        except ConfigProblem as found:
            problems.extend(found.problems)
    role = _collect(
        problems, NodeRole, {k: raw[k] for k in _ROLE_KEYS if k in raw}, where, prefix.rstrip(".")
    )
    if role is not None:
        health = text.health if text is not None else HealthSettings()
        for below, what in role_problems(role, health):
            problems.append(Problem(where=where, key=prefix + below, what=what))
    given_machine = raw.get("machine", {})
    machine, by_cloud = _machine(given_machine, text, problems, where, f"{prefix}machine")
    for number, entry in enumerate(text.schedule if text is not None else ()):
        for below, what in schedule_problems(entry):
            at = f"{prefix}schedule.{number}.{below}"
            problems.append(Problem(where=where, key=at, what=what))
    if problems or text is None or role is None:
        raise ConfigProblem(list(dict.fromkeys(problems)))
    told = (role.busy_queue,) if role.busy_queue else ()
    queues = dict.fromkeys((*role.work_queues, *queues_of(settings), *told))
    role = replace(role, work_queues=tuple(queues))
    return PoolSpec(
        name=name,
        template=text.template,
        clouds=text.clouds,
        machine=machine,
        machine_by_cloud=by_cloud,
        role=role,
        variables=text.variables,
        engine=engine,
        engine_settings=settings,
        health=text.health,
        min=text.min,
        max=text.max,
        rules=ScalingRules(**{name: getattr(text, name) for name in _RULE_KEYS}),
        max_surge=text.max_surge,
        settle_time=text.settle_time,
        retain_failed=text.retain_failed,
        retain_failed_for=text.retain_failed_for,
        declare_queue=text.declare_queue,
        development=text.development,
    )


def parse_engine(
    section: Mapping[str, Any], where: str, key: str, foreign: ForeignParser | None = None
) -> tuple[Any, Any]:
    """An engine and its settings from a section with ``type``. Raises ConfigProblem.

    ``foreign``: see ``parse_pool``; None imports whatever the section names into this process.
    """
    if foreign is not None and names_foreign(section):
        return Elsewhere(), foreign(section, where, key)
    try:
        found = find_plugin("epu.engines", str(section.get("type", "")), f"{key}.type")
    except ConfigProblem as problem:
        raise ConfigProblem([replace(one, where=where) for one in problem.problems]) from None
    own = {name: value for name, value in section.items() if name != "type"}
    settings = parse_settings(found.Settings, own, where, key)
    if hasattr(settings, "with_engines"):
        problems: list[Problem] = []

        def parse(inner: Mapping[str, Any], below: str) -> tuple[Any, Any]:
            try:
                return parse_engine(inner, where, f"{key}.{below}")
            except ConfigProblem as problem:
                problems.extend(problem.problems)
                return None, None

        settings = settings.with_engines(parse)
        if problems:
            raise ConfigProblem(problems)
    return found(), settings


def queues_of(settings: Any) -> tuple[str, ...]:
    """The queues that an engine follows, by the names of its settings."""
    queue = getattr(settings, "queue", "")
    return (queue,) if queue else tuple(getattr(settings, "queues", ()))


def check_clouds(spec: PoolSpec, known: Collection[str]) -> None:
    """Raise ConfigProblem for every cloud that the pool names and that is not ``known``."""
    named = [("clouds", cloud) for cloud in spec.clouds]
    named += [(f"machine.clouds.{cloud}", cloud) for cloud in spec.machine_by_cloud]
    problems = [
        Problem(key=key, what=f"unknown cloud '{cloud}'", remedy=did_you_mean(cloud, known))
        for key, cloud in named
        if cloud not in known
    ]
    if problems:
        raise ConfigProblem(problems)


def _machine(
    given: object, text: _PoolText | None, problems: list[Problem], where: str, key: str
) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """A ``machine:`` section as text, what all clouds share and what each has of its own."""
    if not isinstance(given, Mapping):
        return {}, {}  # the section's own parser has said so
    shared = _settings({k: v for k, v in given.items() if k != "clouds"}, problems, where, key)
    below = given.get("clouds", {})
    if not isinstance(below, Mapping):
        what = "must be a section of clouds, each with its own settings"
        problems.append(Problem(where=where, key=f"{key}.clouds", what=what))
        return shared, {}
    by_cloud = {}
    for cloud, own in below.items():
        here = f"{key}.clouds.{cloud}"
        if text is not None and text.clouds and cloud not in text.clouds:
            what, remedy = "not a cloud of this pool", did_you_mean(str(cloud), text.clouds)
            problems.append(Problem(where=where, key=here, what=what, remedy=remedy))
        if isinstance(own, Mapping):
            by_cloud[str(cloud)] = _settings(own, problems, where, here)
        else:
            what = "must be a section of the cloud's own settings"
            problems.append(Problem(where=where, key=here, what=what))
    return shared, by_cloud


def _settings(
    given: Mapping[Any, Any], problems: list[Problem], where: str, key: str
) -> dict[str, str]:
    """Names and scalars; drivers take text, people write ``disk: 20`` and ``spot: true``."""
    settings: dict[str, str] = {}
    for name, value in given.items():
        here = f"{key}.{name}"
        if not isinstance(name, str) or not _SETTING_NAME.match(name):
            what = "a setting's name has letters, digits, - and _"
            problems.append(Problem(where=where, key=here, what=what))
        elif isinstance(value, bool):
            settings[name] = "true" if value else "false"
        elif isinstance(value, str | int | float):
            settings[name] = str(value)
        else:
            what = f"must be a text or a number, not {type(value).__name__}"
            problems.append(Problem(where=where, key=here, what=what))
    return settings


def _collect(
    problems: list[Problem], kind: type[T], given: object, where: str, key: str
) -> T | None:
    """``given`` parsed, or None with its problems added to ``problems``."""
    try:
        return parse_settings(kind, given, where, key)
    except ConfigProblem as found:
        problems.extend(found.problems)
        return None
