"""The demonstration, step by step, with the commands that a person would type."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.messages import Event
from agent.rpc_client import RpcClient
from agent.wire import from_wire
from coordinator.clouds.process import kill_machine
from coordinator.config import cloud_directory, read_access
from coordinator.errors import EpuError
from mgmt.demo import proofs
from mgmt.demo.watch import LEGEND, LOOK_EVERY, Watch
from mgmt.graph import Mark
from mgmt.pool_picture import draw_pool, pool_panels

RUN = "demo"
POOL = "epu-sleeper"
MAXIMUM = 4
CYCLE = 1.0


class DemoFailed(EpuError):
    """A step of the demonstration did not do what it should."""


@dataclass
class Story:
    """One demonstration below ``home``. ``say`` prints a line of the story."""

    home: Path
    jobs: int
    sleep: float
    say: Callable[[str], None]
    began: float = field(default_factory=time.time)
    proofs: list[proofs.Proof] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    receipt: dict[str, Any] = field(default_factory=dict)
    picture: Path | None = None
    _ports: list[int] = field(default_factory=list)

    @property
    def run_dir(self) -> Path:
        return self.home / "runs" / RUN

    @property
    def done_file(self) -> Path:
        return self.run_dir / "jobs-done.txt"

    def perform(self) -> None:
        """All of it. Raises DemoFailed; whatever happens, nothing is left running."""
        self._clear_away()
        try:
            self._boot()
            self._show()
            self._teardown()
        except BaseException:
            self.say("something went wrong: taking everything down")
            self._epu("teardown", RUN, "--now", "--timeout", "60", check=False)
            raise
        self._prove_nothing_left()

    # ---------------------------------------------------------------- chapters

    def _clear_away(self) -> None:
        """An earlier demonstration that was killed is taken down first."""
        if self.run_dir.exists():
            self.say(f"an earlier demo is still in {self.run_dir}: taking it down")
            self._epu("teardown", RUN, "--now", "--timeout", "60", check=False)
            shutil.rmtree(self.run_dir)

    def _boot(self) -> None:
        self.say("1. boot the launch plan: a broker, a coordinator, an elastic pool")
        self._epu("boot", "sleeper", "--profile", "elastic", "-n", RUN)
        access = read_access(self._accounts)
        self._ports = [access.port]

    def _show(self) -> None:
        url = read_access(self._accounts).amqp_url("coordinator")
        with Watch(url, POOL, self.done_file, self.say) as watch:
            self.say(f"2. put {self.jobs} jobs of {self.sleep:g} s each into the queue")
            self.say(f"   {LEGEND}")
            sent = [(time.time(), 0.0)]
            self._produce()
            sent.append((time.time(), float(self.jobs)))
            watch.wait_for(lambda one: one.running >= 2 and one.done >= 1, 60, "two workers")
            self.say("3. kill the node of a busy worker: all its processes, SIGKILL")
            killed, at = self._kill_a_busy_node(watch)
            self.say(f"   {killed} is dead")
            watch.wait_for(lambda one: one.running == MAXIMUM, 60, "the pool at its maximum")
            self.say("4. the queue is above the high water: the pool is at its maximum")
            self._epu("explain", POOL, "--run", RUN)
            watch.wait_for(lambda one: one.done == self.jobs, 90, "all jobs done")
            self.say("5. all jobs are done; below the low water the pool shrinks")
            watch.wait_for(
                lambda one: one.running + one.pending + one.draining == 0, 60, "an empty pool"
            )
        with RpcClient(url) as client:
            answer = client.call("management", "events", limit=5000)
        self.events = [from_wire(Event, one) for one in answer["events"]]
        lines = self.done_file.read_text().splitlines()
        done_at = [float(line.split()[2]) for line in lines]
        last_done = max(done_at)
        title = f"epu demo: {self.jobs} jobs, a node killed, grown and shrunk"
        panels = pool_panels(watch.samples, sent, done_at)
        marks = [Mark(sent[-1][0], f"{self.jobs} jobs sent"), Mark(at, "a busy node killed")]
        replacing = [e.time for e in self.events if e.name == "new_launch" and e.time >= at]
        marks += [Mark(replacing[0], "replacement launched")] if replacing else []
        self.picture = draw_pool(self.run_dir / "demo.svg", panels, title, marks, self.began)
        self.proofs += [
            proofs.all_jobs_done(self.jobs, lines),
            *proofs.replaced_once(self.events, killed, at),
            proofs.last_worker_stayed(self.events, last_done),
            proofs.never_idle_with_work(self.events, watch.samples, CYCLE, LOOK_EVERY),
            *proofs.grew_and_shrank(watch.samples, MAXIMUM),
        ]

    def _teardown(self) -> None:
        self.say("6. take everything down, and have it in writing")
        self._epu("teardown", RUN)
        self.receipt = json.loads((self.run_dir / "receipt.json").read_text())

    def _prove_nothing_left(self) -> None:
        self.proofs.append(
            proofs.nothing_left(
                processes_naming(str(self.run_dir)),
                [port for port in self._ports if is_open(port)],
                leftovers_in_temp(self.run_dir),
            )
        )

    # ---------------------------------------------------------------- means

    @property
    def _machines(self) -> Path:
        """Where the plan's process cloud keeps its machines."""
        return cloud_directory(self.run_dir / "coordinator", "here")

    @property
    def _accounts(self) -> Path:
        return self.run_dir / "broker" / "accounts.json"

    def _epu(self, *words: str, check: bool = True) -> None:
        """Run an ``epu`` command as a person would, its output indented below it."""
        self.say(f"   $ epu {' '.join(words)}")
        with self._child("mgmt.cli", *words) as child:
            assert child.stdout is not None
            for line in child.stdout:
                self.say(f"     {line.rstrip()}")
        if check and child.returncode != 0:
            raise DemoFailed(f"epu {' '.join(words)} ended with exit code {child.returncode}")

    def _produce(self) -> None:
        words = ("--accounts", str(self._accounts), "--queue", "sleeper-work")
        amount = ("--jobs", str(self.jobs), "--sleep", str(self.sleep))
        with self._child("bootlevels.plans.sleeper.producer", *words, *amount) as child:
            output = child.communicate(timeout=60)[0]
        if child.returncode != 0:
            raise DemoFailed(f"the producer failed: {output.strip()[-300:]}")

    @contextmanager
    def _child(self, module: str, *words: str) -> Iterator[subprocess.Popen[str]]:
        child = subprocess.Popen(
            [sys.executable, "-m", module, *words],
            env={**os.environ, "EPU_HOME": str(self.home)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            with child:
                yield child
        finally:
            if child.poll() is None:
                child.terminate()

    def _kill_a_busy_node(self, watch: Watch) -> tuple[str, float]:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            busy = [one for one in watch.status["instances"] if one["busy"]]
            if busy:
                node_id = str(busy[0]["node_id"])
                at = time.time()
                kill_machine(self._machines, node_id)
                return node_id, at
            time.sleep(0.05)
        raise DemoFailed("no worker said that it was busy")


# ------------------------------------------------------------------ looking for leftovers


def processes_naming(text: str) -> list[str]:
    """Processes, other than this one, whose command line or environment names ``text``."""
    found = []
    for directory in Path("/proc").iterdir():
        if not directory.name.isdigit() or int(directory.name) == os.getpid():
            continue
        try:
            content = (directory / "cmdline").read_bytes() + (directory / "environ").read_bytes()
        except OSError:
            continue
        if text.encode() in content:
            command = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            found.append(f"process {directory.name}: {command[:80]}")
    return found


def is_open(port: int) -> bool:
    """Whether anybody listens on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def leftovers_in_temp(run_dir: Path) -> list[str]:
    """Control sockets of this run's machines and coordinator outside its directory.

    Where paths are too long for a socket they are made in the temporary directory, and
    the records of the run say so.
    """
    found = []
    for record in run_dir.glob("coordinator/clouds/*/*/machine.json"):
        mark = str(json.loads(record.read_text()).get("mark", ""))
        found += [path for path in Path(tempfile.gettempdir()).glob("epu-*") if mark in path.name]
    served = run_dir / "coordinator" / "serve.json"
    if served.exists():
        socket_path = Path(json.loads(served.read_text())["socket"])
        found += [socket_path] if socket_path.exists() else []
    return sorted({str(path) for path in found})
