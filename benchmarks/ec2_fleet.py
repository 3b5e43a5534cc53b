"""A fleet of a thousand on hard-mode EC2: API calls, memory, and how soon a launch is called.

``python -m benchmarks.ec2_fleet [--machines N] [--really N] [--json]``. Broker, coordinator
and EC2 driver are the real ones; the endpoint is hard-mode EC2 with Amazon's token buckets
and listings that lag; agents are simulated with the real wire code, and a few machines
really boot, in containers with cloud-init, where the host lets them. Exit code 1 when an
aim is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from agent.rpc_client import CallFailed, RpcClient
from benchmarks.boot_tool import Figure
from benchmarks.simulated_agents import SimulatedAgents
from coordinator.clouds.in_memory import InMemoryCloud
from coordinator.config import CoordinatorConfig
from coordinator.errors import ConfigProblem
from mgmt import serve
from mgmt.broker import start_broker, stop_broker
from tests.hard_ec2 import HardEc2, Lag, Machine
from tests.hard_ec2.account import IMAGE
from tests.hard_ec2.boots import BootsOn, Ec2Containers, agent_config

RUN, FLEET, REAL = "fleet", "fleet", "real"
#: Signals of each kind whose time to the launch call is taken.
SIGNALS = 25
#: From a signal that is known to the launch call, s.
AIM = 2.0
#: By how much EC2's listings are behind at most, s.
LAG = 1.0
#: For how long the fleet is left alone to see what listing costs, s.
REST = 30.0


class Boots:
    """Simulated agents for the pool ``fleet``, machines of this host for ``real``."""

    def __init__(self, agents: SimulatedAgents, real: BootsOn, every: int) -> None:
        """Each ``every``-th simulated agent holds the queue by whose end its loss is seen."""
        self._every = every
        self._agents = agents
        self._real = real
        self._asked = 0
        #: Machines whose loss the broker tells at once.
        self.with_queue: list[str] = []
        #: Moment of each launch call, as ``time.monotonic`` has it.
        self.launched_at: list[float] = []

    def launch(self, machines: Sequence[Machine]) -> None:
        self.launched_at.append(time.monotonic())
        if machines[0].tags["epu:pool"] == REAL:
            self._real.launch(machines)
            return
        config = agent_config(self._real.text_of(machines[0]))
        for machine in machines:
            self._asked += 1
            with_queue = self._asked % self._every == 0
            if with_queue:
                self.with_queue.append(machine.cloud_id)
            self._agents.boot(machine.cloud_id, config, machine.index, with_queue)

    def end(self, machine: Machine) -> None:
        if machine.tags["epu:pool"] == REAL:
            self._real.end(machine)
        else:
            self._agents.end(machine.cloud_id)

    @property
    def problems(self) -> Sequence[str]:
        """What should have really booted and did not."""
        return self._real.problems

    def console(self, machine: Machine) -> str:
        return self._real.console(machine)

    def dead(self) -> Sequence[str]:
        return self._real.dead()


def main() -> int:
    """Measure and print; 1 when an aim is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--machines", type=int, default=1000, help="machines of the fleet")
    parser.add_argument("--really", type=int, default=3, help="machines that really boot")
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    options = parser.parse_args()
    # Whoever ends this wants no broker and no coordinator to stay behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    with tempfile.TemporaryDirectory(prefix="epu-fleet-") as directory:
        place = Path(directory)
        try:
            boots_on = BootsOn(Ec2Containers.from_settings({}, place / "machines"))
        except ConfigProblem as problem:
            say(f"nothing really boots here: {problem}")
            boots_on, options.really = BootsOn(InMemoryCloud()), 0
        every = max(1, options.machines // (2 * SIGNALS))
        with SimulatedAgents() as agents, HardEc2() as ec2:
            ec2.world.boots = boots = Boots(agents, boots_on, every)
            ec2.world.lag = Lag(seconds=LAG, backwards=True)
            ec2.throttle()
            try:
                figures = Fleet(place, ec2, boots, options.machines, options.really).measured()
            finally:
                boots_on.close()
    if options.json:
        print(json.dumps([asdict(figure) for figure in figures], indent=2))
    else:
        print(*figures, sep="\n")
    return 0 if all(figure.met for figure in figures) else 1


class Fleet:
    """One system on one endpoint, and what is measured of it."""

    def __init__(self, place: Path, ec2: HardEc2, boots: Boots, machines: int, really: int) -> None:
        self._broker = place / "broker"
        self._state = place / "coordinator"
        self._ec2 = ec2
        self._boots = boots
        self._wanted = machines
        self._really = really
        self._client: RpcClient | None = None
        self._figures: list[Figure] = []

    def measured(self) -> list[Figure]:
        """Bring the fleet up, look at it, signal, take it down."""
        access = start_broker(self._broker, RUN, timeout=120)
        cloud = {
            "driver": "ec2",
            "agent": "configure",
            "endpoint": self._ec2.url,
            "region": "us-east-1",
            "access_key": "AKIATEST",
            "secret_key": "secret",
            "image": IMAGE,
            "type": "c5.large",
            "consistency_window": "5",
        }
        config = CoordinatorConfig(
            run=RUN,
            accounts=str(self._broker / "accounts.json"),
            state_dir=str(self._state),
            clouds={"amazon": cloud},
            blindness_grace=2.0,
        )
        try:
            serve.start(config)
            self._client = RpcClient(access.amqp_url("coordinator"))
            until("every service answers", 120, lambda: not any(serve.check(self._state).values()))
            self._bring_up()
            self._rest()
            self._signals("wished → launch call", self._wish_one, AIM)
            # The cloud must say so, too: its listing is behind by up to LAG.
            self._signals("machine lost → launch call", self._lose_one, AIM)
            self._end()
        finally:
            if self._client is not None:
                self._client.close()
            serve.stop(self._state)
            stop_broker(self._broker)
        return self._figures

    # ---------------------------------------------------------------- phases

    def _bring_up(self) -> None:
        began = time.monotonic()
        patient = {"health": {"boot_timeout": 1800, "launch_timeout": 1800}, "max": 5000}
        for name, size in ((REAL, self._really), (FLEET, self._wanted)):
            engine = {"type": "n_preserving", "preserve_n": size}
            self._ask("controller", "add_pool", name, {"engine": engine, **patient})
        size = self._wanted + self._really
        until("all machines are launched", 300, lambda: len(self._ec2.world.history) >= size)
        self._note("all launched after", time.monotonic() - began, "s")
        calls, answered = self._ec2.count("RunInstances"), self._ec2.count("RunInstances", "ok")
        most = 20 * self._wanted / 1000 if self._wanted >= 1000 else 20
        self._note("RunInstances calls", calls, "", most, f"{answered} made {size} machines")
        until("all nodes run", 1500, lambda: self._running() >= size, self._progress, 3.0)
        self._note("all nodes RUNNING after", time.monotonic() - began, "s")
        made = len(self._ec2.world.history)
        self._note("machines made", made, "", size, "no more than wanted")

    def _rest(self) -> None:
        before, calls = self._ec2.world.listings, self._ec2.count("DescribeInstances")
        watched = self._processes()
        used = {name: sum(p.cpu_times()[:2]) for name, p in watched.items()}
        began = time.monotonic()
        time.sleep(REST)
        elapsed = time.monotonic() - began
        listings = self._ec2.world.listings - before
        pages = -(-len(self._ec2.machines) // 1000)
        described = self._ec2.count("DescribeInstances") - calls
        note = f"{listings} listings of {pages} pages in {elapsed:.0f} s"
        self._note("DescribeInstances calls at rest", described, "", listings * pages, note)
        memory = {name: p.memory_info().rss / 1e6 for name, p in watched.items()}
        both = memory["provisioner"] + memory["driver host"]
        split = ", ".join(f"{name} {size:.0f}" for name, size in sorted(memory.items()))
        self._note("provisioner and its driver host", both, "MB", 260, split)
        for name, process in sorted(watched.items()):
            spent = 100 * (sum(process.cpu_times()[:2]) - used[name]) / elapsed
            self._note(f"{name}, at rest", spent, "% of a core")

    def _signals(self, name: str, signal: Callable[[], None], aim: float) -> None:
        times = []
        for _ in range(SIGNALS):
            known, began = len(self._boots.launched_at), time.monotonic()
            signal()
            until(name, 120, partial(self._launched_more_than, known), pause=0.005)
            times.append(self._boots.launched_at[known] - began)
            until("it settles", 120, self._all_run, pause=1.0)
        times.sort()
        self._note(f"{name}, p50", statistics.median(times), "s")
        self._note(f"{name}, p99", times[-1], "s", aim, f"the slowest of {len(times)}")

    def _launched_more_than(self, known: int) -> bool:
        return len(self._boots.launched_at) > known

    def _all_run(self) -> bool:
        return self._running() >= self._wanted + self._really

    def _wish_one(self) -> None:
        self._wanted += 1
        self._ask("controller", "reconfigure", FLEET, {"engine.preserve_n": self._wanted})

    def _lose_one(self) -> None:
        self._ec2.world.vanish(self._boots.with_queue.pop(0))

    def _end(self) -> None:
        began = time.monotonic()
        self._ask("provisioner", "terminate_all", True)
        until("no machine is left", 300, lambda: not self._ec2.machines)
        self._note("all ended after", time.monotonic() - began, "s")
        ended = self._ec2.count("TerminateInstances")
        self._note("TerminateInstances calls", ended, "")
        throttled = sum(
            number
            for (_, outcome), number in self._ec2.counted().items()
            if outcome == "RequestLimitExceeded"
        )
        self._note("calls that EC2 throttled, in all", throttled, "", 5)
        say(", ".join(f"{a} {o}: {n}" for (a, o), n in sorted(self._ec2.counted().items())))

    # ---------------------------------------------------------------- looking

    def _ask(self, service: str, method: str, *args: Any) -> Any:
        assert self._client is not None
        deadline = time.monotonic() + 60
        while True:
            try:
                return self._client.call(service, method, *args, timeout=30.0)
            except CallFailed:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def _running(self) -> int:
        return int(self._ask("provisioner", "status")["states"].get("RUNNING", 0))

    def _progress(self) -> None:
        say("; ".join([f"{self._running()} nodes run", *self._boots.problems]))

    def _processes(self) -> dict[str, psutil.Process]:
        kinds = {
            "coordinator.provisioner.service": "provisioner",
            "coordinator.clouds.host": "driver host",
            "coordinator.controller.service": "controller",
            "coordinator.sensors.service": "sensors",
            "coordinator.registrar.service": "registrar",
        }
        found = {}
        for process in psutil.process_iter():
            try:
                words = process.cmdline()
                ours = str(self._state) in " ".join([*words, *process.environ().values()])
            except psutil.Error:
                continue
            for part, name in kinds.items():
                if ours and part in words:
                    found[name] = process
        return found

    def _note(
        self, name: str, value: float, unit: str, aim: float | None = None, note: str = ""
    ) -> None:
        figure = Figure(name, value, unit, aim, note)
        self._figures.append(figure)
        say(str(figure))


def until(
    what: str,
    timeout: float,
    condition: Callable[[], object],
    meanwhile: Callable[[], None] = lambda: None,
    pause: float = 0.1,
) -> None:
    """Wait for ``condition``; its absence after ``timeout`` s ends the measurement."""
    deadline = told = time.monotonic()
    deadline += timeout
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"not within {timeout:g} s: {what}")
        if time.monotonic() > told + 15:
            told = time.monotonic()
            meanwhile()
        time.sleep(pause)


def say(text: str) -> None:
    """For who watches; the figures are printed again at the end."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
