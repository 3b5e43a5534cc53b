"""The real command on the shipped samples, in a home of its own, and what it leaves behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest


class World:
    """One home for runs, and the processes of this machine that belong to it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.home = directory / "home"
        self.environment = {**os.environ, "EPU_HOME": str(self.home)}
        self.environment.pop("EPU_RUN", None)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start ``epu`` with ``words``."""
        return subprocess.Popen(
            [sys.executable, "-m", "mgmt.cli", *words],
            env=self.environment,
            cwd=self.directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def epu(self, *words: str) -> tuple[int, str, str]:
        """Exit code, output and messages of ``epu`` with ``words``."""
        process = self.start(*words)
        out, err = process.communicate(timeout=100)
        return process.returncode, out, err

    def run_directory(self, run: str) -> Path:
        return self.home / "runs" / run

    def attributes(self, run: str) -> dict[str, dict[str, str]]:
        """The attributes of every service of a run, by its name."""
        _, out, _ = self.epu("status", run, "--json")
        return {each["name"]: each["attributes"] for each in json.loads(out)["services"]}

    def processes(self, *places: Path) -> list[str]:
        """Living processes that work for this home, or in one of ``places``."""
        marks = [str(place).encode() for place in (self.home, *places)]
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            seen = b""
            with suppress(OSError):
                words = (process / "cmdline").read_bytes()
                seen = words + (process / "environ").read_bytes()
                seen += os.fsencode(os.readlink(process / "cwd"))
            if process.name != str(os.getpid()) and any(mark in seen for mark in marks):
                found.append(f"{process.name} {words.decode(errors='replace')}")
        return found


def noted(file: Path) -> Any:
    return json.loads(file.read_text())


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    found = World(tmp_path)
    yield found
    runs = found.home / "runs"
    for run in sorted(runs.iterdir()) if runs.is_dir() else []:
        found.epu("terminate", run.name, "-q")
