"""Looking at a run for ``epu doctor``: nothing here changes anything, every wait has an end."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.keeper_names import SENSORS, controllers
from agent.messages import agent_service
from agent.rpc_client import BrokerUnreachable, CallFailed, RpcClient
from coordinator.errors import EpuError
from coordinator.vitals import vitals
from mgmt.answers import Call, ask
from mgmt.doctor.evidence import Evidence, NodeSigns, Restarts, Vitals
from mgmt.exit_codes import NoSuchRun
from mgmt.keepers import dedicated_pools
from mgmt.run_locator import NoCoordinator, RunningSystem, open_run, state_dir_of, system_of
from mgmt.run_teardown import clouds_of

if TYPE_CHECKING:
    from bootlevels.api import Run

#: States in which a node is on its way.
_ON_THE_WAY = frozenset(
    {"REQUESTED", "LAUNCHING", "BOOTING", "DRAINING", "TERMINATING", "BOOT_FAILED"}
)
#: Nodes that are asked one by one, at most; seconds for each.
ASKED, NODE_TIMEOUT = 40, 1.0
#: Seconds for an answer of the coordinator, and for the broker to let us in.
ANSWER_WITHIN, CONNECT_WITHIN = 8.0, 4.0


@dataclass(frozen=True)
class Place:
    """What is looked at: a booted run, or a system of which only the accounts are known."""

    name: str
    run: Run | None = None
    system: RunningSystem | None = None
    no_system: str = ""

    @property
    def state_dir(self) -> Path | None:
        """The coordinator's directory, where it is on this machine."""
        found = state_dir_of(self.run) if self.run is not None else None
        return found if found is not None and found.is_dir() else None

    @property
    def ended(self) -> bool:
        return self.run is not None and self.run.info.terminated_at is not None

    def client(self) -> RpcClient | None:
        """A client of its broker; None when nobody knows of one."""
        if self.system is None:
            return None
        return RpcClient(
            self.system.amqp_url(), timeout=ANSWER_WITHIN, connect_within=CONNECT_WITHIN
        )


def place_of(name: str) -> Place:
    """The booted run called ``name``, at any stage of its life. Raises NoSuchRun."""
    run = open_run(name)
    try:
        system = system_of(run)
        system.access()  # where the accounts are lost, nobody can be asked either
        return Place(name, run, system)
    except (NoCoordinator, NoSuchRun) as problem:
        return Place(name, run, None, str(problem))


def look(place: Place) -> Evidence:
    """Everything that can be seen of it now. Never raises for what is broken there."""
    client = place.client()
    try:
        seen = _ask_all(client.call) if client is not None else {}
        seen |= _list_all(place, client.call if client and "broker_problem" not in seen else None)
    finally:
        if client is not None:
            client.close()
    if place.system is None and not place.ended:
        seen["silence"] = place.no_system
    here = place.state_dir
    if not seen.get("vitals") and here is not None:
        seen["vitals"] = (vitals_of(vitals(here, time.time()), (), None),)
    return Evidence(
        run=place.name,
        ended=place.ended,
        half_torn_down=_half_torn_down(place.run),
        broker_directory=_broker_directory(place),
        coordinator_directory=str(here or ""),
        coordinator_runs=_coordinator_runs(here) if not place.ended else None,
        disk_here=_disk(place.run.directory if place.run else Path.cwd()),
        **seen,
    )


def _ask_all(call: Call) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    try:
        seen["status"] = ask(call, "management", "status", timeout=ANSWER_WITHIN)
    except BrokerUnreachable as problem:
        return {"broker_problem": str(problem)}
    except (CallFailed, EpuError) as problem:
        seen["silence"] = str(problem)
    _ask_nodes(call, seen)
    return seen


def _list_all(place: Place, call: Call | None) -> dict[str, Any]:
    """What the clouds list, between two looks at the records: neither was asked too early."""
    if place.run is None:
        return {}
    before = _records(call) if call is not None else None
    listing = clouds_of(place.run, call)
    after = _records(call) if call is not None else None
    seen: dict[str, Any] = {
        "listed": {machine.node_id: machine.cloud for machine in listing.machines},
        "unlisted": listing.problems,
    }
    # A coordinator on a machine of its own lists clouds that are not known here.
    if before is not None and after is not None and place.state_dir is not None:
        steady = {node for node, state in before.items() if state in ("RUNNING", "DRAINING")}
        seen["known"] = frozenset(steady & set(after))
        seen["ever"] = frozenset({*before, *after})
    return seen


def _records(call: Call) -> dict[str, str] | None:
    """Node id → state of the records that are not at their end; of adopted ones none."""
    try:
        found = ask(call, "provisioner", "live_nodes", timeout=3.0)
        adopted = set(ask(call, "provisioner", "progress", timeout=3.0).get("adopted") or ())
    except (CallFailed, EpuError):
        return None
    return {n["node_id"]: n["state"] for n in found if n["node_id"] not in adopted}


def _ask_nodes(call: Call, seen: dict[str, Any]) -> None:
    """Clocks and disks of the coordinator's machine and of nodes, and who is late."""
    seen["vitals"] = ask_machines(call)
    try:
        nodes = ask(call, "management", "nodes", timeout=ANSWER_WITHIN)["nodes"]
    except (CallFailed, EpuError):
        return
    late = [node for node in nodes if node["state"] in _ON_THE_WAY and node["state_age"] > 60]
    documents = []
    for node in late[:ASKED]:
        try:
            documents.append(ask(call, "management", "node", node["node_id"], timeout=3.0))
        except (CallFailed, EpuError):
            continue
    seen["late"] = tuple(documents)
    signs = {}
    for node in [node for node in nodes if node["state"] == "RUNNING"][:ASKED]:
        try:
            began = time.time()
            service = agent_service(node["node_id"])
            beat = ask(call, service, "beat_now", timeout=NODE_TIMEOUT)
        except (CallFailed, EpuError):
            continue  # health is the controller's to judge
        signs[node["node_id"]] = NodeSigns(
            ahead=float(beat["sent_at"]) - (began + time.time()) / 2,
            disk_percent=(beat.get("figures") or {}).get("disk_percent"),
        )
    seen["nodes"] = signs


def ask_machines(call: Call) -> tuple[Vitals, ...]:
    """How each machine is that has parts of the coordinator; who is silent is told elsewhere."""
    told: dict[tuple[str, str], tuple[list[str], Vitals]] = {}
    deadline = time.monotonic() + ANSWER_WITHIN
    dedicated = dedicated_pools(call)
    for service in ("management", "provisioner", *controllers(dedicated), SENSORS, "registrar"):
        began, left = time.time(), deadline - time.monotonic()
        if left <= 0:
            break
        try:
            one = ask(call, service, "vitals", timeout=min(left, 1.5))
        except (CallFailed, EpuError):
            continue
        found = vitals_of(one, (), (began + time.time()) / 2)
        told.setdefault((found.host, str(one.get("directory"))), ([], found))[0].append(service)
    return tuple(replace(one, services=tuple(names)) for names, one in told.values())


def vitals_of(told: Mapping[str, Any], services: tuple[str, ...], here: float | None) -> Vitals:
    """``told`` by ``coordinator.vitals``; ``here``: our clock then, None on one machine."""
    return Vitals(
        host=str(told.get("host", "")),
        services=services,
        ahead=None if here is None else float(told["now"]) - here,
        free=int(told["free"]),
        total=int(told["total"]),
        restarts={name: Restarts(**each) for name, each in told["restarts"].items()},
    )


def _half_torn_down(run: Run | None) -> bool:
    if run is None:
        return False
    try:
        steps = json.loads((run.directory / "teardown.json").read_text())["steps"]
    except (OSError, ValueError, KeyError):
        return False
    return "receipt" not in steps


def _broker_directory(place: Place) -> str:
    """Where the run's private broker lives, if it is one of this machine's."""
    from mgmt.broker_files import BrokerFiles

    if place.system is None or place.system.accounts is None:
        return ""
    directory = place.system.accounts.parent
    return str(directory) if BrokerFiles(directory).identity.is_file() else ""


def _coordinator_runs(state_dir: Path | None) -> bool | None:
    from mgmt.serve_processes import supervisord_of

    if state_dir is None or not (state_dir / "supervisord.conf").is_file():
        return None
    return supervisord_of(state_dir) is not None


def _disk(directory: Path) -> tuple[int, int] | None:
    try:
        found = shutil.disk_usage(directory)
    except OSError:
        return None
    return found.free, found.total
