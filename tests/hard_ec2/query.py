"""EC2's query protocol: what a client sends as a form, and the XML that it gets back. PURE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

#: Parameters that say how a request was signed, not what it asks.
_SIGNING = frozenset(
    {"AWSAccessKeyId", "Signature", "SignatureMethod", "SignatureVersion", "Timestamp", "Expires"}
)


class ApiError(Exception):
    """An answer of the API that is an error; ``code`` is what clients decide by."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


class Query:
    """The parameters of one request. Lists are numbered from 1: ``InstanceId.1``."""

    def __init__(self, parameters: Mapping[str, str]) -> None:
        self.parameters = dict(parameters)
        self.action = self.parameters.get("Action", "")
        self.version = self.parameters.get("Version", "2016-11-15")

    def text(self, name: str, default: str = "") -> str:
        return self.parameters.get(name, default)

    def number(self, name: str, default: int | None = None) -> int:
        """Raises ApiError when the parameter is missing or no number."""
        text = self.parameters.get(name)
        if text is None:
            if default is None:
                what = f"The request must contain the parameter {name}"
                raise ApiError("MissingParameter", what)
            return default
        if not text.isdigit():
            raise ApiError("InvalidParameterValue", f"Value ({text}) for {name} is invalid")
        return int(text)

    def texts(self, name: str) -> list[str]:
        """``Name.1``, ``Name.2`` … in order."""
        found: list[str] = []
        while (text := self.parameters.get(f"{name}.{len(found) + 1}")) is not None:
            found.append(text)
        return found

    def sections(self, name: str) -> list[Query]:
        """``Name.1.*``, ``Name.2.*`` … as queries of their own."""
        found: dict[int, dict[str, str]] = {}
        for key, value in self.parameters.items():
            if key.startswith(f"{name}."):
                number, _, rest = key.removeprefix(f"{name}.").partition(".")
                if number.isdigit():
                    found.setdefault(int(number), {})[rest] = value
        return [Query(found[number]) for number in sorted(found)]

    def tags(self, kind: str) -> dict[str, str]:
        """The tags that resources of ``kind`` are created with."""
        return {
            tag.text("Key"): tag.text("Value")
            for specification in self.sections("TagSpecification")
            if specification.text("ResourceType") == kind
            for tag in specification.sections("Tag")
        }

    def filters(self) -> dict[str, list[str]]:
        """Name → values, any of which will do."""
        return {one.text("Name"): one.texts("Value") for one in self.sections("Filter")}

    def fingerprint(self) -> tuple[tuple[str, str], ...]:
        """What has to be the same in a repeat of this request."""
        return tuple(sorted((k, v) for k, v in self.parameters.items() if k not in _SIGNING))


def answer(action: str, version: str, request_id: str, content: Mapping[str, Any]) -> str:
    """The XML of a successful answer."""
    inner = _elements({"requestId": request_id, **content})
    space = f"http://ec2.amazonaws.com/doc/{version}/"
    head = '<?xml version="1.0" encoding="UTF-8"?>\n'
    return f'{head}<{action}Response xmlns="{space}">{inner}</{action}Response>'


def error_answer(error: ApiError, request_id: str) -> str:
    """The XML of an error."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error>'
        f"<Code>{error.code}</Code><Message>{escape(error.message)}</Message>"
        f"</Error></Errors><RequestID>{request_id}</RequestID></Response>"
    )


def tag_set(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in tags.items()]


def _elements(value: Any) -> str:
    if isinstance(value, Mapping):
        shown = ((name, inner) for name, inner in value.items() if inner is not None)
        return "".join(f"<{name}>{_elements(inner)}</{name}>" for name, inner in shown)
    if isinstance(value, str):
        return escape(value)
    if isinstance(value, Sequence):
        return "".join(f"<item>{_elements(one)}</item>" for one in value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return escape(str(value))
