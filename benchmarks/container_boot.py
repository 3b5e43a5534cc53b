"""How long a machine of the container cloud takes from the launch call to its user-data's end.

``python -m benchmarks.container_boot [--times N] [--json]``, as root, with cloud-init. The
parts are medians: the launch call (the machine's disk, its namespaces and its overlay are
made in it), cloud-init's loading and each of its stages, and the whole. Exit code 1 when an
aim is missed.
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

from benchmarks.boot_tool import Figure
from coordinator.clouds.container import ContainerCloud
from coordinator.clouds.process_table import ProcessTable, is_first_of_its_machine
from coordinator.testing import eventually, make_request

#: Seconds for the whole without an agent, which takes the rest of the 8 s that a node may take.
AIM = 4.0
USER_DATA = """\
#cloud-config
write_files:
- {path: /etc/epu/agent.json, permissions: "0600", content: "{}"}
runcmd:
- [touch, /var/lib/booted]
"""
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
        for _, what in _LINE.findall(console()):
            if found := _TOOK.match(what):
                parts[found["part"]] = float(found["seconds"])
        parts["processor time of the boot"] = processor_time(machine.cloud_id)
        began = time.monotonic()
    finally:
        cloud.terminate([machine.cloud_id])
    parts["terminate call"] = time.monotonic() - began
    return parts


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
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="epu-bench-"))
    try:
        cloud = ContainerCloud.from_settings({}, place)
        found = [measure(cloud, number) for number in range(options.times)]
    finally:
        shutil.rmtree(place)
    figures = [
        Figure(
            name, statistics.median(one[name] for one in found), "s", AIM if "→" in name else None
        )
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
