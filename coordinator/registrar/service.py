"""The nameko shell of the registrar."""

from agent import green  # noqa: F401, I001 - patches the standard library before all else

from typing import Any

from agent import bus
from agent.broker_tls import address_of
from agent.messages import EnrolRequest, ReadyReport, StartReport
from agent.rpc_client import ClientPool
from agent.wire import from_wire, to_wire
from coordinator.config import config_of, read_access
from coordinator.registrar.enrolment import Registrar
from coordinator.vitals_rpc import TellsVitals


def build(config: dict[str, Any]) -> Registrar:
    """The parts of this process, from its nameko config."""
    from coordinator.bootstrap import build_registrar

    own = config_of(config)
    calls = ClientPool(address_of(config), timeout=own.call_timeout)
    return build_registrar(own, read_access(own.accounts), calls.call)


class RegistrarService(TellsVitals):
    """``registrar``: enrolment and readiness of nodes."""

    name = "registrar"
    part = bus.Part(build)

    @bus.rpc
    def enrol(self, request: dict[str, Any]) -> Any:
        return to_wire(self.part.enrol(from_wire(EnrolRequest, request)))

    @bus.rpc
    def ready(self, report: dict[str, Any]) -> dict[str, bool]:
        return {"accepted": self.part.ready(from_wire(ReadyReport, report))}

    @bus.rpc
    def starting(self, report: dict[str, Any]) -> None:
        self.part.starting(from_wire(StartReport, report))

    # Not for nodes: their accounts may publish to the methods above and no others.

    @bus.rpc
    def pool_token(self, pool: str, lifetime: float, uses: int = 1) -> Any:
        return self.part.pool_token(pool, lifetime, uses)

    @bus.rpc
    def base_token(self, launch_id: str, lifetime: float) -> Any:
        return self.part.base_token(launch_id, lifetime)

    @bus.rpc
    def dismiss(self, node_id: str) -> None:
        self.part.dismiss(node_id)

    @bus.rpc
    def events(self, since: int = 0, limit: int = 1000) -> Any:
        return to_wire(self.part.events.read(since, limit))

    @bus.rpc
    def status(self) -> Any:
        return dict(self.part.status())

    @bus.every(15.0)
    def sweep(self) -> None:
        self.part.sweep()


if __name__ == "__main__":
    bus.main(RegistrarService)
