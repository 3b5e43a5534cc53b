"""Machines that people boot: they join a pool with its token, and only people end them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agent.messages import ADOPTED_CLOUD
from coordinator.clouds.base import LaunchRequest
from coordinator.clouds.in_memory import SimulatedMachine
from coordinator.errors import NotFound
from coordinator.registrar.tokens import worker_terms
from coordinator.simulation.agents import Fate, SimulatedAgent
from coordinator.simulation.history import Happening
from coordinator.simulation.world import RUN, World


class AdoptedAgent(SimulatedAgent):
    """The agent of such a machine: no record knows it until it has asked for one."""

    #: What a worker of the pool is to be, as the registrar asks the pool's controller for it.
    terms: Callable[[], dict[str, Any]]

    def _introduce(self, known: Callable[[Any], None]) -> None:
        def found(answer: Any) -> None:
            if not isinstance(answer, NotFound):
                known(answer)
                return
            launch_id, index = self.machine.request.launch_id, self.machine.index
            wanted = [launch_id, index, self.pool, self.terms(), {"hostname": "a person's"}]
            self.surroundings.ask(self, "adopt_node", wanted, known)

        super()._introduce(found)


def adopt(world: World, happening: Happening) -> None:
    """A person boots machines with a pool's token, and may switch them off after a while."""
    values = happening.values
    pool, number = str(values["pool"]), len(world.adopted)
    launch_id = f"{pool}-a{number}"
    request = LaunchRequest(
        launch_id=launch_id, run=RUN, pool=pool, count=values["count"], user_data=""
    )
    booted = []
    for index in range(values["count"]):
        node_id = f"{launch_id}-{index}"
        rng = world.generator(f"machine {ADOPTED_CLOUD} {node_id}")
        agent = AdoptedAgent(
            node_id=node_id,
            pool=pool,
            machine=SimulatedMachine(node_id, request, index, world.queue.now),
            cloud=ADOPTED_CLOUD,
            fate=Fate(boots_in=rng.uniform(1.0, 20.0), how=values["how"]),
            surroundings=world,
            rng=rng,
        )
        agent.terms = lambda: worker_terms(pool, world.sections[pool])
        world.adopted[node_id] = world.agents[node_id] = agent
        world.watcher.say(f"a person boots {node_id}")
        agent.switched_on()
        booted.append(agent)

    def switched_off() -> None:
        for agent in booted:
            if agent.alive:
                world.watcher.say(f"a person switches {agent.node_id} off")
                agent.end(0.1)

    if happening.lasts:
        world.queue.after(happening.lasts, f"{launch_id} is switched off", switched_off)
