"""How long a person waits: ``epu --help``, and ``epu pools`` on 100 pools of 100 nodes.

``python -m benchmarks.commands [--pools N] [--nodes N] [--json]``. Broker, coordinator and
commands are the real ones, and all pools are decided about each second meanwhile; machines
are those of the cloud ``in_memory``, which never come to run. Exit code 1 when an aim is
missed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agent.rpc_client import CallFailed, RpcClient
from benchmarks.boot_tool import Figure
from benchmarks.ec2_fleet import say, until
from coordinator.config import CoordinatorConfig
from mgmt import serve
from mgmt.broker import start_broker, stop_broker

RUN = "large"
TRIES = 7
#: Seconds: for help, and for an answer of a large system.
HELP_AIM, ANSWER_AIM = 0.3, 1.0
#: Seconds within which all machines are launched.
LAUNCHED_WITHIN = 600.0


def main() -> int:
    """Measure and print; 1 when an aim is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pools", type=int, default=100, help="how many pools")
    parser.add_argument("--nodes", type=int, default=100, help="how many nodes each has")
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    options = parser.parse_args()
    # Whoever ends this wants no broker and no coordinator to stay behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    figures = [timed("--help", aim=HELP_AIM)]
    with tempfile.TemporaryDirectory(prefix="epu-commands-") as directory:
        figures += of_large_system(Path(directory), options.pools, options.nodes)
    if options.json:
        print(json.dumps([asdict(figure) for figure in figures], indent=2))
    else:
        print(*figures, sep="\n")
    return 0 if all(figure.met for figure in figures) else 1


def of_large_system(place: Path, pools: int, nodes: int) -> list[Figure]:
    """What commands on it take."""
    access = start_broker(place / "broker", RUN, timeout=120)
    accounts, state_dir = place / "broker" / "accounts.json", place / "coordinator"
    config = CoordinatorConfig(
        run=RUN,
        accounts=str(accounts),
        state_dir=str(state_dir),
        clouds={"here": {"driver": "in_memory", "lag": "0"}},
    )
    try:
        serve.start(config)
        until("every service answers", 120, lambda: not any(serve.check(state_dir).values()))
        with RpcClient(access.amqp_url("coordinator")) as client:
            fill(client, pools, nodes)
        named = ("--accounts", str(accounts))
        note = f"{pools} pools of {nodes} nodes"
        return [
            timed("pools", *named, aim=ANSWER_AIM, note=note),
            timed("pools", "--json", *named, aim=ANSWER_AIM, note=note),
            timed("pool", "show", "pool-000", *named, aim=ANSWER_AIM, note=note),
            timed("nodes", "--pool", "pool-000", *named, note=note),
            timed("nodes", *named, note=note),
        ]
    finally:
        serve.stop(state_dir)
        stop_broker(place / "broker")


def fill(client: RpcClient, pools: int, nodes: int) -> None:
    """Have all pools kept, and all of their machines launched."""
    patient = {"boot_timeout": 3600, "launch_timeout": 3600}
    section = {
        "engine": {"type": "n_preserving", "preserve_n": nodes},
        "max": 2 * nodes,
        "health": patient,
    }
    for number in range(pools):
        asked(client, "controller", "add_pool", f"pool-{number:03}", section)
    wanted = pools * nodes

    def booting() -> int:
        return int(asked(client, "provisioner", "status")["states"].get("BOOTING", 0))

    until(f"{wanted} nodes boot", LAUNCHED_WITHIN, lambda: booting() >= wanted, pause=2.0)
    say(f"{wanted} nodes boot, load {os.getloadavg()[0]:.1f}")


def asked(client: RpcClient, service: str, method: str, *args: Any) -> Any:
    """An answer, waited for as long as a coordinator with so much to do may take."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return client.call(service, method, *args, timeout=20.0)
        except CallFailed:
            if time.monotonic() > deadline:
                raise


def children_seconds() -> float:
    """CPU time of all commands so far, s."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def timed(*words: str, aim: float | None = None, note: str = "") -> Figure:
    """The median time of a command, s; beside it its single times and its own CPU time."""
    times: list[float] = []
    used = children_seconds()
    for _ in range(TRIES):
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "mgmt.cli", *words],
            stdout=subprocess.DEVNULL,
            check=False,
            timeout=60,
        )
        took = time.monotonic() - began
        times.append(took if done.returncode == 0 else float("inf"))
    shown = [word for word in words if not word.startswith("/") and word != "--accounts"]
    cpu = (children_seconds() - used) / TRIES
    spread = f"{min(times):.2f} to {max(times):.2f}, {cpu:.2f} s of CPU"
    spread += f", load {os.getloadavg()[0]:.1f}"
    notes = ", ".join(filter(None, (note, spread)))
    figure = Figure(f"epu {' '.join(shown)}, median", statistics.median(times), "s", aim, notes)
    say(str(figure))
    return figure


if __name__ == "__main__":
    sys.exit(main())
