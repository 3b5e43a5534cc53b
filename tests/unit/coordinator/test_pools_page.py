"""docs/pools.md: what it says can be written is accepted."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import yaml

from coordinator.plugins import ALIASES
from coordinator.pool_spec import parse_pool
from coordinator.pool_values import ScalingRules

PAGE = (Path(__file__).parents[3] / "docs" / "pools.md").read_text()


def test_the_example_is_a_pool():
    examples = re.findall(r"(?:^    .*\n)+", PAGE, re.MULTILINE)
    [example] = [one for one in examples if "budget:" in one]
    spec = parse_pool("example", yaml.safe_load(example))
    assert spec.rules.budget == 4.0
    assert spec.rules.schedule[0].timezone == "Europe/Berlin"


def test_every_engine_and_every_bound_is_on_the_page():
    engines = set(ALIASES["epu.engines"].values())
    named = {ALIASES["epu.engines"][word] for word in re.findall(r"^\| `([a-z_]+)`", PAGE, re.M)
             if word in ALIASES["epu.engines"]}  # fmt: skip
    assert named == engines
    assert not [field.name for field in fields(ScalingRules) if f"`{field.name}`" not in PAGE]
