"""The nameko service ``management``: the system for people and programs, by RPC.

A thin shell: every method composes answers of the components with the plain functions
beside this module. ``n.rpc.management.status()`` works in ``nameko shell``.
"""

from agent import green  # noqa: F401, I001 - patches the standard library before all else

from typing import Any

from agent import bus
from agent.broker_tls import address_of
from agent.keepers import KeeperCalls
from agent.rpc_client import ClientPool
from coordinator.config import config_of
from coordinator.vitals_rpc import TellsVitals
from mgmt import explain, history, node_access, node_details, status
from mgmt.answers import SINGLE_TIMEOUT, ask
from mgmt.keepers import dedicated_pools


def build_calls(config: dict[str, Any]) -> KeeperCalls:
    """Calls to the other services, each with a deadline of its own."""
    timeout = min(config_of(config).call_timeout, SINGLE_TIMEOUT)
    return KeeperCalls(ClientPool(address_of(config), timeout=timeout).call, timeout)


class Management(TellsVitals):
    """See docs/json.md for the answers."""

    name = "management"
    calls = bus.Part(build_calls)

    @bus.rpc
    def status(self) -> Any:
        return status.system_status(self.calls.call)

    @bus.rpc
    def pools(self) -> Any:
        return status.pools(self.calls.call)

    @bus.rpc
    def pool(self, name: str) -> Any:
        return status.pool(self.calls.call, name)

    @bus.rpc
    def add_pool(self, name: str, section: dict[str, Any]) -> Any:
        return status.add_pool(self.calls.call, name, section)

    @bus.rpc
    def set_n(self, pool: str, n: int) -> Any:
        return status.change_size(self.calls.call, pool, n)

    @bus.rpc
    def reconfigure(self, pool: str, changes: dict[str, Any]) -> Any:
        return status.reconfigure(self.calls.call, pool, changes)

    @bus.rpc
    def resume_pool(self, pool: str) -> Any:
        return status.resume(self.calls.call, pool)

    @bus.rpc
    def rollout(self, pool: str, action: str = "start", max_surge: int | None = None) -> Any:
        return status.rollout(self.calls.call, pool, action, max_surge)

    @bus.rpc
    def nodes(self, pool: str | None = None, every: bool = False) -> Any:
        return status.nodes(self.calls.call, pool, every)

    @bus.rpc
    def node(self, node_id: str) -> Any:
        return node_details.node(self.calls.call, node_id)

    @bus.rpc
    def order_node(
        self,
        node_id: str,
        order: str,
        who: str,
        reason: str = "",
        drain_timeout: float | None = None,
    ) -> Any:
        return node_details.order_node(self.calls.call, node_id, order, who, reason, drain_timeout)

    @bus.rpc
    def node_logs(self, node_id: str, program: str = "", lines: int = 100) -> Any:
        return node_access.node_logs(self.calls.call, node_id, program, lines)

    @bus.rpc
    def start_exec(
        self, node_id: str, exec_id: str, words: list[str], timeout: float, actor: str = ""
    ) -> Any:
        return node_access.start_exec(self.calls.call, node_id, exec_id, words, timeout, actor)

    @bus.rpc
    def follow_exec(self, node_id: str, exec_id: str, offset: int = 0) -> Any:
        return node_access.follow_exec(self.calls.call, node_id, exec_id, offset)

    @bus.rpc
    def end_exec(self, node_id: str, exec_id: str) -> Any:
        return node_access.end_exec(self.calls.call, node_id, exec_id)

    @bus.rpc
    def pool_token(self, pool: str, lifetime: float, uses: int = 1) -> Any:
        status.pool(self.calls.call, pool)  # an unknown one is named with the nearest
        return ask(self.calls.call, "registrar", "pool_token", pool, lifetime, uses)

    @bus.rpc
    def base_token(self, launch_id: str, lifetime: float) -> Any:
        return ask(self.calls.call, "registrar", "base_token", launch_id, lifetime)

    @bus.rpc
    def explain(self, pool: str, at: float | None = None) -> Any:
        return explain.explain(self.calls.call, pool, at)

    @bus.rpc
    def events(
        self,
        since: float | None = None,
        pool: str | None = None,
        node: str | None = None,
        name: str | None = None,
        limit: int = 200,
        after: dict[str, int] | None = None,
    ) -> Any:
        call = self.calls.call
        dedicated = dedicated_pools(call)
        return history.events(call, since, pool, node, name, limit, after, dedicated)

    @bus.rpc
    def freeze(self, reason: str) -> None:
        ask(self.calls.call, "controller", "freeze", reason)

    @bus.rpc
    def unfreeze(self) -> None:
        ask(self.calls.call, "controller", "unfreeze")

    @bus.rpc
    def teardown_workers(self, now: bool = False) -> Any:
        """Freeze the engines and ask for the end of every worker; the progress."""
        ask(self.calls.call, "controller", "freeze", "teardown", timeout=SINGLE_TIMEOUT / 2)
        return ask(self.calls.call, "provisioner", "terminate_all", now, timeout=SINGLE_TIMEOUT / 2)

    @bus.rpc
    def progress(self) -> Any:
        return ask(self.calls.call, "provisioner", "progress")


if __name__ == "__main__":
    bus.main(Management)
