"""What the sensors service takes in and lets go of again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from agent.messages import BrokerAccess, Heartbeat, SensorReading, beat_key
from agent.wire import to_wire
from coordinator.sensors.aggregator import ASKED_WITHIN, Aggregator
from coordinator.sensors.history import FORGET_AFTER
from coordinator.sensors.queue_length import QueueLengthSensor, reading_names


class Queues(QueueLengthSensor):
    """The real sensor over queues of a test instead of a broker's."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def measure(self, subject: str) -> Sequence[SensorReading]:
        self.asked.append(subject)
        return [SensorReading(name=name, value=1.0, age=0.0) for name in reading_names(subject)]

    def keep_only(self, queues: Any) -> None:
        self.kept = set(queues)


class World:
    def __init__(self) -> None:
        self.now = 100.0
        self.queues = Queues()
        access = BrokerAccess(host="h", port=1, vhost="v", accounts={})
        self.sensors = Aggregator(
            access,
            self,  # type: ignore[arg-type]
            self.queues,
            lambda *_, **__: None,
            loopback_interval=2.0,
            clock=lambda: self.now,
        )

    def beat(self, node: str, pool: str = "p") -> None:
        beat = Heartbeat(node_id=node, pool=pool, boot_id="b", sequence=1, sent_at=0.0)
        self.sensors.take_heartbeat(to_wire(beat), beat_key(pool, node), f"node-{node}")


@pytest.fixture
def world() -> World:
    return World()


def test_by_the_clock_nodes_that_were_not_heard_for_an_hour_are_forgotten(world: World) -> None:
    world.beat("gone-0")
    world.now += FORGET_AFTER / 2
    world.beat("there-0")
    world.now += FORGET_AFTER / 2
    world.sensors.forget()
    assert set(world.sensors.latest("p").nodes) == {"there-0"}
    assert FORGET_AFTER <= 3600.0


def test_a_pool_that_waits_longer_for_its_nodes_is_told_of_them_for_longer(world: World) -> None:
    world.beat("slow-0")
    world.now += FORGET_AFTER * 1.5
    world.sensors.reports({"p": []}, {"p": FORGET_AFTER * 2})
    world.sensors.forget()
    assert set(world.sensors.latest("p").nodes) == {"slow-0"}


def test_readings_and_samples_of_queues_that_nobody_asks_for_are_dropped(world: World) -> None:
    world.sensors.reports({"p": ["jobs"], "q": ["other"]})
    world.sensors.poll_queues()
    assert len(world.sensors.latest("p").readings) == len(reading_names("jobs"))
    world.now += ASKED_WITHIN
    world.sensors.reports({"q": ["other"]})
    world.sensors.poll_queues()
    assert world.queues.kept == {"other"}
    assert world.queues.asked == ["jobs", "other", "other"]
    assert not world.sensors.latest("p").readings, "nothing old is told as if it were known"
    assert world.sensors.latest("q").readings
