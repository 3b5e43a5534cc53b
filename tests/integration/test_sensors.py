"""From the broker through the sensor to the engine's decision."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kombu import Connection

from agent.messages import BrokerAccess, BrokerAccount, HealthStatus, InstanceState
from coordinator.engines.base import Decision, PoolView, ViewedInstance, ViewedReading
from coordinator.engines.queue_length import QueueLength
from coordinator.errors import RetryLater
from coordinator.sensors.queue_length import QueueLengthSensor

pytestmark = pytest.mark.integration


class Jobs:
    """A work queue with a producer and a consumer that takes without acknowledging."""

    def __init__(self, access: BrokerAccess, sensor: QueueLengthSensor) -> None:
        self.name = f"jobs-{uuid.uuid4().hex[:6]}"
        self.sensor = sensor
        sensor.declare(self.name)
        self.connection = Connection(
            access.amqp_url("admin"), transport_options={"confirm_publish": True}
        )
        self.channel = self.connection.channel()
        self.held: list[Any] = []

    def put(self, count: int) -> None:
        producer = self.connection.Producer()
        for number in range(count):
            producer.publish({"job": number}, routing_key=self.name)

    def take(self) -> None:
        message = self.channel.basic_get(self.name)
        assert message is not None
        self.held.append(message)

    def finish(self) -> None:
        self.channel.basic_ack(self.held.pop(0).delivery_tag)

    def readings(self) -> dict[str, float]:
        return {reading.name.split(".")[-1]: reading.value for reading in self.measure()}

    def measure(self) -> Any:
        return self.sensor.measure(self.name)


@pytest.fixture
def jobs(broker: BrokerAccess) -> Iterator[Jobs]:
    sensor = QueueLengthSensor(broker, time.monotonic)
    found = Jobs(broker, sensor)
    yield found
    found.connection.close()
    sensor.close()


def test_jobs_in_hand_are_counted_beside_those_that_wait(
    jobs: Jobs, eventually: Callable[..., Any]
) -> None:
    jobs.put(3)
    jobs.take()
    wanted = {"ready": 2.0, "unacknowledged": 1.0}
    eventually(
        lambda: wanted.items() <= jobs.readings().items(), 10, lambda: f"seen: {jobs.readings()}"
    )


def test_the_rate_at_which_jobs_arrive_is_seen(jobs: Jobs, eventually: Callable[..., Any]) -> None:
    def arriving() -> bool:
        jobs.put(2)
        return jobs.readings().get("arrivals", 0.0) > 0

    eventually(arriving, 20, lambda: f"seen: {jobs.readings()}")


def test_a_queue_that_does_not_exist_is_no_reading_and_not_zero(broker: BrokerAccess) -> None:
    assert QueueLengthSensor(broker, time.monotonic).measure("no-such-queue") == ()


def test_readings_within_one_statistics_interval_are_the_same_sample(broker: BrokerAccess) -> None:
    now = [0.0]
    sensor = QueueLengthSensor(broker, lambda: now[0])
    sensor.declare("sampled")

    def sample() -> str:
        deadline = time.monotonic() + 10
        while not (found := sensor.measure("sampled")):
            assert time.monotonic() < deadline, "the new queue has no figures"
        return found[0].sample

    first = sample()
    now[0] = 1.0
    assert sample() == first
    now[0] = 2.0
    assert sample() != first


def test_without_the_management_api_only_what_is_known_is_said(
    jobs: Jobs, broker: BrokerAccess
) -> None:
    plain = BrokerAccess(
        host=broker.host, port=broker.port, vhost=broker.vhost, accounts=broker.accounts
    )
    jobs.put(2)
    found = QueueLengthSensor(plain, time.monotonic).measure(jobs.name)
    assert {reading.name.split(".")[-1]: reading.value for reading in found} == {"ready": 2.0}
    assert QueueLengthSensor(plain, time.monotonic).measure("no-such-queue") == ()


def test_a_management_api_that_is_away_or_refuses_is_a_reason_to_come_again(
    broker: BrokerAccess,
) -> None:
    away = BrokerAccess(
        host=broker.host,
        port=broker.port,
        vhost=broker.vhost,
        accounts=broker.accounts,
        management_url="http://127.0.0.1:9",
    )
    refused = BrokerAccess(
        host=broker.host,
        port=broker.port,
        vhost=broker.vhost,
        accounts={"coordinator": BrokerAccount(user="coordinator", password="wrong-secret")},
        management_url=broker.management_url,
    )
    for access in (away, refused):
        with pytest.raises(RetryLater) as found:
            QueueLengthSensor(access, time.monotonic, timeout=2).measure("any")
        assert "wrong-secret" not in str(found.value)


def test_from_the_broker_through_the_sensor_to_the_decision(
    jobs: Jobs, eventually: Callable[..., Any]
) -> None:
    """One pool's whole day: work comes, a worker takes the last job, the work is done."""
    settings = QueueLength.Settings(
        queue=jobs.name, queuelen_high_water=2, queuelen_low_water=1, max_instances=3
    )
    engine = QueueLength()
    previous: list[Decision | None] = [None]

    def decide(workers: int) -> Decision:
        view = PoolView(
            pool="p",
            now=time.time(),
            instances=tuple(
                ViewedInstance(
                    node_id=f"n-{number}",
                    state=InstanceState.RUNNING,
                    health=HealthStatus.OK,
                    age=60.0 - number,
                )
                for number in range(workers)
            ),
            readings={
                reading.name: ViewedReading(
                    value=reading.value, age=reading.age, sample=reading.sample
                )
                for reading in jobs.measure()
            },
            settings=settings,
            previous=previous[0],
        )
        previous[0] = engine.decide(view)
        return previous[0]

    jobs.put(1)
    eventually(lambda: decide(0).size == 1, 10, "with no worker and work waiting: one worker")
    jobs.put(4)
    eventually(lambda: decide(1).size == 2, 10, "above high water: one more")
    for _ in range(5):
        jobs.take()
    eventually(lambda: decide(2).size == 1, 10, "below low water: one fewer")
    samples = {decide(1).size for _ in range(20)}
    assert samples == {1}, "the last worker stays while a job is in its hands"
    for _ in range(5):
        jobs.finish()
    eventually(lambda: decide(1).size == 0, 15, "nothing ready, nothing in hand, twice: none")
