"""``epu boot``, then ``epu teardown`` with a provisioner that dies meanwhile; and again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.rpc_client import RpcClient
from bootlevels.plans.sleeper.producer import job_ids, produce
from coordinator.config import read_access
from mgmt import serve
from mgmt.broker import broker_status

pytestmark = pytest.mark.e2e

RUN = "short-life"
JOB = 5.0

Figure = Callable[[str, float], None]
Epu = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def epu(home: Path) -> Epu:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mgmt.cli", *words],
            env={**os.environ, "EPU_HOME": str(home)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
        )

    return run


@pytest.fixture
def booted(epu: Epu, home: Path, system_in: Callable[[Path, str], Any]) -> Iterator[Any]:
    """The sample plan, booted as a person would; a System that looks at it."""
    found = system_in(home / "runs" / RUN, RUN)
    try:
        result = epu("boot", "sleeper", "-n", RUN)
        assert result.returncode == 0, result.stderr
        found.access = read_access(found.accounts)
        yield found
    finally:
        found.end()


def test_a_teardown_lets_jobs_finish_outlives_its_provisioner_and_leaves_nothing(
    booted: Any, epu: Epu, home: Path, figure: Figure
) -> None:
    with RpcClient(booted.access.amqp_url("coordinator")) as client:
        workers = {x["node_id"] for x in client.call("provisioner", "live_nodes")}
    jobs = job_ids(len(workers), "job")
    produce(booted.access, "sleeper-work", jobs, JOB)
    booted.wait(lambda: busy_nodes(booted) == workers, "each worker has a job in hand")

    at = time.time()
    teardown = subprocess.Popen(
        [sys.executable, "-m", "mgmt.cli", "teardown", RUN],
        env={**os.environ, "EPU_HOME": str(home)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        booted.wait(lambda: draining(booted) == workers, "all of them drain")
        assert len(booted.alive()) == len(workers)
        booted.kill_process("provisioner")
        teardown.terminate()
        said = teardown.communicate(timeout=20)[1]
        assert teardown.returncode == 130, said
    finally:
        teardown.kill()

    again = epu("teardown", RUN, "--json")
    assert again.returncode == 0, again.stderr
    figure("teardown with jobs in hand, interrupted and run again", time.time() - at)

    done = (booted.directory / "jobs-done.txt").read_text().splitlines()
    assert sorted(line.split()[0] for line in done) == jobs, "each finished, none came twice"
    receipt = json.loads((booted.directory / "receipt.json").read_text())
    assert json.loads(again.stdout)["left"] == receipt["left"] == {"workers": [], "services": []}
    assert set(receipt["before"]["workers"]) == workers
    assert receipt["clean"]
    assert booted.alive() == []
    assert list(booted.processes_left()) == []

    second = epu("teardown", RUN)
    assert second.returncode == 0, second.stderr
    assert "nothing left" in second.stdout


# tests/unit/mgmt/test_gone_for_ever.py shows the same on hard-mode EC2, for less.
@pytest.mark.soak
def test_workers_of_a_provisioner_that_is_gone_for_ever_are_found_and_ended_only_when_asked(
    booted: Any, epu: Epu
) -> None:
    """Exit 4 and an untouched base; the doctor lists the machines and offers to end them."""
    there = set(booted.alive())
    nodes = {machine.partition(".")[0] for machine in there}
    serve.stop(booted.state_dir)
    for lost in ("supervisord.conf", "provisioner.db"):  # nobody could start it again
        (booted.state_dir / lost).unlink()

    refused = epu("teardown", RUN)
    assert refused.returncode == 4, refused.stderr
    assert "the base system was left standing" in refused.stderr
    assert broker_status(booted.broker_directory).usable
    assert set(booted.alive()) == there

    found = epu("doctor", RUN, "--json")
    assert found.returncode == 1, found.stderr
    offers = [one for one in json.loads(found.stdout)["findings"] if one["repair"]]
    (offer,) = [one for one in offers if one["repair"]["action"] == "end_machines"]
    assert set(offer["repair"]["subjects"]) == nodes and offer["repair"]["grave"]
    assert set(booted.alive()) == there, "looking ends nobody"

    epu("doctor", RUN, "--fix", "--yes", "--end-workers")
    booted.wait(lambda: booted.alive() == [], "the machines are gone")


def busy_nodes(system: Any) -> set[str]:
    found = system.call("controller", "pool", "epu-sleeper")
    return {one["node_id"] for one in found["instances"] if one["busy"]}


def draining(system: Any) -> set[str]:
    found = system.call("provisioner", "live_nodes")
    return {one["node_id"] for one in found if one["state"] == "DRAINING"}
