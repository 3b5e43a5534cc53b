"""Asking the clouds of a run directly, without its coordinator."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from coordinator.clouds.agent_settings import driver_settings
from coordinator.clouds.base import CloudDriver, MachineState
from coordinator.config import cloud_directory
from coordinator.errors import EpuError
from coordinator.plugins import find_plugin
from mgmt.teardown_record import Listing, Machine


def worker_clouds(state_dir: Path) -> dict[str, dict[str, str]] | None:
    """The clouds in a coordinator's ``config.yaml``, settings by name; None without a file."""
    import yaml

    try:
        found = yaml.safe_load((state_dir / "config.yaml").read_text())
    except FileNotFoundError:
        return None
    return {name: dict(settings) for name, settings in found["epu"]["clouds"].items()}


def list_run(clouds: Mapping[str, Mapping[str, str]], run: str, state_dir: Path) -> Listing:
    """Every machine that any of ``clouds`` lists with the tag of ``run``.

    A cloud that can't be asked is a problem in the answer, never an empty list.
    """
    machines: list[Machine] = []
    problems: dict[str, str] = {}
    window = 0.0
    for name, settings in clouds.items():
        try:
            driver = open_driver(name, settings, state_dir)
            window = max(window, float(driver.consistency_window))
            listed = driver.list_instances(run)
        except EpuError as problem:
            problems[name] = str(problem) or type(problem).__name__
            continue
        except Exception as problem:
            # A plugin's own failure must not read as "nothing there" either.
            problems[name] = f"{type(problem).__name__}: {problem}"
            continue
        machines += [
            Machine(
                cloud=name,
                cloud_id=found.cloud_id,
                pool=found.pool,
                node_id=f"{found.launch_id}-{found.index}",
            )
            for found in listed
            if found.state is not MachineState.GONE
        ]
    return Listing(machines=tuple(machines), problems=problems, window=window)


def end_machines(
    clouds: Mapping[str, Mapping[str, str]], listing: Listing, state_dir: Path
) -> None:
    """Terminate what ``listing`` holds, each cloud its own; who refuses is asked no further."""
    for name, settings in clouds.items():
        mine = [machine.cloud_id for machine in listing.machines if machine.cloud == name]
        if mine:
            with suppress(EpuError):
                open_driver(name, settings, state_dir).terminate(mine)


def open_driver(name: str, settings: Mapping[str, str], state_dir: Path) -> CloudDriver:
    """The driver of one cloud as the coordinator would make it. Raises ConfigProblem."""
    own = driver_settings(settings)
    driver_class = find_plugin("epu.clouds", own.pop("driver", ""), f"clouds.{name}.driver")
    driver: CloudDriver = driver_class.from_settings(own, cloud_directory(state_dir, name))
    return driver
