"""The coordinator's processes and the broker are killed as a pool grows; a broker stays away."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bootlevels.plans.sleeper.producer import job_ids, produce
from coordinator.clouds.base import MachineState
from coordinator.clouds.process import kill_machine
from coordinator.testing import eventually
from mgmt.broker_files import BrokerFiles
from mgmt.broker_processes import beam_of, node_processes, send_signal

pytestmark = pytest.mark.e2e

SIZE = 4
#: How far a pool has grown when a part is killed, as ``grown`` says it.
STAGES = [(0, 0, 0), (1, 0, 0), (1, 1, 0), *((1, 1, running) for running in range(1, SIZE))]
#: A broker that is away for longer than any pause between two attempts to reach it.
AWAY = 20.0

#: Less than the broker is away: only that nobody could be heard keeps them from being replaced.
HEALTH = {"missing_timeout": 10, "really_missing_timeout": 1}

Figure = Callable[[str, float], None]


def kill_broker(system: Any) -> None:
    """SIGKILL the Erlang machine, then start the node again as its operator would."""
    system.close()
    identity = BrokerFiles(system.broker_directory).read_identity()
    beam = beam_of(node_processes(identity.mark))
    assert beam is not None
    send_signal(beam, signal.SIGKILL)
    system.start_broker()


@pytest.mark.parametrize("victim", ["provisioner", "controller", "sensors", "registrar", "broker"])
def test_a_pool_reaches_its_size_although_one_part_is_killed_as_it_grows(
    shaken_system: Any, figure: Figure, victim: str
) -> None:
    system = shaken_system
    stage = random.choice(STAGES)
    print(f"{victim} is killed as the pool has grown to {stage}")
    with system.pool(f"grows-{victim}", 0, heartbeat_interval=1) as pool:
        pool.set_size(SIZE)
        system.wait(lambda: grown(pool) >= stage, f"{stage} are there", pause=0.01)
        at = time.time()
        if victim == "broker":
            kill_broker(system)
        else:
            killed = system.kill_process(victim)
            system.wait(lambda: system.processes()[victim][1] != killed, "it is started again")
        system.wait(system.well, "everybody is RUNNING and answers")
        figure(f"{victim} killed to all well", time.time() - at)
        pool.wait_whole(SIZE)

        assert pool.launched() == SIZE
        figure(f"{victim} killed to pool whole", time.time() - at)
        if victim == "broker":
            expect_healing(system, pool, figure, "after the broker was killed")


def test_a_broker_that_is_away_long_makes_nobody_fatal_and_replaces_nobody(
    shaken_system: Any, figure: Figure
) -> None:
    system = shaken_system
    with system.pool("away", 2, heartbeat_interval=0.5, health=HEALTH) as pool:
        outlast(system, pool, AWAY, figure)


def test_a_rollout_goes_on_after_its_controller_was_killed_and_costs_no_worker_and_no_job(
    shaken_system: Any, tmp_path: Path, figure: Figure
) -> None:
    system, queue, done_file = shaken_system, "rolled-work", tmp_path / "done.txt"
    words = [sys.executable, "-m", "bootlevels.plans.sleeper.worker", "--queue", queue]
    section = {
        "programs": {"sleeper": {"command": [*words, "--done-file", str(done_file)]}},
        "work_queues": [queue],
        "busy_file": "busy",
        "heartbeat_interval": 0.5,
        "settle_time": 1,
    }
    with system.pool("rolled", 2, **section) as pool:
        before = pool.wait_whole(2)
        jobs = job_ids(40, "job")
        produce(system.access, queue, jobs, 0.3)
        assert pool.status()["old"] == 0
        system.ask("controller", "reconfigure", "rolled", {"variables": {"colour": "blue"}})
        began, killed, seen = time.time(), 0, []

        def all_new() -> bool:
            nonlocal killed
            seen.append((len(pool.machines(MachineState.RUNNING)), len(pool.machines())))
            if not killed and len(pool.machines() - before) == 1:
                killed = system.kill_process("controller")
            return bool(pool.status()["rollout"]["state"] == "FINISHED")

        epu = str(Path(sys.executable).with_name("epu"))
        rollout = [epu, "pool", "rollout", "rolled", "--accounts", str(system.accounts)]
        subprocess.run([*rollout, "--json"], check=True, timeout=30)
        system.wait(all_new, "all are replaced", 120.0)
        figure("two workers rolled out", time.time() - began)

        assert killed and not before & pool.wait_whole(2)
        assert min(alive for alive, _ in seen) >= 2 and max(most for _, most in seen) <= 3
        system.wait(lambda: len(done(done_file)) == len(jobs), "every job was done")
        assert done(done_file) == Counter(jobs), "nobody was killed, so no job came twice"
        assert pool.launched() == 4
        names = [one.name for one in pool.events() if one.name.startswith("rollout")]
        assert names[0] == "rollout_started" and names[-1] == "rollout_finished"
        status = subprocess.run([*rollout, "--wait"], capture_output=True, text=True, timeout=60)
        assert "FINISHED" in status.stdout, status.stderr


def done(path: Path) -> Counter[str]:
    """How often each job was done: each line is one time."""
    lines = path.read_text().splitlines() if path.exists() else []
    return Counter(line.split()[0] for line in lines)


@pytest.mark.soak
@pytest.mark.parametrize("victim", ["provisioner", "controller", "sensors", "registrar"])
def test_a_part_that_stands_still_makes_nobody_missing_and_the_loss_meanwhile_is_made_good(
    shaken_system: Any, figure: Figure, victim: str
) -> None:
    system = shaken_system
    with system.pool(f"still-{victim}", 3, heartbeat_interval=0.5, health=HEALTH) as pool:
        before = pool.wait_whole(3)
        pid = system.processes()[victim][1]
        os.kill(pid, signal.SIGSTOP)
        try:
            kill_machine(system.cloud.root, min(before))
            left = before - {min(before)}
            all_the_while(AWAY, lambda: left <= pool.machines(), "the others stay")
        finally:
            os.kill(pid, signal.SIGCONT)
        at = time.time()
        after = pool.wait_whole(3)
        figure(f"{victim} goes on to pool whole", time.time() - at)
        wait_until_heard(system, pool, after)
        assert before - {min(before)} < after and pool.launched() == 4


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_a_broker_that_is_away_for_ten_minutes_makes_nobody_fatal_and_replaces_nobody(
    shaken_system: Any, figure: Figure
) -> None:
    system = shaken_system
    with system.pool("away-ten", 2, heartbeat_interval=0.5, health=HEALTH) as pool:
        outlast(system, pool, 600.0, figure)


# ------------------------------------------------------------------ steps


def grown(pool: Any) -> tuple[int, int, int]:
    """Whether there are records, whether there are machines, how many run."""
    return bool(pool.records()), bool(pool.machines()), len(pool.nodes())


def outlast(system: Any, pool: Any, seconds: float, figure: Figure) -> None:
    """The broker is away; meanwhile a process and an agent have to start without it."""
    before = pool.wait_whole(2)
    system.stop_broker()
    system.kill_process("controller")
    system.kill_process("sensors")

    def well() -> bool:
        states = [state for state, _ in system.processes().values()]
        return "FATAL" not in states and pool.machines() == before

    all_the_while(seconds, well, "nobody is FATAL, nobody is replaced")
    pool.kill_agent(min(before))
    system.start_broker()
    at = time.time()
    system.wait(system.well, "everybody is RUNNING and answers")
    wait_until_heard(system, pool, before)
    figure(f"broker back after {seconds:g} s to all heard again", time.time() - at)
    assert pool.wait_whole(2) == before
    assert pool.launched() == 2
    expect_healing(system, pool, figure, f"after {seconds:g} s without a broker")


def all_the_while(seconds: float, holds: Callable[[], bool], what: str) -> None:
    """For so long it holds, whenever somebody looks."""
    end = time.monotonic() + seconds

    def over() -> bool:
        assert holds(), f"not all the while: {what}"
        return time.monotonic() >= end

    eventually(over, 2 * seconds + 30, pause=0.5)


def wait_until_heard(system: Any, pool: Any, nodes: set[str]) -> None:
    """Until every agent serves calls again, and is called OK by sensors that hear."""

    def heard() -> bool:
        for node in nodes:
            system.call(f"agent-{node}", "describe", timeout=1)
        blind = system.call("sensors", "status")["blind"]
        return not blind and all(pool.health(node) == "OK" for node in nodes)

    system.wait(heard, "every node is heard again")


def expect_healing(system: Any, pool: Any, figure: Figure, when: str) -> None:
    """A node that dies is replaced, once."""
    before, launched = pool.machines(), pool.launched()
    at = time.time()
    kill_machine(system.cloud.root, min(before))
    system.wait(lambda: min(before) not in pool.records(), "the loss is noticed")
    after = pool.wait_whole(len(before))
    assert len(after - before) == 1
    assert pool.launched() == launched + 1
    figure(f"SIGKILL to launched {when}", pool.events("new_launch")[-1].time - at)
