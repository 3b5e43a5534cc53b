"""The simulated clouds: ``in_memory`` worlds whose calls take time, fail and lose replies."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from coordinator.clouds.base import CloudInstance, LaunchRequest
from coordinator.clouds.in_memory import InMemoryCloud, InMemorySettings, SimulatedMachine
from coordinator.errors import (
    CredentialsRejected,
    EpuError,
    InsufficientCapacity,
    LaunchRefused,
    RetryLater,
)
from coordinator.simulation.event_queue import EventQueue
from coordinator.simulation.processes import Killed, Process

#: The classes of errors that a cloud may answer with, by a word for histories.
ERRORS: dict[str, type[Exception]] = {
    "retry": RetryLater,
    "capacity": InsufficientCapacity,
    "credentials": CredentialsRejected,
    "refused": LaunchRefused,
    "defect": RuntimeError,
}


@dataclass(frozen=True, kw_only=True)
class CloudTrouble:
    """``share`` of the calls of ``methods`` fail with ``error`` (a key of ERRORS)."""

    methods: tuple[str, ...]
    error: str
    share: float


class SimulatedCloud:
    """A CloudDriver as the provisioner has it, over a world that outlives the provisioner.

    Every call may take up to ``latency`` seconds, half of it before the cloud acts. ``born``
    is told of each new machine; ``asked_to_end`` of each termination before it is done.
    """

    user_data_form = "agent-config"

    def __init__(
        self,
        name: str,
        settings: InMemorySettings,
        window: float,
        queue: EventQueue,
        rng: random.Random,
        latency: float,
    ) -> None:
        self.name = name
        self.world = InMemoryCloud(settings, lambda: queue.now)
        self.consistency_window = window
        self.batch_limit = settings.batch_limit
        self.batches = settings.batch_limit > 1
        self.troubles: list[CloudTrouble] = []
        self.process: Process[Any] | None = None
        self.kill: Callable[[Process[Any], float], None] = lambda process, down: None
        self.born: Callable[[SimulatedCloud, SimulatedMachine], None] = lambda cloud, machine: None
        self.asked_to_end: Callable[[SimulatedCloud, str], None] = lambda cloud, cloud_id: None
        self._queue = queue
        self._rng = rng
        self._latency = latency
        self._known = 0

    # ---------------------------------------------------------------- the driver

    def launch(self, request: LaunchRequest) -> None:
        """As CloudDriver.launch."""
        self._call("launch", lambda: self.world.launch(request))

    def list_instances(
        self, run: str, launch_ids: Sequence[str] | None = None
    ) -> Sequence[CloudInstance]:
        """As CloudDriver.list_instances."""
        found: list[CloudInstance] = []
        self._call(
            "list_instances", lambda: found.extend(self.world.list_instances(run, launch_ids))
        )
        return found

    def terminate(self, cloud_ids: Sequence[str]) -> None:
        """As CloudDriver.terminate."""

        def act() -> None:
            for cloud_id in cloud_ids:
                self.asked_to_end(self, cloud_id)
            self.world.terminate(cloud_ids)

        self._call("terminate", act)

    def console_output(self, cloud_id: str) -> str | None:
        """As CloudDriver.console_output."""
        return None

    # ---------------------------------------------------------------- the world

    def misbehave(self, **settings: Any) -> None:
        """Change how the world misbehaves: fields of InMemorySettings."""
        self.world.settings = replace(self.world.settings, **settings)

    def _call(self, method: str, act: Callable[[], None]) -> None:
        process = self.process
        assert process is not None
        life = process.life
        self._die_if(process, "before", life)
        self._pass(process, life)
        for trouble in self.troubles:
            if method in trouble.methods and self._rng.random() < trouble.share:
                raise ERRORS[trouble.error](f"simulated: {trouble.error}")
        lost: EpuError | None = None
        try:
            act()
        except RetryLater as problem:  # the reply may be lost after it acted
            lost = problem
        self.tell_born()
        self._die_if(process, "after", life)
        self._pass(process, life)
        if lost is not None:
            raise lost

    def tell_born(self) -> None:
        """Tell of machines that were made since the last time."""
        history = self.world.history
        for machine in history[self._known :]:
            self.born(self, machine)
        self._known = len(history)

    def _pass(self, process: Process[Any], life: int) -> None:
        if self._latency:
            self._queue.wait(self._rng.uniform(0.0, self._latency / 2))
        process.still(life)

    def _die_if(self, process: Process[Any], point: str, life: int) -> None:
        if process.doomed is not None and process.doomed[0] == point:
            self.kill(process, process.doomed[1])
            raise Killed(process.name, life)
