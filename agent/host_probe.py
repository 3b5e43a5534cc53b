"""The machine's own figures, by psutil. Cheap: no waiting, no process listing."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import psutil


class HostProbe:
    """Reads the figures that ride in each heartbeat."""

    def __init__(self, directory: Path) -> None:
        self._directory = str(directory)
        self._agent = psutil.Process()
        # The first reading of a difference has nothing to differ from.
        psutil.cpu_percent(interval=None)
        self._agent.cpu_percent(interval=None)

    def figures(self) -> dict[str, float]:
        """Figures by name.

        ``load1``: run queue, 1 min; ``cpu_percent``, ``memory_percent``, ``disk_percent``
        (of the node's directory): of the machine, 0-100; ``memory_available``,
        ``agent_rss``: bytes; ``agent_cpu_percent``: of one core since the last reading.
        A figure that can't be read is left out.
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
        return found
