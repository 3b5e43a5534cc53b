"""Text that people wrote, parsed into frozen dataclasses with every problem named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache
from types import UnionType
from typing import Any, TypeVar, get_args, get_type_hints

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
            what, remedy = error["msg"].removeprefix("Value error, "), ""
            if error["type"] == "unexpected_keyword_argument":
                what = "unknown key"
                *above, name = error["loc"]
                remedy = did_you_mean(str(name), _keys_at(kind, above))
            elif error["type"] not in ("missing", "value_error"):
                what = f"{what}, not {_shown(error['input'])}"
            below = _below(key, inner)
            problems.append(Problem(where=where, key=below, what=what, remedy=remedy))
        raise ConfigProblem(problems) from None
    if problems:
        raise ConfigProblem(problems)
    return parsed


def _keys_at(kind: Any, loc: Sequence[int | str]) -> set[str]:
    """The keys of the section that stands at ``loc`` in a ``kind``; none where that is not told."""
    found = kind
    for part in loc:
        if is_dataclass(found):
            found = get_type_hints(found).get(str(part))
        else:  # an item of a sequence, or a value of a mapping
            inner = get_args(found)
            found = inner[-1 if isinstance(part, str) else 0] if inner else None
        if isinstance(found, UnionType):
            found = next((one for one in get_args(found) if is_dataclass(one)), found)
    return {field.name for field in fields(found)} if is_dataclass(found) else set()


def _below(key: str, inner: str) -> str:
    return f"{key}.{inner}" if key and inner else key or inner


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
