"""The samples that the queue sensor remembers."""

from __future__ import annotations

from agent.messages import BrokerAccess, BrokerAccount
from coordinator.sensors.queue_length import Figures, QueueLengthSensor


class Sensor(QueueLengthSensor):
    """The real sensor; only the broker's answer is ours."""

    def _by_declaration(self, queue: str) -> Figures | None:
        return Figures(3)


def test_a_queue_that_was_let_go_of_is_numbered_from_the_start_again() -> None:
    now = [0.0]
    accounts = {"coordinator": BrokerAccount(user="u", password="p")}
    access = BrokerAccess(host="h", port=1, vhost="v", accounts=accounts)
    sensor = Sensor(access, lambda: now[0])
    for moment in (0.0, 1000.0):
        now[0] = moment
        samples = [sensor.measure(queue)[0].sample for queue in ("jobs", "other")]
    assert samples == ["2", "2"]
    sensor.keep_only({"other"})
    assert [sensor.measure(queue)[0].sample for queue in ("jobs", "other")] == ["1", "2"]
