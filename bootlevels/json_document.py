"""The form of every JSON document that a command prints. What is in each: docs/json.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

#: Within a version keys are only ever added.
JSON_VERSION = 1


def json_text(schema: str, document: Mapping[str, Any]) -> str:
    """A document of the schema ``epu.<schema>``: keys sorted, indented."""
    whole = {"schema": f"epu.{schema}", **document, "version": JSON_VERSION}
    return json.dumps(whole, sort_keys=True, indent=2, ensure_ascii=False)
