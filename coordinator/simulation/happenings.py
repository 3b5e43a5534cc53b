"""What can happen to a simulated world: each kind of happening, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from coordinator.errors import ConfigProblem
from coordinator.pool_spec import parse_pool
from coordinator.pool_values import changed_section
from coordinator.provisioner.lifecycle import note
from coordinator.simulation.adoption import adopt
from coordinator.simulation.agents import SimulatedAgent
from coordinator.simulation.clouds import CloudTrouble
from coordinator.simulation.drawing import generator
from coordinator.simulation.event_queue import EPOCH
from coordinator.simulation.history import Happening
from coordinator.simulation.wire import Weather
from coordinator.simulation.world import World

#: Begins something; what it gives back ends it.
Begin = Callable[[World, Happening], Callable[[], None] | None]


def plan_all(world: World) -> None:
    """Put everything that the world's history has in store for it on its clock."""
    for happening in world.history.happenings:
        world.queue.at(EPOCH + happening.at, happening.what, partial(_begin, world, happening))


def _begin(world: World, happening: Happening) -> None:
    world.watcher.say(f"*** {happening}")
    end = KINDS[happening.what](world, happening)
    if end is not None:
        world.troubles += 1

        def over() -> None:
            world.watcher.say(f"*** over: {happening.what}")
            world.troubles -= 1
            end()

        world.queue.after(happening.lasts, f"{happening.what} is over", over)


# ------------------------------------------------------------------ processes, wire, clocks


def _restart(world: World, happening: Happening) -> None:
    process = world.coordinator.processes()[happening.values["process"]]
    world.kill(process, happening.lasts)


def _crash(world: World, happening: Happening) -> None:
    process = world.coordinator.processes()[happening.values["process"]]
    if process.up:
        process.doomed = (happening.values["point"], happening.lasts)


def _broker_away(world: World, happening: Happening) -> Callable[[], None] | None:
    if world.wire.away:
        return None
    world.wire.away = True
    for jobs in world.jobs.values():
        world.watcher.redelivered("everybody", "broker", jobs.give_back())

    def over() -> None:
        world.wire.away = False
        world.broker_returns()

    return over


def _management_away(world: World, happening: Happening) -> Callable[[], None]:
    world.queue_sensor.away = True  # and no accounts can be made

    def over() -> None:
        world.queue_sensor.away = False

    return over


def _registrar_away(world: World, happening: Happening) -> Callable[[], None]:
    world.registrar_away = True

    def over() -> None:
        world.registrar_away = False

    return over


def _messages(world: World, happening: Happening) -> Callable[[], None]:
    world.wire.weather = Weather(**happening.values)

    def over() -> None:
        world.wire.weather = Weather()

    return over


def _clock_jumps(world: World, happening: Happening) -> None:
    world.wall_offset += happening.values["by"]


# ------------------------------------------------------------------ clouds


def _cloud_fails(world: World, happening: Happening) -> Callable[[], None]:
    values = happening.values
    cloud = world.clouds[values["cloud"]]
    trouble = CloudTrouble(
        methods=tuple(values["methods"]), error=values["error"], share=values["share"]
    )
    cloud.troubles.append(trouble)
    return lambda: cloud.troubles.remove(trouble)


def _listings_lie(world: World, happening: Happening) -> Callable[[], None]:
    cloud = world.clouds[happening.values["cloud"]]
    cloud.misbehave(blink=happening.values["blink"], backwards=happening.values["backwards"])
    return lambda: cloud.misbehave(blink=0.0, backwards=False)


def _replies_lost(world: World, happening: Happening) -> Callable[[], None]:
    cloud = world.clouds[happening.values["cloud"]]
    cloud.misbehave(lose_replies=happening.values["share"])
    return lambda: cloud.misbehave(lose_replies=0.0)


# ------------------------------------------------------------------ machines


def _picked(world: World, happening: Happening) -> list[SimulatedAgent]:
    """``count`` of the machines of a pool, by the happening's own number."""
    there = world.running(happening.values["pool"])
    rng = generator(happening.values["pick"], "victims")
    return rng.sample(there, min(happening.values["count"], len(there)))


def _vanish(world: World, happening: Happening) -> None:
    for agent in _picked(world, happening):
        world.vanish(agent, happening.values["noticed"])


def _cut_off(world: World, happening: Happening) -> Callable[[], None]:
    picked = [agent for agent in _picked(world, happening) if agent.cut_off_since is None]
    for agent in picked:
        agent.cut_off()

    def over() -> None:
        for agent in picked:
            if agent.alive:
                agent.reconnect()

    return over


def _mute(world: World, happening: Happening) -> None:
    for agent in _picked(world, happening):
        agent.mute = True
        agent.fall_ill()


def _fails(world: World, happening: Happening) -> None:
    for agent in _picked(world, happening):
        how = happening.values["how"]
        agent.fall_ill()
        if how == "worker" and agent.worker_state:
            agent.fail_worker()
        elif how == "side":
            agent.side_state = "FATAL"
        elif how == "supervisor":
            agent.supervisor_down = True


def _zombie(world: World, happening: Happening) -> Callable[[], None]:
    """Gone for its cloud, silent for a while, and then it is heard again."""
    there = _picked(world, happening)
    picked = [agent for agent in there if agent.cut_off_since is None and not agent.undead]
    for agent in picked:
        world.become_undead(agent, happening.values["denied"])
        agent.cut_off()

    def over() -> None:
        for agent in picked:
            known = world.watcher.known.get(agent.node_id)
            if agent.alive and known is not None and known.final:
                agent.reconnect()
            elif agent.alive:
                agent.end(0.1)

    return over


def _agent_restarts(world: World, happening: Happening) -> None:
    for agent in _picked(world, happening):
        agent.restart_agent()


def _boots_fail(world: World, happening: Happening) -> Callable[[], None]:
    trouble = happening.values
    world.boot_trouble.append(trouble)
    return lambda: world.boot_trouble.remove(trouble)


# ------------------------------------------------------------------ operators


def reconfigure(world: World, pool: str, changes: dict[str, Any]) -> None:
    """An operator changes a pool, as soon as the controller is there."""
    controller = world.coordinator.controller
    if not controller.up:
        world.queue.after(2.0, "reconfigure", partial(reconfigure, world, pool, changes))
        return
    try:
        controller.part.reconfigure(pool, changes)
    except ConfigProblem as problem:
        world.watcher.say(f"{pool}: refused: {problem}")
        return
    section = world.sections[pool] = changed_section(world.sections[pool], changes)
    world.watcher.configured(pool, parse_pool(pool, section))


def _reconfigure(world: World, happening: Happening) -> Callable[[], None] | None:
    pool, changes = happening.values["pool"], dict(happening.values["changes"])
    override = changes.get("override")
    if override is not None:
        until = world.coordinator.controller.clock() + override["for"]
        changes["override"] = {"size": override["size"], "until": until}
    reconfigure(world, pool, changes)
    if "hold" not in changes:
        return None
    return partial(reconfigure, world, pool, {"hold": None})


def _rollout(world: World, happening: Happening) -> None:
    """The text of templates changes, and an operator has a pool's workers replaced."""
    controller = world.coordinator.controller
    if not controller.up:
        world.queue.after(2.0, "rollout", partial(_rollout, world, happening))
        return
    world.coordinator.template_edition += happening.values["edits"]
    controller.part.rollout(happening.values["pool"], happening.values["action"])


def _protect(world: World, happening: Happening) -> None:
    records = world.coordinator.records
    for agent in _picked(world, happening):
        record = records.named([agent.node_id]).get(agent.node_id)
        change = None if record is None or record.final else note(record, protected=True)
        if change is not None:
            records.commit([change], world.queue.now, "a person")


def _teardown(world: World, happening: Happening) -> None:
    controller, provisioner = world.coordinator.controller, world.coordinator.provisioner
    if not (controller.up and provisioner.up):
        world.queue.after(2.0, "teardown", partial(_teardown, world, happening))
        return
    now = bool(happening.values["now"])
    world.torn_down = True
    world.watcher.teardown_at_once |= now
    controller.part.freeze("teardown")
    provisioner.part.terminate_all(now, happening.values["drain_timeout"])


KINDS: dict[str, Begin] = {
    "adopt": adopt,
    "restart": _restart,
    "crash": _crash,
    "broker_away": _broker_away,
    "management_away": _management_away,
    "registrar_away": _registrar_away,
    "messages": _messages,
    "clock_jumps": _clock_jumps,
    "cloud_fails": _cloud_fails,
    "listings_lie": _listings_lie,
    "replies_lost": _replies_lost,
    "vanish": _vanish,
    "cut_off": _cut_off,
    "mute": _mute,
    "fails": _fails,
    "zombie": _zombie,
    "agent_restarts": _agent_restarts,
    "boots_fail": _boots_fail,
    "reconfigure": _reconfigure,
    "protect": _protect,
    "rollout": _rollout,
    "teardown": _teardown,
}
