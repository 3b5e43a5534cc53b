"""Engines that are not ours are imported in a process of their own, whatever they do there."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from coordinator.errors import ConfigProblem
from coordinator.foreign_engines import HostedSettings, checked
from coordinator.pool_spec import parse_pool

WELL = """
import sys
from dataclasses import dataclass

print("loud " * 100_000, flush=True)


@dataclass(frozen=True)
class Settings:
    level: int = 1
    queue: str = "its-own-work"


class Engine:
    Settings = Settings
"""


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A section that names an engine whose module is the given text."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(text: str) -> dict[str, Any]:
        (tmp_path / "somebodys.py").write_text(text)
        return {"type": "somebodys:Engine"}

    return write


def refusal(section: dict[str, Any], within: float = 60.0) -> str:
    with pytest.raises(ConfigProblem) as refused:
        checked(section, "pool.yaml", "engine", within)
    assert "somebodys" not in sys.modules
    return str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raise RuntimeError('boom')", "'somebodys:Engine' can't be imported: boom"),
        ("raise SystemExit(3)", "'somebodys:Engine' can't be loaded: SystemExit: 3"),
        ("import os; os._exit(3)", "its process ended meanwhile (exit status 3)"),
    ],
)
def test_what_a_module_does_as_it_is_imported_is_one_sentence(
    engine: Any, text: str, said: str
) -> None:
    words = refusal(engine(text))
    assert words.startswith("pool.yaml: engine.type: ") and said in words
    assert "\n" not in words


@pytest.mark.parametrize("text", ["import time; time.sleep(3600)", "while True: pass"])
def test_a_module_that_hangs_as_it_is_imported_is_killed_at_its_deadline(
    engine: Any, text: str
) -> None:
    assert "can't be loaded: it was not loaded within 0.5 s" in refusal(engine(text), 0.5)
    mine = psutil.Process(os.getpid()).children(recursive=True)
    assert not [one for one in mine if "engine_host" in " ".join(one.cmdline())]


def test_settings_are_checked_apart_and_tell_which_queue_is_followed(engine: Any) -> None:
    section = engine(WELL)
    found = parse_pool("p", {"engine": section}, foreign=patiently)
    assert found.engine_settings == HostedSettings(("its-own-work",))
    assert found.role.work_queues == ("its-own-work",)
    inside = {"type": "combined", "engines": {"theirs": {**section, "levle": 2}}}
    with pytest.raises(ConfigProblem, match=r"engine.engines.theirs.levle: unknown key"):
        parse_pool("p", {"engine": inside}, foreign=patiently)
    assert "somebodys" not in sys.modules


def patiently(section: Any, where: str, key: str) -> HostedSettings:
    return checked(section, where, key, 60.0)
