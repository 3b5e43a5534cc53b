"""The nameko shell of the sensor aggregator."""

from agent import green  # noqa: F401, I001 - patches the standard library before all else

from collections.abc import Mapping
from typing import Any

from agent import bus
from agent.broker_tls import address_of
from agent.keeper_names import sensors_name
from agent.messages import Heartbeat
from agent.rpc_client import ClientPool
from agent.wire import from_wire, to_wire
from coordinator.config import config_of, read_access
from coordinator.sensors.aggregator import Aggregator
from coordinator.sensors.heartbeat_intake import heartbeat_queue, presence_queue
from coordinator.vitals_rpc import TellsVitals


def build(config: dict[str, Any]) -> Aggregator:
    """The parts of this process, from its nameko config."""
    from coordinator.bootstrap import build_aggregator

    own = config_of(config)
    access = read_access(own.accounts)
    calls = ClientPool(address_of(config), timeout=own.call_timeout)
    return build_aggregator(own, access, bus.event_publisher(config), calls.call)


def _setting(name: str) -> Any:
    return lambda config: getattr(config_of(config), name)


class Sensors(TellsVitals):
    """``sensors``: latest readings with their ages."""

    name = "sensors"
    part = bus.Part(build)

    @bus.rpc
    def latest(self, pool: str) -> Any:
        return to_wire(self.part.latest(pool))

    @bus.rpc
    def reports(
        self,
        wanted: dict[str, list[str]],
        patience: dict[str, float] | None = None,
        busy_queues: dict[str, str] | None = None,
    ) -> Any:
        return to_wire(self.part.reports(wanted, patience, busy_queues))

    @bus.rpc
    def witness(self, node_ids: list[str]) -> Any:
        return self.part.witness(node_ids)

    @bus.rpc
    def declare_queue(self, name: str) -> None:
        self.part.declare_queue(name)

    @bus.rpc
    def report(self, beat: dict[str, Any]) -> None:
        self.part.take_report(from_wire(Heartbeat, beat))

    @bus.rpc
    def events(self, since: int = 0, limit: int = 1000) -> list[Any]:
        """This service judges nothing and keeps no history of its own."""
        return []

    @bus.rpc
    def status(self) -> Any:
        return self.part.status()

    @bus.consume(heartbeat_queue())
    def on_heartbeat(self, delivery: bus.Delivery) -> None:
        self.part.take_heartbeat(delivery.body, delivery.key, delivery.user)

    @bus.every(seconds=_setting("loopback_interval"), eager=True)
    def send_loopback(self) -> None:
        self.part.send_loopback()

    @bus.every(seconds=_setting("queue_poll_interval"))
    def poll_queues(self) -> None:
        self.part.poll_queues()

    @bus.every(60.0)
    def forget(self) -> None:
        self.part.forget()


class SensorsWithPresence(Sensors):
    """On a broker with the event exchange: hears of a dead agent within milliseconds."""

    @bus.consume(presence_queue())
    def on_broker_event(self, delivery: bus.Delivery) -> None:
        self.part.take_broker_event(delivery.headers)


def service_class(config: Mapping[str, Any]) -> type:
    """The class that fits the broker of ``config``, and the pool whose own it is, if any."""
    own = config_of(config)
    access = read_access(own.accounts)
    fitting = SensorsWithPresence if access.event_exchange else Sensors
    return of_one_pool(fitting, own.pool) if own.pool else fitting


def of_one_pool(base: type[Sensors], pool: str) -> type[Sensors]:
    """``sensors-<pool>``: hears the nodes of one pool only, whatever the others' do."""

    class OfOnePool(base):  # type: ignore[valid-type, misc]
        name = sensors_name(pool)

        @bus.consume(heartbeat_queue(pool))
        def on_heartbeat(self, delivery: bus.Delivery) -> None:
            super().on_heartbeat(delivery)

    return OfOnePool


if __name__ == "__main__":
    bus.main(service_class)
