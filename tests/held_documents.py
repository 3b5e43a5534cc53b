"""Holds JSON documents of commands to what their models say, to the last key."""

from __future__ import annotations

from functools import cache
from typing import Any

import jsonschema

from mgmt.documents.catalogue import CATALOGUE, Printed, schema_of


def problems_of(document: dict[str, Any], printed: tuple[Printed, ...] = ()) -> list[str]:
    """What of a document its schema does not say; empty when it is as promised.

    A reader ignores keys that it does not know; here a key that is told nowhere is a problem.
    """
    printed = printed or tuple(one for one in CATALOGUE if one.identity == document["schema"])
    if not printed:
        return [f"no document is called {document['schema']}"]
    problems = [
        [
            f"{error.json_path}: {error.message[:300]}"
            for error in _validator(one).iter_errors(document)
        ]
        for one in printed
    ]
    return min(problems, key=len)


@cache
def _validator(printed: Printed) -> Any:
    return jsonschema.Draft202012Validator(_closed(schema_of([printed])))


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(each) for key, each in schema.items()}
    return {**closed, "additionalProperties": False} if "properties" in schema else closed
