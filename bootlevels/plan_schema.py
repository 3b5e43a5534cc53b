"""The JSON Schema of the native format, made of the models that read it."""

from __future__ import annotations

from typing import Any

from bootlevels.plan_text import PlanText

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def plan_schema() -> dict[str, Any]:
    """What ``epu schema`` prints and ``docs/plan.schema.json`` holds."""
    schema = PlanText.model_json_schema()
    return {"$schema": DIALECT, **schema, "title": "EPU launch plan"}
