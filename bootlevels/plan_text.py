"""The native plan's text as pydantic models: every key that people may write.

These models are the format's contract; a JSON Schema can be made of ``PlanText``. They
know texts only: what references mean is checked on the values (``plan.LaunchPlan``).
"""

from __future__ import annotations

import re
import shlex
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from bootlevels.plan import CheckKind, PoolCheck, TransportKind

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)(ms|s|m|h|d)?)\Z")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, None: 1.0}
_LONGEST = 7 * 86400.0

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}\Z")
ATTRIBUTE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}\Z")


def parse_duration(given: object) -> float:
    """Seconds of ``10m``, ``30s``, ``500ms``, ``1.5h``, ``2d`` or a number of seconds.

    Raises ValueError for anything else, for nothing at all and for more than a week.
    """
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        raise ValueError("must be a duration like 30s, 10m or 1h")
    found = _DURATION.match(str(given).strip())
    if found is None:
        raise ValueError(f"must be a duration like 30s, 10m or 1h, not '{given}'")
    seconds = float(found[1]) * _UNITS[found[2]]
    if not 0 < seconds <= _LONGEST:
        raise ValueError(f"must be longer than nothing and at most 7d, not '{given}'")
    return seconds


def parse_words(given: object) -> list[str]:
    """The words of a program: a list as it is, a text split as a shell would.

    The split comes before references are resolved, so no value ever becomes two words.
    """
    if isinstance(given, str):
        try:
            words = shlex.split(given)
        except ValueError as problem:
            raise ValueError(f"can't be split into words: {problem}") from None
    elif isinstance(given, list):
        words = [parse_scalar(word) for word in given]
    else:
        raise ValueError("must be a command: a text or a list of words")
    if not words or not words[0]:
        raise ValueError("must name a program")
    if any("\0" in word for word in words):
        raise ValueError("must not hold a zero byte")
    return words


def parse_scalar(given: object) -> str:
    """A text, number or truth value as text (``true``, ``5``)."""
    if isinstance(given, bool):
        return "true" if given else "false"
    if isinstance(given, str | int | float):
        return str(given)
    raise ValueError("must be a text or a number")


def _name(pattern: re.Pattern[str], rule: str) -> BeforeValidator:
    def check(given: object) -> str:
        if not isinstance(given, str) or not pattern.match(given):
            raise ValueError(f"a name is {rule}, not '{given}'")
        return given

    return BeforeValidator(check)


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": ["string", "number"], "examples": ["30s", "10m", 5]}),
]
Words = Annotated[
    list[str],
    BeforeValidator(parse_words),
    WithJsonSchema({"type": ["string", "array"], "items": {"type": "string"}}),
]
Scalar = Annotated[
    str,
    BeforeValidator(parse_scalar),
    WithJsonSchema({"type": ["string", "number", "boolean"]}),
]
ServiceName = Annotated[str, _name(NAME, "letters, digits, - and _, at most 40, a letter first")]
AttributeName = Annotated[
    str, _name(ATTRIBUTE_NAME, "letters, digits, - and _, at most 64, no digit first")
]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ProgramText(_Section):
    """``run`` is the program with its arguments; exit code 0 is success."""

    run: Words
    timeout: Duration | None = None
    environment: dict[AttributeName, Scalar] = Field(default_factory=dict)


class CheckText(_Section):
    """Exactly one of ``tcp``, ``http``, ``amqp``, ``file``, ``pool``, ``run``; asked until
    it passes.
    """

    tcp: str | None = None
    http: str | None = None
    amqp: str | None = None
    file: str | None = None
    pool: str | None = None
    run: Words | None = None
    environment: dict[AttributeName, Scalar] = Field(default_factory=dict)
    interval: Duration | None = None
    timeout: Duration | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> CheckText:
        kinds = [kind.value for kind in CheckKind]
        given = [kind for kind in kinds if getattr(self, kind) is not None]
        if len(given) != 1:
            shown = ", ".join(given) if given else "none"
            raise ValueError(f"a check has exactly one of {', '.join(kinds)}; given: {shown}")
        if self.environment and self.run is None:
            raise ValueError("environment is for checks that run a program")
        return self

    @property
    def kind(self) -> CheckKind:
        return next(kind for kind in CheckKind if getattr(self, kind.value) is not None)


class SshText(_Section):
    """How a machine is reached by ssh; what is not said comes from the user's ssh settings."""

    user: str = ""
    port: Scalar = ""
    key: str = ""
    known_hosts: str = ""
    stage_directory: str = ""


class ServiceText(_Section):
    """One service.

    Where it is: ``local``, a machine of its own (``template``, ``image`` or ``cloud``), an
    existing ``host``, ``on`` another service's machine, a ``pool``, or nowhere (attributes
    only).
    """

    description: str = ""
    local: bool = False
    template: str | None = None
    image: Scalar | None = None
    cloud: str | None = None
    settings: dict[AttributeName, Scalar] = Field(default_factory=dict)
    variables: dict[AttributeName, Scalar] = Field(default_factory=dict)
    user_data: str | None = None
    host: str | None = None
    on: str | None = None
    ssh: SshText | None = None
    transport: TransportKind | None = None
    replicas: int | None = Field(default=None, ge=1, le=10_000, strict=True)
    bootconf: str | None = None
    attributes: dict[AttributeName, Scalar] = Field(default_factory=dict)
    outputs: list[AttributeName] = Field(default_factory=list)
    provides: list[str] = Field(default_factory=list)
    keeps: list[ServiceName] = Field(default_factory=list)
    boot: ProgramText | None = None
    ready: list[CheckText] = Field(default_factory=list)
    terminate: ProgramText | None = None
    pool: dict[str, Any] | None = None
    verify: PoolCheck = PoolCheck.STABLE
    timeout: Duration | None = None

    @property
    def places(self) -> list[str]:
        """The keys of it that say where it is; more than one contradict each other."""
        machine = [k for k in ("template", "image", "cloud") if getattr(self, k) is not None]
        keys = ["local"] if self.local else []
        keys += [k for k in ("host", "on", "pool") if getattr(self, k) is not None]
        return keys + machine[:1]


class LevelText(_Section):
    """Services that start together."""

    description: str = ""
    services: dict[ServiceName, ServiceText] = Field(min_length=1)


class DefaultsText(_Section):
    """What a service has when it says nothing itself."""

    timeout: Duration = 600.0
    interval: Duration = 1.0
    cloud: str | None = None


class OverlayText(_Section):
    """A profile: laid over the plan when it is chosen; ``null`` removes a key."""

    description: str = ""
    globals: dict[AttributeName, Any] = Field(default_factory=dict)
    clouds: dict[ServiceName, Any] = Field(default_factory=dict)
    defaults: dict[str, Any] = Field(default_factory=dict)
    services: dict[ServiceName, dict[str, Any] | None] = Field(default_factory=dict)


class PlanText(_Section):
    """A whole plan file."""

    plan: ServiceName
    description: str = ""
    globals: dict[AttributeName, Scalar] = Field(default_factory=dict)
    clouds: dict[ServiceName, dict[AttributeName, Scalar]] = Field(default_factory=dict)
    defaults: DefaultsText = Field(default_factory=DefaultsText)
    profiles: dict[ServiceName, OverlayText] = Field(default_factory=dict)
    levels: list[LevelText] = Field(min_length=1)


def known_keys(model: type[BaseModel], path: tuple[str | int, ...]) -> list[str]:
    """The keys that the section at ``path`` may have, for "did you mean"."""
    kind: Any = model
    for step in path:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found = kind.model_fields.get(str(step))
            kind = found.annotation if found else None
        else:
            kind = _inner(kind)
        kind = _without_none(kind)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return list(kind.model_fields)
    return []


def _inner(kind: Any) -> Any:
    arguments = getattr(kind, "__args__", ())
    return arguments[-1] if arguments else None


def _without_none(kind: Any) -> Any:
    if getattr(kind, "__origin__", None) in (dict, list) or isinstance(kind, type):
        return kind
    arguments = [part for part in getattr(kind, "__args__", ()) if part is not type(None)]
    return arguments[0] if len(arguments) == 1 else kind
