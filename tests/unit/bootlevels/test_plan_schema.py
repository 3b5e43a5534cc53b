"""The published schema: what the models say, and what the shipped plans are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from bootlevels.plan_schema import plan_schema
from bootlevels.run_home import sample_plans

PUBLISHED = Path(__file__).parents[3] / "docs" / "plan.schema.json"


@pytest.fixture(scope="module")
def validator() -> Any:
    jsonschema.Draft202012Validator.check_schema(plan_schema())
    return jsonschema.Draft202012Validator(plan_schema())


def test_the_published_schema_is_that_of_the_models() -> None:
    """``epu schema > docs/plan.schema.json`` publishes it anew."""
    assert json.loads(PUBLISHED.read_text(encoding="utf-8")) == plan_schema()


@pytest.mark.parametrize("sample", sorted(sample_plans()))
def test_the_shipped_plans_validate_against_the_published_schema(
    sample: str, validator: Any
) -> None:
    plan = yaml.safe_load(sample_plans()[sample].read_text(encoding="utf-8"))
    assert [error.message for error in validator.iter_errors(plan)] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"plan": "x"},
        {"plan": "x", "levels": []},
        {"plan": "x", "levels": [{"services": {}}]},
        {"plan": "x", "levels": [{"services": {"a": {"lcal": True}}}]},
        {"plan": "x", "levels": [{"services": {"a": {"boot": {"timeout": "1s"}}}}]},
        {"plan": "x", "levels": [{"services": {"a": {"local": "perhaps"}}}]},
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(wrong: Any, validator: Any) -> None:
    assert list(validator.iter_errors(wrong))
