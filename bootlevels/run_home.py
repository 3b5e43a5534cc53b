"""Where runs live, and which there are; where the sample plans are."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

#: Content of a run's directory that makes it a run.
RECORD_NAME = "run.db"
RUN_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,39})\Z")


def epu_home(environment: Mapping[str, str] | None = None) -> Path:
    """EPU_HOME, or ``~/.epu``; absolute, lexical."""
    given = (os.environ if environment is None else environment).get("EPU_HOME")
    return Path.cwd() / given if given else Path.home() / ".epu"


def sample_plans() -> dict[str, Path]:
    """The shipped launch plans by name, which has a dash where the directory's has none."""
    directory = Path(__file__).parent / "plans"
    found = sorted(directory.glob("*/plan.yaml"))
    return {path.parent.name.replace("_", "-"): path for path in found}


def sample_plan(name: str) -> Path | None:
    """The shipped launch plan called ``name``, written with dashes or underscores."""
    return sample_plans().get(name.replace("_", "-"))


def run_names(home: Path | None = None) -> list[str]:
    """Names of all runs that have a record, sorted."""
    runs = (home or epu_home()) / "runs"
    if not runs.is_dir():
        return []
    found = [path.name for path in runs.iterdir() if (path / RECORD_NAME).is_file()]
    return sorted(name for name in found if RUN_NAME.match(name))
