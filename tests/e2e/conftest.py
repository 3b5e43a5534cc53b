"""Whole systems: a broker, a coordinator under supervisord, machines of this host.

What a test judges by is the world: the machines that have processes now, the jobs in the
done-file. What the coordinator says of itself is compared with that.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from agent.messages import BrokerAccess, Event
from agent.process_probe import ProcessProbe
from agent.rpc_client import CallFailed, RpcClient
from agent.wire import from_wire
from coordinator.clouds.base import MachineState
from coordinator.clouds.process import kill_machine, machine_processes
from coordinator.config import CoordinatorConfig, cloud_directory
from coordinator.errors import EpuError
from coordinator.plugins import find_plugin
from mgmt import serve
from mgmt.broker import BrokerUnavailable, start_broker, stop_broker
from mgmt.broker_launch import server_script
from tests.pauses import pause_after
from tests.private_broker import kill_broker

CLOUD = "here"
ALIVE = frozenset(MachineState) - {MachineState.GONE}
#: Seconds within which whatever should happen has happened, on a machine that is busy too.
SOON = 45.0
#: Systems of several test processes may start at the same time on two cores.
START_WITHIN = 100.0


@dataclass
class System:
    """One run below ``directory``, driven by RPC as the coordinator's own services are."""

    directory: Path
    run: str
    driver: str = "process"
    access: BrokerAccess = field(init=False)
    _client: RpcClient | None = None

    @property
    def broker_directory(self) -> Path:
        return self.directory / "broker"

    @property
    def accounts(self) -> Path:
        return self.broker_directory / "accounts.json"

    @property
    def state_dir(self) -> Path:
        return self.directory / "coordinator"

    @property
    def done_file(self) -> Path:
        return self.directory / "jobs-done.txt"

    @property
    def cloud(self) -> Any:
        kind = find_plugin("epu.clouds", self.driver)
        return kind.from_settings({}, cloud_directory(self.state_dir, CLOUD))

    # ---------------------------------------------------------------- its life

    def start(self, cloud: dict[str, str] | None = None, **settings: Any) -> None:
        """A broker of its own, then the coordinator; returns when every service answers."""
        self.start_broker()
        config = CoordinatorConfig(
            run=self.run,
            accounts=str(self.accounts),
            state_dir=str(self.state_dir),
            clouds={CLOUD: {"driver": self.driver, **(cloud or {})}},
            blindness_grace=2.0,
            **settings,
        )
        serve.start(config)
        self.wait(self.answers, "every service answers", START_WITHIN)

    def start_broker(self) -> None:
        self.access = start_broker(self.broker_directory, self.run, timeout=START_WITHIN)

    def stop_broker(self) -> None:
        self.close()
        stop_broker(self.broker_directory)

    def end(self) -> None:
        """Everything that was started, dead or alive; one failure does not hide the next."""
        self.close()
        problems = []
        for step in (
            lambda: serve.stop(self.state_dir),
            self._kill_machines,
            lambda: kill_broker(self.broker_directory),
        ):
            try:
                step()
            except EpuError as problem:
                problems.append(str(problem))
        assert not problems, problems

    def _kill_machines(self) -> None:
        root = self.cloud.root
        for path in root.iterdir() if root.is_dir() else ():
            with suppress(EpuError):
                kill_machine(root, path.name)

    def alive(self) -> list[str]:
        """Every machine of the run that has processes, of whatever pool."""
        found = self.cloud.list_instances(self.run)
        return [one.cloud_id for one in found if one.state in ALIVE]

    def processes_left(self) -> list[str]:
        """Commands of live processes that name this system's directory, ours excepted."""
        return processes_naming(str(self.directory))

    # ---------------------------------------------------------------- asking

    def call(self, service: str, method: str, *args: Any, timeout: float = 10.0) -> Any:
        """An RPC. Raises CallFailed."""
        if self._client is None:
            self._client = RpcClient(self.access.amqp_url("coordinator"))
        return self._client.call(service, method, *args, timeout=timeout)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def ask(self, service: str, method: str, *args: Any, timeout: float = SOON) -> Any:
        """An RPC that may be repeated, repeated until it is answered."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                return self.call(service, method, *args, timeout=3.0)
            except CallFailed:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.05)

    def answers(self) -> bool:
        """Whether all five services answer now."""
        return not any(serve.check(self.state_dir).values())

    def wait(
        self, condition: Callable[[], Any], what: str, timeout: float = SOON, pause: float = 0.0
    ) -> Any:
        """Poll until ``condition`` is truthy; calls that fail meanwhile are "not yet".

        ``pause``: seconds between two looks; 0: the more, the longer a look takes.
        """
        deadline = time.monotonic() + timeout
        last: object = None
        while True:
            began = time.monotonic()
            try:
                if result := condition():
                    return result
                last = result
            except (CallFailed, EpuError) as problem:
                last = problem
            if time.monotonic() >= deadline:
                pytest.fail(f"not within {timeout:g} s: {what} (last: {last!r})")
            time.sleep(pause or pause_after(time.monotonic() - began))

    # ---------------------------------------------------------------- the broker's own API

    def connections(self) -> dict[str, str]:
        """Connection name → user, as the management plugin last sampled them."""
        return {one["name"]: one["user"] for one in self.manage("GET", "connections")}

    def reset(self, connection: str) -> None:
        """Have the broker close a connection; one that is gone is fine."""
        with suppress(urllib.error.HTTPError):
            self.manage("DELETE", f"connections/{quote(connection, safe='')}")

    def manage(self, method: str, path: str) -> Any:
        """A call of the management API as the administrator."""
        who = self.access.accounts["admin"]
        pair = base64.b64encode(f"{who.user}:{who.password}".encode()).decode()
        request = urllib.request.Request(
            f"{self.access.management_url}/api/{path}",
            headers={"Authorization": f"Basic {pair}"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            return json.loads(answer.read() or b"null")

    # ---------------------------------------------------------------- pools

    @contextmanager
    def pool(self, name: str, size: int | None = None, **section: Any) -> Iterator[Pool]:
        """A pool that keeps ``size`` workers (None: ``section`` has its own engine).

        Its workers are sent away at the end, which is waited for only at the system's end.
        """
        if size is not None:
            section["engine"] = {"type": "n_preserving", "preserve_n": size}
        self.ask("controller", "add_pool", name, {"drain_timeout": 10, **section})
        try:
            yield Pool(self, name)
        finally:
            nobody = {"engine": {"type": "n_preserving", "preserve_n": 0}}
            self.ask("controller", "reconfigure", name, nobody)

    # ---------------------------------------------------------------- its processes

    def processes(self) -> dict[str, tuple[str, int]]:
        """The coordinator's programs: name → supervisord's state, pid."""
        config = (self.state_dir / "supervisord.conf").read_text()
        socket = next(x.split("=", 1)[1] for x in config.splitlines() if x.startswith("file"))
        states = ProcessProbe(Path(socket.strip()), 5.0).states()
        return {state.name.rpartition(":")[2]: (state.state, state.pid) for state in states}

    def kill_process(self, name: str) -> int:
        """SIGKILL one of the coordinator's processes; its pid."""
        pid = self.processes()[name][1]
        os.kill(pid, signal.SIGKILL)
        return pid

    def well(self) -> bool:
        """Whether supervisord calls all five RUNNING and they answer."""
        return all(state == "RUNNING" for state, _ in self.processes().values()) and self.answers()


@dataclass(frozen=True)
class Pool:
    """One pool of a system: what the coordinator says of it, and what there is."""

    system: System
    name: str

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.system.call("controller", "pool", self.name)
        return found

    def nodes(self, state: str = "RUNNING") -> set[str]:
        """Node ids that the provisioner has in ``state``."""
        return {one["node_id"] for one in self._live() if one["state"] == state}

    def records(self) -> set[str]:
        """Node ids of all that is not at its end."""
        return {one["node_id"] for one in self._live()}

    def _live(self) -> list[dict[str, Any]]:
        found = self.system.call("provisioner", "live_nodes")
        return [one for one in found if one["pool"] == self.name]

    def machines(self, *states: MachineState) -> set[str]:
        """Node ids of the machines that have processes now, whoever knows of them."""
        return {
            f"{one.launch_id}-{one.index}"
            for one in self.system.cloud.list_instances(self.system.run)
            if one.pool == self.name and one.state in (states or ALIVE)
        }

    def health(self, node_id: str) -> str:
        found = [x["health"] for x in self.status()["instances"] if x["node_id"] == node_id]
        return found[0] if found else ""

    def wait_whole(self, size: int, timeout: float = SOON) -> set[str]:
        """Wait until machines = records = wanted = RUNNING = ``size`` and the pool is STABLE."""

        def whole() -> set[str]:
            status, machines = self.status(), self.machines()
            agree = machines == self.records() == self.nodes()
            right = len(machines) == size == status["wanted"] == status["running"]
            return machines if agree and right and status["state"] == "STABLE" else set()

        if size == 0:
            self.system.wait(lambda: not self.machines() | self.records(), "empty", timeout)
            return set()
        what = f"{self.name} whole with {size}"
        found: set[str] = self.system.wait(whole, what, timeout)
        return found

    def events(self, name: str = "") -> list[Event]:
        """The provisioner's and the controller's events of this pool, oldest first."""
        found = [
            from_wire(Event, one)
            for source in ("provisioner", "controller")
            for one in self.system.ask(source, "events", 0, 10_000)
        ]
        mine = [one for one in found if one.pool == self.name and name in ("", one.name)]
        return sorted(mine, key=lambda one: one.time)

    def launched(self) -> int:
        """How many machines were ever asked for."""
        return sum(int(one.extra["count"]) for one in self.events("new_launch"))

    def agent_pid(self, node_id: str) -> int:
        """The process of a node's agent; 0 while there is none."""
        found = machine_processes(self.system.cloud.root, node_id)
        return next((one.pid for one in found if "agent.service" in one.command), 0)

    def kill_agent(self, node_id: str) -> None:
        """SIGKILL a node's agent, and only that."""
        os.kill(self.agent_pid(node_id), signal.SIGKILL)

    def set_size(self, size: int) -> None:
        self.system.ask("controller", "reconfigure", self.name, {"engine.preserve_n": size})


def processes_naming(text: str) -> list[str]:
    """Command lines of live processes that have ``text`` in them or in their environment."""
    found = []
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit() and int(directory.name) != os.getpid():
            with suppress(OSError):
                words = (directory / "cmdline").read_bytes()
                if text.encode() in words + (directory / "environ").read_bytes():
                    found.append(words.replace(b"\0", b" ").decode())
    return found


# ------------------------------------------------------------------ fixtures


@pytest.fixture(scope="session")
def processes_with() -> Callable[[str], list[str]]:
    """``processes_with(text)``: commands of live processes that name it."""
    return processes_naming


@pytest.fixture(scope="session")
def system_in() -> Callable[[Path, str], System]:
    """``system_in(directory, run)``: looks at a system that something else starts there."""
    return System


@contextmanager
def _fresh_system(tmp_path_factory: pytest.TempPathFactory, run: str) -> Iterator[System]:
    if server_script() is None:
        reason = "rabbitmq-server is not installed (apt-get install rabbitmq-server)"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    system = System(tmp_path_factory.mktemp(run), run)
    try:
        system.start()
        yield system
        system.wait(lambda: not system.alive(), "every pool's machines are gone at the end")
    except BrokerUnavailable as problem:
        pytest.fail(str(problem))
    finally:
        system.end()


@pytest.fixture(scope="session")
def fresh_system(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], AbstractContextManager[System]]:
    """``fresh_system(run)``: within it a system runs, whose machines must be gone at its end."""
    return lambda run: _fresh_system(tmp_path_factory, run)


@pytest.fixture(scope="module")
def shaken_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system of a module's own, whose broker and coordinator may be killed."""
    with _fresh_system(tmp_path_factory, "shaken") as system:
        yield system


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str, float], None]:
    """``figure(what, seconds)``: to be read with ``pytest -rP`` or in a JUnit file."""

    def note(what: str, seconds: float) -> None:
        record_property(what, round(seconds, 2))
        print(f"FIGURE {what}: {seconds:.2f} s")

    return note
