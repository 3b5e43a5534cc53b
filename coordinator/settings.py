"""Text that people wrote, parsed into frozen dataclasses with every problem named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from coordinator.errors import ConfigProblem, Problem, did_you_mean

T = TypeVar("T")


@lru_cache(maxsize=200)
def _adapter(kind: Any) -> TypeAdapter[Any]:
    # Made from the class anew it costs milliseconds, each time that a pool is parsed.
    return TypeAdapter(kind)


def parse_settings(kind: type[T], given: object, where: str = "", key: str = "") -> T:
    """``given`` as an instance of the frozen dataclass ``kind``.

    Unknown keys, missing keys, wrong types and what the class itself refuses (ValueError
    in ``__post_init__``) are all reported together as one ConfigProblem, each with its
    dotted key below ``key``.
    """
    if not is_dataclass(kind):
        raise TypeError(f"{kind!r} is not a dataclass")
    if not isinstance(given, Mapping):
        what = f"must be a section of keys and values, not {type(given).__name__}"
        raise ConfigProblem([Problem(where=where, key=key, what=what)])
    known = {field.name for field in fields(kind)}
    problems = [
        Problem(
            where=where,
            key=_below(key, str(name)),
            what="unknown key",
            remedy=did_you_mean(str(name), known),
        )
        for name in given
        if name not in known
    ]
    try:
        parsed: T = _adapter(kind).validate_python({k: v for k, v in given.items() if k in known})
    except ValidationError as found:
        for error in found.errors(include_url=False):
            inner = ".".join(str(part) for part in error["loc"])
            what = error["msg"].removeprefix("Value error, ")
            if error["type"] == "unexpected_keyword_argument":
                what = "unknown key"
            elif error["type"] not in ("missing", "value_error"):
                what = f"{what}, not {_shown(error['input'])}"
            problems.append(Problem(where=where, key=_below(key, inner), what=what))
        raise ConfigProblem(problems) from None
    if problems:
        raise ConfigProblem(problems)
    return parsed


def _below(key: str, inner: str) -> str:
    return f"{key}.{inner}" if key and inner else key or inner


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
