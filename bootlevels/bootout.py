"""``bootout.json``: what a boot program tells about its service."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MAX_BYTES = 1_000_000


class BadBootout(ValueError):
    """The file a boot program wrote is not an object of names and values."""


def read_bootout(path: Path) -> dict[str, str]:
    """The outputs in ``path``: texts as they are, everything else as JSON; {} without a file.

    Raises BadBootout, whose text names the file and never quotes it.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise BadBootout(f"{path} can't be read: {error.strerror}") from None
    return parse_bootout(content, str(path))


def parse_bootout(content: bytes, shown: str) -> dict[str, str]:
    """The outputs in ``content``, the beginning of a file that people know as ``shown``.

    Raises BadBootout, whose text never quotes the content.
    """
    if len(content) > MAX_BYTES:
        raise BadBootout(f"{shown} is larger than {MAX_BYTES} bytes")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise BadBootout(f"{shown} is not JSON") from None
    if not isinstance(found, dict):
        raise BadBootout(f"{shown} must hold an object of names and values")
    outputs = {name: _as_text(value) for name, value in found.items()}
    if any("\0" in text for text in (*outputs, *outputs.values())):
        raise BadBootout(f"{shown} holds a zero byte, which no program could be given")
    return outputs


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
