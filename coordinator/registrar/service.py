"""The nameko shell of the registrar."""

from agent import green  # noqa: F401, I001 - patches the standard library before all else

from typing import Any

from agent import bus
from agent.messages import EnrolRequest, ReadyReport
from agent.rpc_client import ClientPool
from agent.wire import from_wire, to_wire
from coordinator.config import config_of, read_access
from coordinator.registrar.enrolment import Registrar


def build(config: dict[str, Any]) -> Registrar:
    """The parts of this process, from its nameko config."""
    from coordinator.bootstrap import build_registrar

    own = config_of(config)
    calls = ClientPool(config["AMQP_URI"], timeout=own.call_timeout)
    return build_registrar(own, read_access(own.accounts), calls.call)


class RegistrarService:
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
