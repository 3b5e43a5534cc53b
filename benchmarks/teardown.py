"""A whole system torn down over hard-mode EC2 while everything that can fails.

``python -m benchmarks.teardown [--workers N] [--really N] [--json]``. A launch plan boots a
broker and a coordinator and 200 workers on hard-mode EC2: agents are simulated with the real
wire code, some really boot, in containers with cloud-init, where the host lets them. Then
``epu teardown`` with a ``drain_timeout`` of 5 s; meanwhile 10 % of the machines refuse their
first termination, all processes of the coordinator are killed once and the broker is
restarted once. The receipt must say that nothing is left, and the cloud must agree: else
exit code 1.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.boot_tool import Figure
from benchmarks.ec2_fleet import FLEET, LAG, REAL, Boots, say, until
from benchmarks.simulated_agents import SimulatedAgents
from coordinator.clouds.in_memory import InMemoryCloud
from coordinator.errors import ConfigProblem
from mgmt.broker import start_broker, stop_broker
from mgmt.serve import stop
from mgmt.serve_processes import coordinator_processes, supervisord_of
from tests.hard_ec2 import HardEc2, Lag
from tests.hard_ec2.account import IMAGE
from tests.hard_ec2.boots import BootsOn, Ec2Containers
from tests.hard_ec2.query import ApiError, Query

RUN = "teardown"
#: Part of the machines that refuse their first termination.
STUBBORN = 0.1
DRAIN_TIMEOUT = 5
#: Seconds within which a fleet must run, and within which all of it must be gone.
BOOT_WITHIN, END_WITHIN = 1500, 900

PLAN = """
plan: teardown
levels:
  - services:
      rabbitmq:
        local: true
        boot:
          run: >-
            ${{python}} -m mgmt.cli broker start --dir ${{run_dir}}/broker --vhost ${{run_name}}
          timeout: 5m
        outputs: [accounts]
        ready: [{{amqp: "${{.accounts}}", timeout: 60s}}]
        terminate: {{run: "${{python}} -m mgmt.cli broker stop --dir ${{run_dir}}/broker"}}
  - services:
      provisioner:
        local: true
        provides: [registrar]
        boot:
          run: >-
            ${{python}} -m mgmt.cli serve --dir ${{run_dir}}/coordinator
            --accounts ${{rabbitmq.accounts}} --run ${{run_name}} --cloud amazon=ec2 {settings}
          timeout: 5m
        outputs: [accounts, state_dir]
        ready:
          - run: "${{python}} -m mgmt.cli serve --check --dir ${{run_dir}}/coordinator"
            interval: 500ms
            timeout: 3m
        terminate: {{run: "${{python}} -m mgmt.cli serve --stop --dir ${{run_dir}}/coordinator"}}
  - services:
{pools}
"""
POOL = """
      {name}:
        timeout: {timeout}s
        pool:
          clouds: [amazon]
          programs: {{sleeper: {{command: [sleep, "1000000"], worker: true}}}}
          engine: {{type: n_preserving, preserve_n: {size}}}
          max: 1000
          drain_timeout: {drain}
          health: {{boot_timeout: {timeout}, launch_timeout: {timeout}}}
"""


class Stubborn:
    """Machines that refuse their first termination; EC2 then ends none of that call."""

    def __init__(self, ec2: HardEc2) -> None:
        self._ec2 = ec2
        self._ends = ec2.world.terminate_instances
        self.waiting: set[str] = set()
        self.refused = 0
        ec2.world.terminate_instances = self.terminate  # type: ignore[method-assign]

    def choose(self) -> None:
        """One in ten of the machines that live now."""
        ids = sorted(machine.cloud_id for machine in self._ec2.machines)
        self.waiting = set(random.Random(7).sample(ids, max(1, round(STUBBORN * len(ids)))))

    def terminate(self, query: Query) -> dict[str, object]:
        refusing = self.waiting & set(query.texts("InstanceId"))
        if refusing:
            self.refused += len(refusing)
            self.waiting -= refusing
            names = ", ".join(sorted(refusing))
            raise ApiError("OperationNotPermitted", f"{names} may not be terminated")
        return self._ends(query)


def main() -> int:
    """Measure and print; 1 when something is left, or nobody can be sure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, default=200, help="workers in all")
    parser.add_argument("--really", type=int, default=4, help="those that really boot")
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    with tempfile.TemporaryDirectory(prefix="epu-teardown-") as directory:
        place = Path(directory)
        try:
            boots_on = BootsOn(Ec2Containers.from_settings({}, place / "machines"))
        except ConfigProblem as problem:
            say(f"nothing really boots here: {problem}")
            boots_on, options.really = BootsOn(InMemoryCloud()), 0
        with SimulatedAgents() as agents, HardEc2() as ec2:
            ec2.world.boots = Boots(agents, boots_on, every=10)
            ec2.world.lag = Lag(seconds=LAG, backwards=True)
            ec2.throttle()
            try:
                figures = Trial(place, ec2, options.workers, options.really).measured()
            finally:
                boots_on.close()
    if options.json:
        print(json.dumps([asdict(figure) for figure in figures], indent=2))
    else:
        print(*figures, sep="\n")
    return 0 if all(figure.met for figure in figures) else 1


class Trial:
    """One run, booted and torn down."""

    def __init__(self, place: Path, ec2: HardEc2, workers: int, really: int) -> None:
        self._place = place
        self._ec2 = ec2
        self._sizes = {FLEET: workers - really, REAL: really}
        self._directory = place / "home" / "runs" / RUN
        self._figures: list[Figure] = []
        self._stubborn = Stubborn(ec2)

    def measured(self) -> list[Figure]:
        """Boot, tear down with everything that goes wrong, compare receipt and world."""
        plan = self._place / "plan.yaml"
        plan.write_text(self._plan())
        began = time.monotonic()
        try:
            self._epu("boot", str(plan), "-n", RUN, timeout=BOOT_WITHIN)
            self._note("workers RUNNING", len(self._ec2.machines), "", None, "booted")
            self._note("booted after", time.monotonic() - began, "s")
            self._tear_down()
        finally:
            stop(self._directory / "coordinator")
            stop_broker(self._directory / "broker")
        return self._figures

    def _tear_down(self) -> None:
        self._stubborn.choose()
        chosen = len(self._stubborn.waiting)
        began = time.monotonic()
        words = [sys.executable, "-m", "mgmt.cli", "teardown", RUN, "--json"]
        words += ["--timeout", str(END_WITHIN)]
        with open(self._place / "said", "w") as said:
            teardown = subprocess.Popen(
                words, env=self._environment, stdout=subprocess.PIPE, stderr=said, text=True
            )
        try:
            there = len(self._ec2.machines)
            until("terminations are refused", 300, lambda: self._stubborn.refused > 0)
            self._kill_coordinator()
            until("half are gone", 600, lambda: len(self._ec2.machines) < there / 2)
            self._restart_broker()
            answer, _ = teardown.communicate(timeout=END_WITHIN)
        finally:
            teardown.kill()
        seconds = time.monotonic() - began
        if teardown.returncode != 0:
            say((self._place / "said").read_text())
        left = len(self._ec2.machines)
        receipt: dict[str, Any] = json.loads(answer or "{}")
        reported = receipt.get("left", {"workers": ["?"]})
        self._note("exit code", teardown.returncode, "", 0)
        self._note("workers in the receipt, before", len(receipt["before"]["workers"]), "")
        self._note("left, says the receipt", sum(map(len, reported.values())), "", 0)
        self._note("left, says the cloud", left, "", 0)
        note = f"of {chosen} stubborn machines, each once"
        self._note("terminations refused", self._stubborn.refused, "", None, note)
        self._note("torn down after", seconds, "s", None, "one coordinator lost, broker restarted")

    def _kill_coordinator(self) -> None:
        """SIGKILL for all its services at once; its supervisord brings them back."""
        state_dir = self._directory / "coordinator"
        leader = supervisord_of(state_dir)
        killed = [p for p in coordinator_processes(state_dir) if leader and p.pid != leader.pid]
        for process in killed:
            os.kill(process.pid, signal.SIGKILL)
        say(f"killed {len(killed)} processes of the coordinator")

    def _restart_broker(self) -> None:
        directory = self._directory / "broker"
        stop_broker(directory)
        say("the broker is down")
        start_broker(directory, RUN, timeout=120)
        say("the broker is back")

    def _plan(self) -> str:
        settings = {
            "agent": "configure",
            "endpoint": self._ec2.url,
            "region": "us-east-1",
            "access_key": "AKIATEST",
            "secret_key": "secret",
            "image": IMAGE,
            "type": "c5.large",
            "consistency_window": "5",
        }
        given = " ".join(f"--cloud-setting amazon.{key}={value}" for key, value in settings.items())
        pools = "".join(
            POOL.format(name=name, size=size, timeout=BOOT_WITHIN, drain=DRAIN_TIMEOUT)
            for name, size in self._sizes.items()
            if size
        )
        return PLAN.format(settings=given, pools=pools)

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, "EPU_HOME": str(self._place / "home")}

    def _epu(self, *words: str, timeout: float) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "mgmt.cli", *words],
            env=self._environment,
            stdout=sys.stderr,
            timeout=timeout,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"epu {words[0]} failed: exit {done.returncode}")

    def _note(
        self, name: str, value: float, unit: str, aim: float | None = None, note: str = ""
    ) -> None:
        figure = Figure(name, value, unit, aim, note)
        self._figures.append(figure)
        say(str(figure))


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
