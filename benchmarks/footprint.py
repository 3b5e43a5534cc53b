"""What an idle system of three workers costs, and how soon it notices a lost one.

``python -m benchmarks.footprint [--seconds 30]``. Boots the sample plan in a temporary
directory, lets it rest, and measures resident memory and processor time of every process;
then kills a node and stops another, and reads the reaction times from the events. Machines
are noisy: processor time is also given as a ratio to a loop that only counts, measured in
the same run, and the start of ``epu --help`` beside that of an empty Python.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import psutil

from agent.rpc_client import RpcClient
from coordinator.clouds.process import continue_machine, kill_machine, stop_machine
from coordinator.config import cloud_directory, read_access

RUN, POOL, WORKERS = "footprint", "epu-sleeper", 3

#: Part of a command line → the row of the table that the process belongs to.
KINDS = {
    "coordinator.provisioner.service": "coordinator: provisioner",
    "coordinator.controller.service": "coordinator: controller",
    "coordinator.sensors.service": "coordinator: sensors",
    "coordinator.registrar.service": "coordinator: registrar",
    "mgmt.service": "coordinator: management",
    "coordinator.clouds.host": "coordinator: cloud host",
    "agent.service": "agents",
    "plans.sleeper.worker": "workers",
    "supervisor.supervisord": "supervisords",
    "beam.smp": "broker",
    "erl_child_setup": "broker",
    "inet_gethost": "broker",
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0, help="how long to watch it idle")
    options = parser.parse_args()
    print_start_times()
    with tempfile.TemporaryDirectory(prefix="epu-bench-") as home:
        os.environ["EPU_HOME"] = home
        try:
            epu("boot", "sleeper", "-n", RUN)
            epu("pool", "set-n", POOL, str(WORKERS), "--run", RUN)
            epu("wait", POOL, "--state", "STABLE", "--timeout", "60", "--run", RUN)
            run_dir = Path(home) / "runs" / RUN
            print_footprint(str(run_dir), options.seconds)
            print_agents(str(run_dir), options.seconds)
            print_reactions(run_dir)
        finally:
            epu("teardown", RUN, "--now")


def epu(*words: str) -> str:
    """The output of an ``epu`` command; its failure ends the measurement."""
    done = subprocess.run(
        [sys.executable, "-m", "mgmt.cli", *words], capture_output=True, text=True, timeout=300
    )
    if done.returncode != 0:
        sys.exit(f"epu {' '.join(words)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def print_start_times() -> None:
    """``epu --help`` beside an empty Python: the best of five each."""

    def best(*words: str) -> float:
        times = []
        for _ in range(5):
            began = time.perf_counter()
            subprocess.run([sys.executable, *words], capture_output=True, check=True)
            times.append(time.perf_counter() - began)
        return min(times)

    empty, helped = best("-c", "pass"), best("-m", "mgmt.cli", "--help")
    print(f"epu --help: {helped:.2f} s, {helped / empty:.1f} times an empty Python ({empty:.2f} s)")


def processes(mark: str) -> dict[psutil.Process, str]:
    """Every process of the run, recognised by its command line or environment, with its row."""
    found = {}
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
            known = mark in command or any(mark in v for v in process.environ().values())
            row = next((row for part, row in KINDS.items() if part in command), None)
            if known and row is not None and process.pid != os.getpid():
                found[process] = row
        except psutil.Error:
            continue
    return found


def print_footprint(mark: str, seconds: float) -> None:
    """Memory and processor time by kind of process, at rest."""
    watched = processes(mark)
    began = time.monotonic()
    before = {process: sum(process.cpu_times()[:2]) for process in watched}
    time.sleep(seconds)
    elapsed = time.monotonic() - began
    rows: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for process, row in watched.items():
        used = sum(process.cpu_times()[:2]) - before[process]
        rows[row].append((process.memory_info().rss / 1e6, 100 * used / elapsed))
    print(f"\nat rest with {WORKERS} workers, over {elapsed:.0f} s")
    print(f"{'processes':28} {'number':>6} {'MB each':>9} {'MB':>7} {'% of a core':>12}")
    for row in sorted(rows):
        memory = [one[0] for one in rows[row]]
        print(
            f"{row:28} {len(memory):>6} {max(memory):>9.1f} {sum(memory):>7.1f}"
            f" {sum(one[1] for one in rows[row]):>12.2f}"
        )
    own = [one for row, ones in rows.items() if row.startswith("coordinator") for one in ones]
    counted = [one for row, ones in rows.items() if row not in ("broker", "supervisords")
               for one in ones]  # fmt: skip
    print(f"coordinator, all processes: {sum(one[0] for one in own):.0f} MB (bound: 400)")
    idle = sum(one[1] for one in counted)
    print(f"without broker and supervisords: {idle:.1f} % of a core (bound: 10)")
    print(f"the same as a share of a busy loop beside it: {idle / 100 / busy_share():.3f}")


def print_agents(mark: str, seconds: float) -> None:
    """What an agent costs at the default interval of 10 s (the sample plan beats more often)."""
    for words in (("reconfigure", POOL, "heartbeat_interval=10"), ("set-n", POOL, "0")):
        epu("pool", *words, "--run", RUN)
    epu("wait", POOL, "--state", "STABLE", "--timeout", "60", "--run", RUN)
    epu("pool", "set-n", POOL, str(WORKERS), "--run", RUN)
    epu("wait", POOL, "--state", "STABLE", "--timeout", "60", "--run", RUN)
    agents = [process for process, row in processes(mark).items() if row == "agents"]
    before = [sum(process.cpu_times()[:2]) for process in agents]
    began = time.monotonic()
    time.sleep(seconds)
    elapsed = time.monotonic() - began
    used = [sum(process.cpu_times()[:2]) for process in agents]
    shares = [100 * (after - then) / elapsed for then, after in zip(before, used, strict=True)]
    memory = max(process.memory_info().rss for process in agents) / 1e6
    print(
        f"an agent at a 10 s interval: {memory:.0f} MB (bound: 70), "
        f"{max(shares):.2f} % of a core (bound: 0.5)"
    )


def busy_share() -> float:
    """Which part of a core a loop that only counts gets here and now."""
    began, used = time.monotonic(), time.process_time()
    while time.monotonic() - began < 1.0:
        pass
    return (time.process_time() - used) / (time.monotonic() - began)


def print_reactions(run_dir: Path) -> None:
    """Seconds from a fault to when it is noticed and to the launch of the replacement.

    Noticed is the first thing that anybody says of the node: that it is OUT_OF_CONTACT, or
    already that its cloud lists it no more. All from the components' events.
    """
    access = read_access(run_dir / "broker" / "accounts.json")
    machines = cloud_directory(run_dir / "coordinator", "here")
    with RpcClient(access.amqp_url("coordinator")) as client:

        def launches() -> list[dict[str, Any]]:
            answer = client.call("provisioner", "events", 0, 5000)
            return [event for event in answer if event["name"] == "new_launch"]

        def running() -> list[str]:
            nodes = client.call("controller", "pool", POOL)["instances"]
            return [one["node_id"] for one in nodes if one["state"] == "RUNNING"]

        def noticed_after(victim: str, at: float) -> float:
            told = [
                event
                for component in ("controller", "provisioner")
                for event in client.call(component, "events", 0, 5000)
                if event["node"] == victim and event["time"] >= at
            ]
            first = min(told, key=lambda event: float(event["time"]), default=None)
            if first is None:
                return float("nan")
            what = first.get("extra", {}).get("health") or first["name"]
            print(f"  {victim}: {what} after {first['time'] - at:.2f} s")
            return float(first["time"]) - at

        def launched_after(fault: Any, timeout: float) -> float:
            known, at = len(launches()), time.time()
            fault()
            deadline = time.monotonic() + timeout
            while len(launches()) == known:
                if time.monotonic() > deadline:
                    return float("nan")
                time.sleep(0.1)
            return float(launches()[known]["time"]) - at

        times, noticed = [], []
        print()
        for _ in range(3):
            victim, at = running()[0], time.time()
            times.append(launched_after(lambda v=victim: kill_machine(machines, v), 30))
            noticed.append(noticed_after(victim, at))
            epu("wait", POOL, "--state", "STABLE", "--timeout", "60", "--run", RUN)
        shown = ", ".join(f"{one:.2f}" for one in noticed)
        print(f"node killed (SIGKILL) -> noticed: {shown} s (bound: 1)")
        shown = ", ".join(f"{one:.1f}" for one in times)
        print(f"node killed (SIGKILL) -> replacement launched: {shown} s (bound: 5)")
        settings = {"health.missing_timeout": 10, "health.really_missing_timeout": 5}
        client.call("controller", "reconfigure", POOL, settings)
        victim = running()[0]
        silent = launched_after(lambda: stop_machine(machines, victim), 60)
        print(f"node silent (SIGSTOP) -> replacement launched: {silent:.1f} s (bound: 10 + 5 + 1)")
        if victim in running():
            continue_machine(machines, victim)
    print(json.dumps({"noticed": noticed, "killed": times, "silent": silent}))


if __name__ == "__main__":
    main()
