"""The nameko shell of the controller."""

from agent import green  # noqa: F401, I001 - patches the standard library before all else

from collections.abc import Callable, Mapping
from typing import Any

import eventlet
from eventlet.greenpool import GreenPool

from agent import bus
from agent.broker_tls import address_of
from agent.rpc_client import ClientPool
from agent.wire import to_wire
from coordinator.config import config_of
from coordinator.controller.keeper import Keeper
from coordinator.vitals_rpc import TellsVitals

#: Silent nodes that are asked for a sign of life at the same time.
IN_FLIGHT = 50


def build(config: dict[str, Any]) -> Keeper:
    """The parts of this process, from its nameko config."""
    from coordinator.bootstrap import build_keeper

    own = config_of(config)
    calls = ClientPool(address_of(config), timeout=own.call_timeout)
    asking = GreenPool(IN_FLIGHT)

    def in_background(work: Callable[[], None]) -> None:
        # A full pool makes its caller wait, which must not be the cycle.
        eventlet.spawn_n(asking.spawn_n, work)

    return build_keeper(own, calls.call, in_background, eventlet.spawn_n)


class Controller(TellsVitals):
    """``controller``, or ``controller-<pool>``: keeps pools at the size their engines want."""

    name = "controller"
    part = bus.Part(build)

    @bus.rpc
    def add_pool(self, name: str, section: dict[str, Any]) -> dict[str, bool]:
        self.part.check_whose(name)
        return {"added": self.part.add_pool(name, section)}

    @bus.rpc
    def check_pool(self, name: str, section: dict[str, Any]) -> None:
        self.part.check_whose(name)
        self.part.check_pool(name, section)

    @bus.rpc
    def remove_pool(self, name: str) -> None:
        self.part.remove_pool(name)

    @bus.rpc
    def reconfigure(self, name: str, changes: dict[str, Any]) -> Any:
        self.part.reconfigure(name, changes)
        return self.part.pool(name)

    @bus.rpc
    def pools(self, whole: bool = True) -> Any:
        """Every pool; not ``whole``: without its instances and section, which of a large
        system are megabytes that a list of pools does not show.
        """
        return [self.part.pool(name, whole) for name in self.part.names()]

    @bus.rpc
    def pool(self, name: str) -> Any:
        return self.part.pool(name)

    @bus.rpc
    def explain(self, name: str, at: float | None = None) -> Any:
        return self.part.explain(name, at)

    @bus.rpc
    def recordings(self, name: str, before: int | None = None, at: float | None = None) -> Any:
        return self.part.recordings(name, before, at)

    @bus.rpc
    def decisions(self, name: str, since: float = 0.0, limit: int = 500) -> Any:
        return self.part.decisions(name, since, limit)

    @bus.rpc
    def resume(self, name: str) -> Any:
        self.part.resume(name)
        return self.part.pool(name)

    @bus.rpc
    def rollout(self, name: str, action: str = "start", max_surge: int | None = None) -> Any:
        self.part.rollout(name, action, max_surge)
        return self.part.pool(name)

    @bus.rpc
    def freeze(self, reason: str) -> None:
        self.part.freeze(reason)

    @bus.rpc
    def unfreeze(self) -> None:
        self.part.unfreeze()

    @bus.rpc
    def events(self, since: int = 0, limit: int = 1000) -> Any:
        return to_wire(self.part.events.read(since, limit))

    @bus.rpc
    def status(self) -> Any:
        return self.part.status()

    @bus.rpc
    def look(self) -> None:
        """The provisioner's hint that machines are gone: their places need not wait a cycle."""
        eventlet.spawn_n(self.part.cycle)

    @bus.every(seconds=lambda config: config_of(config).cycle_interval)
    def cycle(self) -> None:
        self.part.cycle()


def service_class(config: Mapping[str, Any]) -> type:
    """The class under the name that fits ``config``: the shared one's or a pool's own."""
    return type("Controller", (Controller,), {"name": config_of(config).controller_name})


if __name__ == "__main__":
    bus.main(service_class)
