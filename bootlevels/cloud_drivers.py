"""The drivers of a plan's clouds, made once each, and their listings, shared by all who ask."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from coordinator.clouds.agent_settings import split_settings
from coordinator.clouds.base import CloudDriver, CloudInstance
from coordinator.errors import ConfigProblem, Problem, did_you_mean
from coordinator.plugins import find_plugin


@dataclass
class _Listed:
    lock: Lock = field(default_factory=Lock)
    began: float = float("-inf")
    instances: Sequence[CloudInstance] = ()


class CloudDrivers:
    """``settings`` gives a cloud's settings by its name in the plan, secrets resolved.

    What drivers keep on this machine is below ``directory``. ``drivers`` are there already
    (a test's, or another program's). Safe for threads.
    """

    def __init__(
        self,
        settings: Callable[[str], Mapping[str, str]],
        directory: Path,
        drivers: Mapping[str, CloudDriver] | None = None,
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._drivers = dict(drivers or {})
        self._listed: dict[tuple[str, str], _Listed] = {}
        self._lock = Lock()

    def driver(self, name: str) -> CloudDriver:
        """The driver of cloud ``name``. Raises ConfigProblem."""
        with self._lock:
            if name not in self._drivers:
                settings, _ = split_settings(self._settings(name), f"clouds.{name}")
                kind = driver_class(name, settings)
                settings.pop("driver")
                self._drivers[name] = kind.from_settings(settings, self._directory / name)
            return self._drivers[name]

    def agent_variables(self, name: str) -> dict[str, str]:
        """How machines of cloud ``name`` come by their agent. Raises ConfigProblem."""
        return split_settings(self._settings(name), f"clouds.{name}")[1].variables()

    def instances(self, name: str, run: str, since: float) -> Sequence[CloudInstance]:
        """What cloud ``name`` lists of ``run``, asked at ``since`` (``time.monotonic``) or later.

        Many who wait for machines of one cloud at the same time ask it once. Raises what
        drivers raise.
        """
        driver = self.driver(name)
        with self._lock:
            listed = self._listed.setdefault((name, run), _Listed())
        with listed.lock:
            if listed.began < since:
                began = time.monotonic()
                listed.instances = driver.list_instances(run)
                listed.began = began
            return listed.instances


def driver_class(name: str, settings: Mapping[str, str]) -> Any:
    """The driver class of cloud ``name``. Raises ConfigProblem."""
    driver = settings.get("driver")
    if driver is None:
        raise ConfigProblem([Problem(key=f"clouds.{name}.driver", what="is missing")])
    return find_plugin("epu.clouds", driver, f"clouds.{name}.driver")


def settings_of(clouds: Mapping[str, Mapping[str, str]], name: str) -> Mapping[str, str]:
    """The settings of cloud ``name``. Raises ConfigProblem with the nearest known name."""
    if name not in clouds:
        remedy = did_you_mean(name, clouds)
        raise ConfigProblem(
            [Problem(key=f"clouds.{name}", what="there is no such cloud", remedy=remedy)]
        )
    return clouds[name]
