"""``epu reload`` of a plan with pools, against the coordinator that keeps them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

#: Four machines of this host are started, and most of them drained, one reload after another.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

RUN = "reloaded"
Epu = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def keeping(system: Any) -> Iterator[Any]:
    """The system that is shared; what a failed test leaves in its pools is sent away."""
    yield system
    nobody = {"min": 0, "max": 0, "schedule": None, "drain_timeout": 1}
    for pool in system.ask("controller", "pools"):
        if pool["name"].startswith("re-"):
            system.ask("controller", "reconfigure", pool["name"], nobody)


@pytest.fixture
def epu(tmp_path: Path) -> Epu:
    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mgmt.cli", *map(str, words)],
            env={**os.environ, "EPU_HOME": str(tmp_path / "home")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=150,
        )

    return run


def pool(size: int, **keys: Any) -> dict[str, Any]:
    engine = {"type": "n_preserving", "preserve_n": size}
    section = {"heartbeat_interval": 1, "drain_timeout": 10, "engine": engine, **keys}
    return {"timeout": "90s", "pool": section}


def test_a_reload_adds_changes_and_removes_pools_and_an_illegal_one_touches_nothing(
    keeping: Any, epu: Epu, tmp_path: Path
) -> None:
    system = keeping

    def plan(name: str, clouds: tuple[str, ...] = ("here",), **pools: Any) -> Path:
        core = {"provides": ["registrar"], "attributes": {"accounts": str(system.accounts)}}
        levels = [{"services": {"core": core}}, {"services": pools}] if pools else []
        path = tmp_path / f"{name}.yaml"
        document = {
            "plan": RUN,
            "clouds": {cloud: {"driver": "process"} for cloud in clouds},
            "levels": levels or [{"services": {"core": core}}],
        }
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        return path

    def reload(path: Path, *options: str) -> Any:
        result = epu("reload", path, "-n", RUN, *options)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def changes(path: Path) -> dict[str, str]:
        found = json.loads(reload(path, "--dry-run", "--json"))["changes"]
        return {each["service"]: each["change"] for each in found}

    def workers(name: str) -> set[str]:
        return {
            f"{one.launch_id}-{one.index}"
            for one in system.cloud.list_instances(system.run)
            if one.pool == name and one.cloud_id in system.alive()
        }

    def sections() -> dict[str, Any]:
        found = system.ask("controller", "pools")
        return {one["name"]: one["section"] for one in found if one["name"].startswith("re-")}

    def events(name: str, pool_name: str) -> int:
        found = system.ask("controller", "events", 0, 10_000)
        return sum(1 for one in found if (one["name"], one["pool"]) == (name, pool_name))

    # A removal must get through what keeps a pool from shrinking while it lives.
    always = {"cron": "* * * * *", "duration": 120, "min": 1, "max": 2}
    busy = {"min": 1, "schedule": [always], "stabilization_window": 3600}
    first = plan("first", **{"re-stays": pool(1, max=5), "re-goes": pool(1, **busy)})
    result = epu("boot", first)
    assert result.returncode == 0, result.stderr
    before = sections(), workers("re-stays"), workers("re-goes")
    assert [len(found) for found in before] == [2, 1, 1]

    for wrong, said in (
        (plan("illegal", **{"re-stays": pool(-1), "re-new": pool(1)}), "preserve_n"),
        (
            # Only this coordinator can know that it has no such cloud.
            plan("no-cloud", ("here", "there"), **{"re-stays": pool(1, clouds=["there"])}),
            "re-stays.pool: the controller refused: clouds: unknown cloud 'there'",
        ),
    ):
        result = epu("reload", wrong, "-n", RUN)
        assert result.returncode == 1
        (line,) = [x for x in result.stderr.splitlines() if x.startswith("epu:")]
        assert said in line, result.stderr
        assert (sections(), workers("re-stays"), workers("re-goes")) == before
    assert changes(first) == {}, "the run is still the plan that it was booted with"

    second = plan("second", **{"re-stays": pool(2), "re-new": pool(1)})
    assert changes(second) == {
        "re-stays": "configured",
        "re-goes": "removed",
        "re-new": "added",
    }
    assert sections() == before[0], "a dry run changes nothing"
    reload(second)
    assert set(sections()) == {"re-stays", "re-new"}
    assert "max" not in sections()["re-stays"], "what the plan says no more has its default again"
    assert events("pool_reconfigured", "re-stays") == 1
    assert workers("re-stays") > before[1] and len(workers("re-stays")) == 2
    assert len(workers("re-new")) == 1
    assert workers("re-goes") == set(), "nobody of a removed pool is left"

    assert "is as the plan says" in reload(second)
    assert events("pool_reconfigured", "re-stays") == 1, "reconfigured once"

    third = plan("third")
    reload(third)
    assert sections() == {}
    assert workers("re-stays") | workers("re-new") == set()
