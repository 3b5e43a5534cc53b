"""The nameko shell of the provisioner."""

from agent import green  # noqa: F401, I001 - patches the standard library before all else

from collections.abc import Callable, Sequence
from typing import Any

import eventlet
from eventlet.greenpool import GreenPool

from agent import bus
from agent.broker_tls import address_of
from agent.messages import CommandBatch, ReadyReport
from agent.rpc_client import IDLE_FOR, ClientPool
from agent.wire import from_wire, to_wire
from coordinator.config import config_of, read_access
from coordinator.provisioner.provisioner import Provisioner
from coordinator.vitals_rpc import TellsVitals

#: How often is looked whether a cloud wants to run, s.
TICK = 0.5
#: Agents that are asked at the same time.
IN_FLIGHT = 50


def in_parallel(function: Callable[[str], Any], items: Sequence[str]) -> list[Any]:
    """The results of ``function`` for each item, in order, at most IN_FLIGHT at a time."""
    return list(GreenPool(IN_FLIGHT).imap(function, items))


def _close_idle(calls: ClientPool) -> None:
    """After a drain of many there may be no call for hours that would do it."""
    while True:
        eventlet.sleep(IDLE_FOR)
        calls.close_idle()


def build(config: dict[str, Any]) -> Provisioner:
    """The parts of this process, from its nameko config."""
    from coordinator.bootstrap import build_provisioner

    own = config_of(config)
    calls = ClientPool(address_of(config), timeout=own.call_timeout, size=IN_FLIGHT)
    eventlet.spawn_n(_close_idle, calls)
    return build_provisioner(own, read_access(own.accounts), calls.call, in_parallel)


class ProvisionerService(TellsVitals):
    """``provisioner``: the instance records, and the only way to the workers' clouds."""

    name = "provisioner"
    part = bus.Part(build)

    @bus.rpc
    def instances(self, pool: str, since: int = 0) -> Any:
        return to_wire(self.part.instances(pool, since))

    @bus.rpc
    def snapshots(self, since: dict[str, int]) -> Any:
        return to_wire(self.part.snapshots(since))

    @bus.rpc
    def apply(self, batch: dict[str, Any]) -> Any:
        answer = self.part.apply(from_wire(CommandBatch, batch))
        self._serve_due()
        return to_wire(answer)

    @bus.rpc
    def claim_epoch(self, pools: list[str], owner: str = "", own_pool: str = "") -> dict[str, int]:
        return dict(self.part.claim_epoch(pools, owner, own_pool))

    @bus.rpc
    def keepers(self) -> list[str]:
        return list(self.part.keepers())

    @bus.rpc
    def release_keeper(self, pool: str) -> None:
        self.part.release_keeper(pool)

    @bus.rpc
    def node_for_enrolment(self, launch_id: str, index: int) -> Any:
        return self.part.node_for_enrolment(launch_id, index)

    @bus.rpc
    def adopt_node(
        self,
        launch_id: str,
        index: int,
        pool: str,
        wanted: dict[str, Any],
        machine: dict[str, str],
    ) -> Any:
        return self.part.adopt_node(launch_id, index, pool, wanted, machine)

    @bus.rpc
    def node_enrolled(
        self, node_id: str, addresses: list[str], cloud_id: str = "", told: str = ""
    ) -> None:
        self.part.node_enrolled(node_id, addresses, cloud_id, told)

    @bus.rpc
    def node_starting(self, node_id: str, step: str, detail: str) -> None:
        self.part.node_starting(node_id, step, detail)

    @bus.rpc
    def node_ready(self, report: dict[str, Any]) -> Any:
        return self.part.node_ready(from_wire(ReadyReport, report))

    @bus.rpc
    def node(self, node_id: str) -> Any:
        return self.part.node(node_id)

    @bus.rpc
    def live_nodes(self) -> Any:
        return self.part.live_nodes()

    @bus.rpc
    def presence_lost(self, node_ids: list[str]) -> None:
        self.part.presence_lost(node_ids)
        self._serve_due()

    @bus.rpc
    def terminate_all(self, now: bool = False, drain_timeout: float | None = None) -> Any:
        progress = self.part.terminate_all(now, drain_timeout)
        self._serve_due()
        return progress

    @bus.rpc
    def progress(self) -> Any:
        return self.part.progress()

    @bus.rpc
    def stop_denied(self) -> Any:
        return self.part.stop_denied()

    @bus.rpc
    def audit_exec(self, node_id: str, exec_id: str, words: list[str], actor: str) -> None:
        self.part.audit_exec(node_id, exec_id, words, actor)

    @bus.rpc
    def order_node(
        self,
        node_id: str,
        order: str,
        who: str,
        reason: str = "",
        drain_timeout: float | None = None,
    ) -> Any:
        answer = self.part.order_node(node_id, order, who, reason, drain_timeout)
        self._serve_due()
        return answer

    @bus.rpc
    def enable(self) -> None:
        self.part.enable()

    @bus.rpc
    def events(self, since: int = 0, limit: int = 1000) -> Any:
        return to_wire(self.part.events(since, limit))

    @bus.rpc
    def status(self) -> Any:
        return self.part.status()

    @bus.every(TICK, eager=True)
    def tick(self) -> None:
        self._serve_due()

    @bus.every(1.0)
    def drain_tick(self) -> None:
        self.part.drain_step()

    @bus.every(5.0)
    def accounts_tick(self) -> None:
        self.part.accounts_step()

    def _serve_due(self) -> None:
        """A greenlet per cloud that wants to run: a slow one delays nobody."""
        for cloud in self.part.due():
            eventlet.spawn_n(self._serve, cloud)

    def _serve(self, cloud: str) -> None:
        self.part.reconcile(cloud)
        soon = self.part.due_in(cloud)
        if soon < 2 * TICK:  # what wants to be done at its moment need not wait for the next tick
            eventlet.spawn_after(soon, self._serve_due)


if __name__ == "__main__":
    bus.main(ProvisionerService)
