"""System tests made of events: timelines run against a system as ``epu exercise`` runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mgmt.broker_launch import server_script

pytestmark = pytest.mark.e2e

HERE = Path(__file__).parent
RUN = "storm"

Epu = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def epu(tmp_path: Path) -> Iterator[Epu]:
    """The command, with the sample "sleeper" booted as run RUN."""
    if server_script() is None:
        reason = "rabbitmq-server is not installed (apt-get install rabbitmq-server)"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)

    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mgmt.cli", *map(str, words)],
            env={**os.environ, "EPU_HOME": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=400,
        )

    try:
        booted = run("boot", "sleeper", "-n", RUN, "-q")
        assert booted.returncode == 0, booted.stderr
        yield run
    finally:
        ended = run("teardown", RUN, "--now")
    assert ended.returncode == 0, ended.stderr


def judged(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What an exercise found; all of it must have held."""
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.timeout(200)
def test_a_killed_worker_and_a_killed_controller_cost_no_job_and_one_machine(
    epu: Epu, tmp_path: Path
) -> None:
    timeline = HERE / "worker_and_controller.yaml"
    unasked = epu("exercise", timeline, "--run", RUN)
    assert unasked.returncode == 2, "nothing is broken before somebody said yes"
    assert "--yes" in unasked.stderr
    picture = tmp_path / "storm.csv"
    found = judged(epu("exercise", timeline, "--run", RUN, "--yes", "--json", "--graph", picture))
    assert (found["held"], found["sent"]) == (True, 16)
    rows = picture.read_text().splitlines()
    assert sum(row.startswith("jobs,done,") for row in rows) >= 16 - 1
    jobs = [row.split(",") for row in rows if row.startswith("jobs,sent,")]
    # Where a line goes on to the picture's end its last figure is there twice.
    assert sorted({float(row[3]) for row in jobs}) == [0, 12, 16]

    # What can't hold is said to be wrong.
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(
        "{exercise: too many, pool: epu-sleeper, timeline: [{at: 0, wait: STABLE}],"
        " expect: {workers: 7, within: 0}}"
    )
    done = epu("exercise", wrong, "--run", RUN, "--json", "--graph", picture)
    assert done.returncode == 1
    [proof] = [one for one in json.loads(done.stdout)["proofs"] if not one["held"]]
    assert proof == {"claim": "7 workers run at the end", "held": False, "figures": "2 run"}


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_broker_that_restarts_under_load_loses_no_job(epu: Epu) -> None:
    timeline = HERE / "broker_restart.yaml"
    found = judged(epu("exercise", timeline, "--run", RUN, "--yes", "--json"))
    assert (found["held"], found["sent"]) == (True, 50)
    assert Path(found["graph"]).stat().st_size > 0
