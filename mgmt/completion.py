"""Names that a shell completes: runs from this machine, pools and nodes from a running system.

A shell waits for the answer with every key, so nothing here takes longer than ``WITHIN``
seconds, says a word, or fails: what can't be had in time is not offered.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mgmt.run_locator import RunningSystem

    FindSystem = Callable[[], RunningSystem]

#: Seconds, connecting to the broker included.
WITHIN = 1.5


def run_names() -> list[str]:
    """All runs of this machine."""
    from bootlevels.run_home import run_names as found

    return found()


def pool_names(system: FindSystem) -> list[str]:
    """The pools of the system that the words so far mean."""
    return [str(pool["name"]) for pool in _ask(system, "pools")["pools"]]


def node_names(system: FindSystem) -> list[str]:
    """Its living nodes."""
    return [str(node["node_id"]) for node in _ask(system, "nodes")["nodes"]]


def sample_names() -> list[str]:
    """The launch plans that come with EPU."""
    from bootlevels.run_home import sample_plans

    return list(sample_plans())


def command_words() -> list[str]:
    """The commands, as their first words are."""
    from mgmt.cli import COMMANDS

    return list(COMMANDS)


def names_of(kind: str, system: FindSystem) -> list[str]:
    """What there is of a ``kind`` (RUN, POOL, NODE, …). Never raises, never takes long."""
    match kind:
        case "PLAN" | "SAMPLE":
            return within(WITHIN, sample_names)
        case "COMMAND":
            return within(WITHIN, command_words)
        case "RUN":
            return within(WITHIN, run_names)
        case "POOL":
            return within(WITHIN, lambda: pool_names(system))
        case _:
            return within(WITHIN, lambda: node_names(system))


def within(seconds: float, work: Callable[[], list[str]]) -> list[str]:
    """What ``work`` finds in that time; nothing when it does not, or fails."""
    found: list[str] = []

    def run() -> None:
        try:
            found.extend(work())
        except Exception:  # noqa: BLE001 - a shell that completes shows no errors
            return

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    return [] if thread.is_alive() else found


def _ask(system: FindSystem, method: str) -> dict[str, Any]:
    from agent.rpc_client import RpcClient
    from mgmt.answers import ask

    with RpcClient(system().amqp_url(), timeout=WITHIN, connect_within=WITHIN) as client:
        return dict(ask(client.call, "management", method, timeout=WITHIN))
