"""The machine's own figures, by psutil. Cheap: no waiting, no process listing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from agent.messages import ProcessState

#: Processes whose figures ride in a beat.
MAX_PROGRAMS = 32


class HostProbe:
    """Reads the figures that ride in each heartbeat."""

    def __init__(self, directory: Path) -> None:
        self._directory = str(directory)
        self._agent = psutil.Process()
        self._processes: dict[int, psutil.Process] = {}
        self._traffic: tuple[float, Any] | None = None
        # The first reading of a difference has nothing to differ from.
        psutil.cpu_percent(interval=None)
        self._agent.cpu_percent(interval=None)

    def figures(self, programs: Iterable[ProcessState] = ()) -> dict[str, float]:
        """Figures by name.

        ``load1``: run queue, 1 min; ``cpu_percent``, ``memory_percent``, ``disk_percent``
        (of the node's directory): of the machine, 0-100; ``memory_available``,
        ``agent_rss``: bytes; ``network_sent``, ``network_received``: bytes per second of all
        interfaces but the loopback; ``agent_cpu_percent``: of one core since the last reading.
        For each running process of ``programs``: ``program.<name>.rss``, bytes, and
        ``program.<name>.cpu_percent``, of one core, of the process itself. A figure that can't
        be read, or whose first reading this is, is left out.
        """
        memory = psutil.virtual_memory()
        found = {
            "load1": os.getloadavg()[0],
            "cpu_percent": psutil.cpu_percent(interval=None),
            "memory_percent": memory.percent,
            "memory_available": float(memory.available),
            "agent_rss": float(self._agent.memory_info().rss),
            "agent_cpu_percent": self._agent.cpu_percent(interval=None),
        }
        with suppress(OSError):
            found["disk_percent"] = psutil.disk_usage(self._directory).percent
        found.update(self._network())
        found.update(self._programs(programs))
        return found

    def _network(self) -> dict[str, float]:
        """Rates since the last reading. Interfaces come and go: only those seen twice count."""
        with suppress(OSError):
            now, counters = time.monotonic(), psutil.net_io_counters(pernic=True)
            before, self._traffic = self._traffic, (now, counters)
            if before is None or now <= before[0]:
                return {}
            both = [name for name in counters if name in before[1] and name != "lo"]
            return {
                figure: sum(
                    max(0, getattr(counters[name], field) - getattr(before[1][name], field))
                    for name in both
                )
                / (now - before[0])
                for figure, field in (
                    ("network_sent", "bytes_sent"),
                    ("network_received", "bytes_recv"),
                )
            }
        return {}

    def _programs(self, programs: Iterable[ProcessState]) -> dict[str, float]:
        found: dict[str, float] = {}
        known: dict[int, psutil.Process] = {}
        for one in list(programs)[:MAX_PROGRAMS]:
            if one.pid <= 0:
                continue
            with suppress(psutil.Error, OSError):
                process = self._processes.get(one.pid)
                if process is None or not process.is_running():
                    process = psutil.Process(one.pid)
                    process.cpu_percent(interval=None)
                else:
                    found[f"program.{one.name}.cpu_percent"] = process.cpu_percent(interval=None)
                known[one.pid] = process
                found[f"program.{one.name}.rss"] = float(process.memory_info().rss)
        self._processes = known
        return found
