"""What an exercise may break, found beforehand: only what belongs to the run, on this machine.

A machine is ended as its cloud could end it, behind the provisioner's back; a component by
SIGKILL; the broker only when it is the run's own private node.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coordinator.clouds.process import ProcessCloud, kill_machine
from coordinator.config import config_file
from coordinator.errors import EpuError, NotFound
from mgmt import broker
from mgmt.broker_processes import NodeProcess, send_signal
from mgmt.broker_start import ANY_OWN
from mgmt.exercise.timeline import Step
from mgmt.keepers import SHARED
from mgmt.run_clouds import open_driver, worker_clouds
from mgmt.run_locator import RunningSystem
from mgmt.serve import PROGRAMS
from mgmt.serve_processes import program_of


class MayNot(EpuError):
    """Something that a timeline wants to break is not ours to break from here."""


@dataclass(frozen=True)
class Targets:
    """The parts of one system. ``say`` is told what was done, a sentence each.

    ``pool``: its own controller and sensors service are meant, where it has them.
    """

    system: RunningSystem
    say: Callable[[str], None]
    pool: str = ""

    @property
    def _state_dir(self) -> Path:
        if self.system.state_dir is None or not self.system.state_dir.is_dir():
            raise MayNot(
                f"the coordinator of run '{self.system.run}' is not on this machine, so nothing "
                "of it, and none of its workers, can be killed from here"
            )
        return self.system.state_dir

    def check(self, steps: Iterable[Step]) -> None:
        """Raise MayNot for the first step that could not be done from here; breaks nothing."""
        for step in steps:
            if step.kill is not None:
                clouds = worker_clouds(self._state_dir)
                if step.kill == "worker" and not clouds:
                    raise MayNot(f"no cloud is named in {self._state_dir}/config.yaml")
            if step.restart is not None:
                self._own_broker()

    def kill_worker(self, nodes: Iterable[dict[str, Any]]) -> str:
        """End the machine of a running node, a busy one first; its id.

        Raises NotFound when none runs.
        """
        running = [one for one in nodes if one["state"] == "RUNNING" and one["cloud"] != "adopted"]
        if not running:
            raise NotFound("no worker runs that could be killed")
        chosen = min(running, key=lambda one: (not one.get("busy"), str(one["node_id"])))
        node, cloud = str(chosen["node_id"]), str(chosen["cloud"])
        clouds = worker_clouds(self._state_dir) or {}
        if cloud not in clouds:
            raise MayNot(f"the coordinator's configuration has no cloud '{cloud}'")
        driver = open_driver(cloud, clouds[cloud], self._state_dir)
        if isinstance(driver, ProcessCloud):
            kill_machine(driver.root, node)
        else:
            launch_id, _, index = node.rpartition("-")
            listed = driver.list_instances(self.system.run, [launch_id])
            ours = [one.cloud_id for one in listed if str(one.index) == index]
            if not ours:
                raise NotFound(f"its cloud does not list {node}")
            driver.terminate(ours)
        self.say(f"killed the machine of {node} on {cloud}")
        return node

    def kill_component(self, name: str) -> None:
        """SIGKILL one process of the run's coordinator. Raises NotFound when it does not run."""
        shared = program_of(self._state_dir, PROGRAMS[name], config_file())
        process = self._own_of_pool(name) or shared
        if process is None:
            raise NotFound(f"the {name} does not run now")
        send_signal(process, signal.SIGKILL)
        self.say(f"killed the {name} (pid {process.pid})")

    def _own_of_pool(self, name: str) -> NodeProcess | None:
        """The pool's own controller or sensors service, in any directory of the run here."""
        if name not in SHARED:
            return None
        places = {self._state_dir, *self._state_dir.parent.glob("*")}
        wanted = (PROGRAMS[name], config_file(self.pool))
        found = (program_of(place, *wanted) for place in sorted(places) if place.is_dir())
        return next(filter(None, found), None)

    def restart_broker(self) -> None:
        """Stop the run's private node and start it again. Raises BrokerUnavailable."""
        directory = self._own_broker()
        vhost = self.system.access().vhost
        try:
            broker.stop_broker(directory)
            self.say("the broker is stopped")
        finally:  # whoever interrupts us must not be left without a broker
            access = broker.start_broker(directory, vhost, host=ANY_OWN)
        self.say(f"the broker is up again at {access.public_url}")

    def _own_broker(self) -> Path:
        if self.system.accounts is None:
            raise MayNot(f"the broker of run '{self.system.run}' is not on this machine")
        directory = self.system.accounts.parent
        state = broker.broker_status(directory).state
        if state != "running":
            raise MayNot(
                f"the broker of run '{self.system.run}' is no private node of {directory} "
                f"({state}), so it is not ours to restart"
            )
        return directory
