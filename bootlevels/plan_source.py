"""One door to both plan readers: native YAML and classic ``.conf``."""

from __future__ import annotations

from pathlib import Path

from bootlevels.plan_choices import PlanChoices, PlanReading
from bootlevels.plan_yaml import profiles_of, read_native_plan


def is_classic(path: Path) -> bool:
    """Whether ``path`` is a classic plan: by its name, else by its first section."""
    if path.suffix in (".conf", ".cfg", ".ini"):
        return True
    if path.suffix in (".yaml", ".yml", ".json"):
        return False
    try:
        with path.open("rb") as file:
            head = file.read(65_536)
    except OSError:
        return False  # the reader says why
    lines = (line.strip() for line in head.splitlines())
    first = next((line for line in lines if line and not line.startswith((b"#", b";"))), b"")
    return first.startswith(b"[") and first.endswith(b"]")


def read_launch_plan(path: Path, choices: PlanChoices) -> PlanReading:
    """The plan in ``path``, of either format, with what was chosen for it.

    Raises ConfigProblem with everything that is wrong.
    """
    if is_classic(path):
        from bootlevels.plan_classic import read_classic_plan

        return read_classic_plan(path, choices)
    return read_native_plan(path, choices)


def plan_profiles(path: Path) -> tuple[str, ...]:
    """The profiles of the plan in ``path``; classic plans have none. Raises ConfigProblem."""
    return () if is_classic(path) else profiles_of(path)
