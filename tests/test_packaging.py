"""What the distribution promises: its libraries, its packages, its commands."""

from __future__ import annotations

import ast
import importlib
import re
from importlib.metadata import distribution
from pathlib import Path

from coordinator.plugins import ALIASES

ROOT = Path(__file__).parent.parent


def required() -> set[str]:
    lines = distribution("epu").requires or []
    return {
        re.split(r"[^A-Za-z0-9_.-]", line)[0].lower() for line in lines if "extra ==" not in line
    }


def test_the_libraries_that_the_user_asked_for_are_required() -> None:
    assert {"nameko", "kombu", "jinja2", "boto3", "psutil", "supervisor"} <= required()


def test_tests_and_benchmarks_are_never_shipped() -> None:
    tree = ast.parse((ROOT / "setup.py").read_text())
    assert tree is not None
    top_level = (distribution("epu").read_text("top_level.txt") or "").split()
    assert sorted(top_level) == [
        "agent",
        "bootlevels",
        "coordinator",
        "mgmt",
        "userdata_templates",
    ]


def test_every_entry_point_can_be_loaded() -> None:
    for point in distribution("epu").entry_points:
        if point.value.startswith("agent.service"):
            # Loading it would patch the standard library of this test run.
            assert (ROOT / "agent" / "service.py").exists()
            continue
        assert point.load() is not None, point


def test_aliases_and_entry_points_name_the_same_classes() -> None:
    for point in distribution("epu").entry_points:
        if point.group.startswith("epu."):
            assert ALIASES[point.group][point.name] == point.value


def test_every_alias_can_be_imported() -> None:
    for group in ALIASES.values():
        for path in group.values():
            module, _, attribute = path.partition(":")
            assert hasattr(importlib.import_module(module), attribute), path


def test_constraints_pin_every_required_library() -> None:
    pinned = {
        line.split("==")[0].lower()
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    }
    missing = {name.replace("_", "-") for name in required()} - {
        name.replace("_", "-") for name in pinned
    }
    assert not missing, f"not pinned in constraints.txt: {sorted(missing)}"
