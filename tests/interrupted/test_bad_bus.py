"""T3 and T9: the bus loses, doubles, delays and reorders messages, or is away for ten minutes."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.messages import Heartbeat, ReadyReport
from coordinator.errors import EpuError
from tests.interrupted.system import BOOT_TIME, POOL, SECTION, World

#: Seconds of a bad bus; longer than a boot, several beats, and a resent batch.
TROUBLE = 90


class BadBusWorld(World):
    """A World whose agents' messages go over a bus that does what ``chance`` says."""

    def __init__(self, directory: Path, chance: random.Random) -> None:
        super().__init__(directory)
        self.chance = chance
        self.bad = True
        self.away = False
        self.in_flight: list[tuple[float, Callable[[], None]]] = []
        self.ready: set[str] = set()
        self.fault = self._fate_of_a_call

    def _fate_of_a_call(self, service: str, method: str) -> str | None:
        if self.away:
            return "before"
        if not self.bad:
            return None
        return self.chance.choice([None, None, None, "before", "after"])

    def send(self, message: Callable[[], None]) -> None:
        """Drop, deliver, double or delay by up to 20 s, which also reorders."""
        if self.away:
            return
        copies = self.chance.choice([0, 1, 1, 2]) if self.bad else 1
        for _ in range(copies):
            delay = self.chance.choice([0, 0, 1, 5, 20]) if self.bad else 0
            self.in_flight.append((self.now + delay, message))

    def step(self) -> None:
        arrived = [message for at, message in self.in_flight if at <= self.now]
        self.in_flight = [one for one in self.in_flight if one[0] > self.now]
        self.chance.shuffle(arrived)
        for message in arrived:
            message()
        if self.away:
            self._step_without_a_bus()
        else:
            super().step()

    def _step_without_a_bus(self) -> None:
        """Clouds answer, agents work; nobody hears anybody."""
        self.now += 1.0
        for cloud in self.provisioner.due():
            self.provisioner.reconcile(cloud)
        self.provisioner.drain_step()
        self.keeper.cycle()

    def _agent(self, node_id: str) -> None:
        born = self.launched_at.setdefault(node_id, self.now)
        if node_id in self.silent or self.now - born < BOOT_TIME:
            return
        if node_id not in self.ready:
            self.send(lambda: self._report_ready(node_id))  # again until it is acknowledged
        self.beats[node_id] = self.beats.get(node_id, 0) + 1
        beat = Heartbeat(
            node_id=node_id,
            pool=POOL,
            boot_id="b",
            sequence=self.beats[node_id],
            sent_at=self.chance.uniform(-1e6, 1e6),  # T13: a clock that is anywhere
            ready=node_id in self.ready,
        )
        self.send(lambda: self._hear(beat))

    def _hear(self, beat: Heartbeat) -> None:
        self.observations.heard(beat, self.now)

    def _report_ready(self, node_id: str) -> None:
        launch_id, _, index = node_id.rpartition("-")
        try:
            self.provisioner.node_for_enrolment(launch_id, int(index))
            self.provisioner.node_enrolled(node_id, [])
            accepted = self.provisioner.node_ready(ReadyReport(node_id=node_id, ok=True))
        except EpuError:
            return  # a report that came when its node was gone
        if accepted["accepted"] and self._fate_of_a_call("registrar", "ready") is None:
            self.ready.add(node_id)  # else the acknowledgement was lost


def settled(world: BadBusWorld, size: int) -> None:
    world.live_until(world.stable, 300)
    world.live(30)
    assert world.stable()
    assert len(world.alive()) == size


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**32))
def test_a_bus_that_loses_doubles_delays_and_reorders_costs_only_time(seed: int) -> None:
    with TemporaryDirectory() as directory:
        world = BadBusWorld(Path(directory), random.Random(seed))
        add = world.keeper.add_pool
        add(POOL, SECTION)
        size = SECTION["engine"]["preserve_n"]
        world.live(TROUBLE)
        made = world.made()
        assert len(world.alive()) <= size, "a batch that came twice launched twice"
        world.bad = False
        settled(world, size)
        assert world.made() == max(made, size), "the trouble of messages cost a machine"


@pytest.mark.parametrize("seconds", [30, 600])
def test_a_bus_that_is_away_costs_nobody_and_a_loss_afterwards_is_healed(
    tmp_path: Path, seconds: int
) -> None:
    world = BadBusWorld(tmp_path, random.Random(1))
    world.bad = False
    world.keeper.add_pool(POOL, SECTION)
    size = SECTION["engine"]["preserve_n"]
    settled(world, size)
    before = set(world.alive())
    world.away = True
    for _ in range(seconds):
        world.step()
        assert set(world.alive()) == before
    world.away = False
    settled(world, size)
    assert set(world.alive()) == before and world.made() == size
    world.kill(min(before))
    settled(world, size)
    assert world.made() == size + 1
