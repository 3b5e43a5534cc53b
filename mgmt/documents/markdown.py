"""The catalogue of documents as the Markdown of docs/json.md."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from mgmt.documents.catalogue import CATALOGUE, Printed

BEGIN = "<!-- made by: python -m mgmt.documents docs/json.md -->"
END = "<!-- end of what is made -->"


def with_catalogue(text: str) -> str:
    """``text`` with what stands between BEGIN and END made anew. Raises ValueError."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the text has no '{BEGIN}' or no '{END}'")
    return f"{before}{BEGIN}\n\n{catalogue()}\n{END}{after}"


def catalogue() -> str:
    """A table of commands, then each document with its keys, and the objects within them."""
    parts: dict[str, Mapping[str, Any]] = {}
    lines = ["| command | document |", "|---|---|"]
    lines += [f"| {_commands(each)} | {_reference(each)} |" for each in CATALOGUE]
    for each in CATALOGUE:
        schema = each.model.model_json_schema()
        parts |= schema.get("$defs", {})
        form = "one a line" if each.lines else f"`{each.identity}`"
        lines += ["", f"### {each.model.__name__}", ""]
        lines += [f"{_sentence(each.model.__doc__)} {_commands(each)}: {form}.", ""]
        lines += _keys(schema, parts)
    known = {each.model.__name__ for each in CATALOGUE}
    lines += ["", "## Objects in documents"]
    for name in sorted(set(parts) - known):
        if "properties" in parts[name]:
            lines += ["", f"### {name}", "", _sentence(parts[name].get("description")), ""]
            lines += _keys(parts[name], parts)
    return "\n".join(lines) + "\n"


def _commands(printed: Printed) -> str:
    return ", ".join(f"`{each}`" for each in printed.commands)


def _reference(printed: Printed) -> str:
    name = printed.model.__name__
    return f"[{name}](#{name.lower()})" + (" (one a line)" if printed.lines else "")


def _sentence(text: str | None) -> str:
    return " ".join(inspect.cleandoc(text or "").split()).replace("``", "`")


def _keys(schema: Mapping[str, Any], parts: Mapping[str, Any]) -> Iterator[str]:
    required = schema.get("required", ())
    yield "| key | value | |"
    yield "|---|---|---|"
    for name, value in schema.get("properties", {}).items():
        said = _sentence(value.get("description"))
        if name not in required:
            said = f"{said} May be absent.".strip()
        kind = _kind(value, parts)
        yield f"| `{name}` | {kind} | {said} |"


def _kind(value: Mapping[str, Any], parts: Mapping[str, Any]) -> str:
    """What a value is, in words."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        words = parts.get(name, {}).get("enum")
        return _words(words) if words else f"[{name}](#{name.lower()})"
    if "anyOf" in value:
        return " or ".join(_kind(each, parts) for each in value["anyOf"])
    if "enum" in value:
        return _words(value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    match value.get("type"):
        case "array":
            return f"list of {_kind(value.get('items', {}), parts)}"
        case "object":
            inner = value.get("additionalProperties")
            if isinstance(inner, Mapping) and inner:
                return f"by name: {_kind(inner, parts)}"
            return "object"
        case "boolean":
            return "true or false"
        case "string":
            return "text"
        case None:
            return "anything"
        case other:
            return str(other)


def _words(words: Any) -> str:
    return ", ".join(f"`{word}`" if word else "empty" for word in words)
