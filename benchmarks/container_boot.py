"""How long a machine of the container cloud takes from the launch call to its user-data's end.

``python -m benchmarks.container_boot [--times N] [--ready] [--json]``, as root, with
cloud-init. The parts are medians: the launch call (the machine's disk, its namespaces and its
overlay are made in it), cloud-init's loading and each of its stages, and the whole. Exit code
1 when an aim is missed. ``--ready``: the whole way instead, until the agent is RUNNING, with a
broker and a coordinator of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from agent.rpc_client import RpcClient
from benchmarks.boot_tool import Figure
from coordinator.clouds.container import ContainerCloud
from coordinator.clouds.process_table import ProcessTable, is_first_of_its_machine
from coordinator.config import CoordinatorConfig
from coordinator.testing import eventually, make_request
from mgmt import serve
from mgmt.broker import start_broker, stop_broker

#: Seconds for the whole without an agent, which takes the rest of the 8 s that a node may take.
AIM = 4.0
#: Seconds from the launch call until the agent is RUNNING.
READY_AIM = 8.0
USER_DATA = """\
#cloud-config
write_files:
- {path: /etc/epu/agent.json, permissions: "0600", content: "{}"}
runcmd:
- [touch, /var/lib/booted]
"""
READY = "launch call → agent RUNNING"
AIMS = {"launch call → user-data done": AIM, READY: READY_AIM}
_LINE = re.compile(r"^\[ *([\d.]+)\] epu init: (.*)$", re.MULTILINE)
_TOOK = re.compile(r"(?P<part>cloud-init .*?)(?: in |: )(?P<seconds>[\d.]+) s")


def measure(cloud: ContainerCloud, number: int) -> dict[str, float]:
    """Boot one machine and end it; part → seconds."""
    launch_id = f"bench-{os.getpid()}-{number}"
    began = time.monotonic()
    cloud.launch(make_request(launch_id, run="bench", user_data=USER_DATA))
    parts = {"launch call": time.monotonic() - began}
    [machine] = cloud.list_instances("bench", [launch_id])

    def console() -> str:
        return cloud.console_output(machine.cloud_id) or ""

    try:
        eventually(lambda: "epu init: the boot " in console(), timeout=120, pause=0.005)
        parts["launch call → user-data done"] = time.monotonic() - began
        parts |= cloud_init_parts(console())
        parts["processor time of the boot"] = processor_time(machine.cloud_id)
        began = time.monotonic()
    finally:
        cloud.terminate([machine.cloud_id])
    parts["terminate call"] = time.monotonic() - began
    return parts


def cloud_init_parts(console: str) -> dict[str, float]:
    """What the machine's init says that cloud-init took, part → seconds."""
    told = [_TOOK.match(what) for _, what in _LINE.findall(console)]
    return {found["part"]: float(found["seconds"]) for found in told if found}


def measure_ready(place: Path, times: int) -> list[dict[str, float]]:
    """Boot ``times`` workers, one after the other, in a system of their own; part → seconds."""
    state = place / "coordinator"
    access = start_broker(place / "broker", "bench", timeout=120)
    config = CoordinatorConfig(
        run="bench",
        accounts=str(place / "broker" / "accounts.json"),
        state_dir=str(state),
        clouds={"here": {"driver": "container", "agent": "configure"}},
    )
    try:
        serve.start(config)
        eventually(lambda: not any(serve.check(state).values()), timeout=120, pause=0.5)
        with RpcClient(access.amqp_url("coordinator"), timeout=30.0) as client:
            try:
                return [one_ready(client, state, f"boot-{number}") for number in range(times)]
            finally:
                client.call("provisioner", "terminate_all", True)
                eventually(
                    lambda: client.call("provisioner", "progress")["done"], timeout=120, pause=0.5
                )
    finally:
        serve.stop(state)
        stop_broker(place / "broker")


def one_ready(client: RpcClient, state: Path, pool: str) -> dict[str, float]:
    """One worker, from the call that launches it; part → seconds, by the provisioner's clock."""
    engine = {"type": "n_preserving", "preserve_n": 1}
    client.call("controller", "add_pool", pool, {"engine": engine})

    def running() -> list[dict[str, str]]:
        nodes = client.call("provisioner", "live_nodes")
        return [one for one in nodes if one["pool"] == pool and one["state"] == "RUNNING"]

    eventually(running, timeout=120, pause=0.2)
    node_id = running()[0]["node_id"]
    node = client.call("provisioner", "node", node_id)
    at = {line["state"]: float(line["at"]) for line in node["history"]}
    console = state / "clouds" / "here" / node_id / "logs" / "console.log"
    return {
        "launch call → listed": at["BOOTING"] - at["LAUNCHING"],
        **cloud_init_parts(console.read_text(errors="replace")),
        "launch call → enrolled": node["enrolled_at"] - at["LAUNCHING"],
        "enrolled → RUNNING": at["RUNNING"] - node["enrolled_at"],
        READY: at["RUNNING"] - at["LAUNCHING"],
    }


def processor_time(cloud_id: str) -> float:
    """Seconds of processor time that the machine's init and all it has buried took.

    Unlike the others this figure is about the same on a busy host.
    """
    mark = cloud_id.rpartition(".")[2]
    [pid] = [p.pid for p in ProcessTable().of([mark]) if is_first_of_its_machine(p.pid)]
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(ticks) for ticks in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--ready", action="store_true", help="until the agent is RUNNING")
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="epu-bench-"))
    try:
        cloud = ContainerCloud.from_settings({}, place / "machines")
        if options.ready:
            found = measure_ready(place, options.times)
        else:
            found = [measure(cloud, number) for number in range(options.times)]
    finally:
        shutil.rmtree(place)
    figures = [
        Figure(name, statistics.median(one[name] for one in found), "s", AIMS.get(name))
        for name in found[0]
    ]
    if options.json:
        print(json.dumps({figure.name: figure.value for figure in figures}, indent=1))
    else:
        load = os.getloadavg()[0]
        print(f"medians of {options.times} boots; load {load:.1f} on {os.cpu_count()} cores")
        for figure in figures:
            print(figure)
    return 0 if all(figure.met for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
