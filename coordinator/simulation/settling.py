"""I10: when nothing happens any more, a fleet comes to rest where it should, and stays there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agent.messages import InstanceState
from coordinator.pool_spec import PoolSpec
from coordinator.provisioner.lifecycle import note
from coordinator.simulation.event_queue import EPOCH
from coordinator.simulation.happenings import reconfigure
from coordinator.simulation.watch import Broken
from coordinator.simulation.world import World

#: A fleet has so long to come to rest (back-off alone may be half an hour), s.
REST_WITHIN = 7200.0
#: And must stay there for so long, s.
STAYS_FOR = 150.0
#: A pool in MELTDOWN is looked at by an operator after so long, s.
OPERATOR_AFTER = 700.0
#: While nothing happens the controller looks only so often, s.
CALM_CYCLE = 10.0
_STEP = 20.0


def quiet(world: World) -> None:
    """Everything works again, and operators take back what they held."""
    world.watcher.say("*** quiet")
    for cloud in world.clouds.values():
        cloud.misbehave(capacity=None)
    records = world.coordinator.records
    changes = [note(record, protected=False) for record in records.live()]
    records.commit([one for one in changes if one], world.queue.now, "a person")
    for pool, section in world.sections.items():
        if held := [key for key in ("hold", "schedule") if section.get(key) is not None]:
            reconfigure(world, pool, dict.fromkeys(held))
    for agent in world.machines.values():
        if agent.cut_off_since is not None and agent.alive:
            agent.reconnect()
        if agent.undead and agent.denied:
            agent.mend()  # whoever does not speak can't be found, nor told anything


def come_to_rest(world: World) -> None:
    """Live on until the fleet is at rest, and then a while. Raises Broken."""
    began = world.now
    world.coordinator.pause = 0.0
    while True:
        world.run_until(world.now + _STEP)
        passed = world.now - began
        unrest = list(unsettled(world))
        if not unrest:
            break
        if passed > REST_WITHIN:
            _broken(world, [f"I10: not at rest after {passed:.0f} s: {one}" for one in unrest])
        if passed >= 40.0:
            world.coordinator.pause = CALM_CYCLE
        if passed > OPERATOR_AFTER:
            _end_meltdowns(world)
    rested = world.queue.now
    world.watcher.say(f"*** at rest after {world.now - began:.0f} s of quiet")
    world.run_until(world.now + STAYS_FOR)
    unrest = list(unsettled(world))
    if world.watcher.decided_at > rested:
        at = world.watcher.decided_at - EPOCH
        unrest.append(f"the controller commanded something at {at:.0f} s")
    if unrest:
        _broken(world, [f"I10: it did not stay at rest: {one}" for one in unrest])


def unsettled(world: World) -> Iterator[str]:
    """What is not as it should be in the end, as sentences."""
    alive = {
        (machine.cloud, machine.cloud_id): machine
        for machine in world.watcher.machines
        if machine.alive and machine.ours
    }
    records = {one.node_id: one for one in world.watcher.known.values() if not one.final}
    for record in records.values():
        if record.state is not InstanceState.RUNNING:
            yield f"{record.node_id} is {record.state.value}"
    for machine in alive.values():
        if machine.node_id not in records:
            yield f"machine {machine.cloud_id} ({machine.node_id}) is leaked"
    there = {machine.node_id for machine in alive.values()}
    there |= {node_id for node_id, agent in world.adopted.items() if agent.alive}
    for node_id in records:
        if node_id not in there:
            yield f"{node_id} is RUNNING and has no machine"
    for agent in world.adopted.values():
        # Whom nobody wants is asked to stop; who came during a teardown was never taken.
        unwanted = agent.enrolled and agent.node_id not in records
        if agent.alive and unwanted and not world.torn_down:
            yield f"{agent.node_id} was adopted, is not wanted any more, and goes on"
    for agent in world.machines.values():
        # Of the denied ones, who never enrolled does not speak and is not let in; and after a
        # teardown nobody judges any more who beats.
        unreachable = agent.denied and (world.torn_down or not agent.enrolled)
        if agent.undead and not unreachable:
            yield f"{agent.node_id} is a zombie"
    if world.torn_down:
        yield from _torn_down(world, len(records))
        return
    for pool, spec in world.watcher.specs.items():
        own = [node for node, one in records.items() if one.pool == pool]
        yield from _pool(world, pool, spec, own)


def _torn_down(world: World, left: int) -> Iterator[str]:
    if left:
        yield f"{left} records are left of a teardown"
    provisioner = world.coordinator.provisioner
    if not provisioner.up or not provisioner.part.progress()["done"]:
        yield "the teardown is not done"


def _pool(world: World, pool: str, spec: PoolSpec, own: list[str]) -> Iterator[str]:
    override = spec.rules.override
    now = world.coordinator.controller.clock()
    if override is not None and override.until + 2 * CALM_CYCLE > now:  # what comes of its end
        yield f"pool {pool} has the size that a person wants for a while"
        return
    least, most = expected_size(spec)
    if not least <= len(own) <= most:
        yield f"pool {pool} has {len(own)} workers, not {least} to {most}"
    for node_id in own:
        agent = world.agents.get(node_id)
        if agent is None:
            continue  # it has no machine, which is said already
        well = agent.worker_state == "RUNNING" and agent.side_state == "RUNNING"
        if agent.mute or agent.supervisor_down or not well:
            yield f"{node_id} is not well and stays ({agent.worker_state}/{agent.side_state})"
    unique = spec.engine.get("unique_instances", {})
    if unique and len(own) >= len(unique):
        yield from _unique(world, pool, own, unique)
    controller = world.coordinator.controller
    status: Mapping[str, Any] = controller.part.pool(pool) if controller.up else {}
    follows_figures = not spec.engine.get("queue") and spec.engine_type in (
        "sensor_threshold",
        "target_tracking",
    )
    if status.get("zombies"):  # one that is just gone is told once more
        yield f"zombies of pool {pool} are remembered: {status['zombies']}"
    rollout = status.get("rollout") or {}
    if rollout.get("state") == "RUNNING" or rollout.get("seconds_left", 0.0) > 0:
        yield f"the rollout of pool {pool}: {rollout['reason']}"
    # Where no old one may go before a new one comes, only a person helps.
    stuck = rollout.get("state") == "PAUSED" and status.get("brake") == "NORMAL"
    # Without a worker there is no figure, so that none at all holds for ever.
    none = follows_figures and not own and not status.get("wanted")
    if status.get("state") != "STABLE" and not stuck and not none:
        yield f"pool {pool} is {status.get('state')}: {status.get('reason')}"
    jobs = world.jobs_of(pool)
    elastic = spec.engine_type in ("queue_length", "target_tracking", "time_to_drain", "combined")
    all_done = jobs is None or jobs.finished >= jobs.accepted
    if jobs is not None and elastic and not follows_figures and not all_done:
        yield f"I12: {jobs.accepted - jobs.finished} jobs of {pool} are not done"


def _unique(world: World, pool: str, own: list[str], unique: Mapping[str, Any]) -> Iterator[str]:
    held = sorted(
        view.unique_id
        for view in world.coordinator.records.snapshot(pool, 0, world.queue.now).instances
        if view.node_id in own and view.unique_id is not None
    )
    if held != sorted(unique):
        yield f"unique workers are {held}, not {sorted(unique)}"


def expected_size(spec: PoolSpec) -> tuple[int, int]:
    """How many workers a pool has at rest when there are no jobs: at least, at most."""
    engine = spec.engine
    least = most = 0
    if spec.engine_type == "n_preserving":
        least = most = int(engine.get("preserve_n", 0))
    elif spec.engine_type == "combined":
        least = most = 1
    elif spec.engine_type == "queue_length":
        least = most = int(engine.get("min_instances", 0))
    elif not engine.get("queue"):
        most = 1  # without a worker there is no figure, and the last one stays
    rules = spec.rules

    def bounded(size: int) -> int:
        size = min(max(size, spec.min), spec.max)
        if rules.budget is not None and rules.machine_price is not None:
            size = min(size, int(rules.budget // rules.machine_price))
        return size

    return bounded(least), bounded(most)


def _end_meltdowns(world: World) -> None:
    """An operator mends the machines of a pool whose brake is on."""
    controller = world.coordinator.controller
    for pool in world.watcher.specs:
        if controller.up and controller.part.pool(pool)["brake"] == "MELTDOWN":
            for agent in world.running(pool):
                agent.mend()


def _broken(world: World, sentences: list[str]) -> None:
    for sentence in sentences:
        world.watcher.say(f"BROKEN: {sentence}")
    raise Broken(sentences)
