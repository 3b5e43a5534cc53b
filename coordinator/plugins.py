"""From a name to a cloud, engine or sensor class: alias, entry point, or import path."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from coordinator.errors import ConfigProblem, Problem, did_you_mean

#: Built-in names. Import paths rather than classes, so that a driver's library is loaded
#: only by the process that uses it.
ALIASES: dict[str, dict[str, str]] = {
    "epu.clouds": {
        "process": "coordinator.clouds.process:ProcessCloud",
        "container": "coordinator.clouds.container:ContainerCloud",
        "qemu": "coordinator.clouds.qemu:QemuCloud",
        "ec2": "coordinator.clouds.ec2:Ec2Cloud",
        "libcloud": "coordinator.clouds.libcloud:LibcloudCloud",
        "in_memory": "coordinator.clouds.in_memory:InMemoryCloud",
    },
    "epu.engines": {
        "n_preserving": "coordinator.engines.n_preserving:NPreserving",
        "npreserving": "coordinator.engines.n_preserving:NPreserving",
        "queue_length": "coordinator.engines.queue_length:QueueLength",
        "queuelen": "coordinator.engines.queue_length:QueueLength",
        "target_tracking": "coordinator.engines.target_tracking:TargetTracking",
        "time_to_drain": "coordinator.engines.time_to_drain:TimeToDrain",
        "sensor_threshold": "coordinator.engines.sensor_threshold:SensorThreshold",
        "combined": "coordinator.engines.combined:Combined",
    },
    "epu.sensors": {
        "queue_length": "coordinator.sensors.queue_length:QueueLengthSensor",
    },
}


def find_plugin(group: str, name: str, key: str = "") -> Any:
    """The class called ``name`` in ``group`` (``epu.clouds``, ``epu.engines``, ``epu.sensors``).

    ``name`` is an alias, the name of an installed entry point, or
    ``package.module:Class``. Raises ConfigProblem naming ``key`` and the nearest known
    name.
    """
    aliases = ALIASES[group]
    if name in aliases:
        return _import(aliases[name], key)
    # Imported here: it costs a driver's host process 3 MB, and built-in names don't need it.
    from importlib.metadata import entry_points

    installed = {point.name: point for point in entry_points(group=group)}
    if name in installed:
        try:
            return installed[name].load()
        except Exception as problem:
            raise ConfigProblem(
                [Problem(key=key, what=f"plugin '{name}' can't be loaded: {problem}")]
            ) from problem
    if ":" in name:
        return _import(name, key)
    kind = group.removeprefix("epu.").removesuffix("s")
    raise ConfigProblem(
        [
            Problem(
                key=key,
                what=f"unknown {kind} '{name}'",
                remedy=did_you_mean(name, {*aliases, *installed}),
            )
        ]
    )


def is_foreign(group: str, name: str) -> bool:
    """Whether ``name`` would import a module that is not ours. A name that nothing has would not.

    The packages of this group that are ours are safe to import: nothing happens there.
    """
    if name in ALIASES[group]:
        return False
    if ":" in name:
        return not name.startswith(f"coordinator.{group.removeprefix('epu.')}.")
    from importlib.metadata import entry_points

    return any(point.name == name for point in entry_points(group=group))


def _import(path: str, key: str) -> Any:
    module_name, _, attribute = path.partition(":")
    try:
        return getattr(import_module(module_name), attribute)
    except Exception as problem:  # anybody's module may raise anything as it is imported
        raise ConfigProblem(
            [
                Problem(
                    key=key,
                    what=f"'{path}' can't be imported: {problem}",
                    remedy="write package.module:Class of something on Python's path",
                )
            ]
        ) from problem
