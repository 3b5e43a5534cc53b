"""The addresses of controllers and sensors services. PURE.

One controller and one sensors service keep all pools, unless a pool has its own: then these
are ``controller-<pool>`` and ``sensors-<pool>``, which know no other pool.
"""

from __future__ import annotations

from collections.abc import Iterable

CONTROLLER = "controller"
SENSORS = "sensors"


def controller_name(pool: str = "") -> str:
    """The nameko service name of a pool's own controller; of the shared one for ""."""
    return f"{CONTROLLER}-{pool}" if pool else CONTROLLER


def sensors_name(pool: str = "") -> str:
    """The nameko service name of a pool's own sensors service; of the shared one for ""."""
    return f"{SENSORS}-{pool}" if pool else SENSORS


def pool_of(keeper: str) -> str:
    """The pool that a controller or sensors service is dedicated to; "" for a shared one."""
    for shared in (CONTROLLER, SENSORS):
        if keeper.startswith(f"{shared}-"):
            return keeper.removeprefix(f"{shared}-")
    return ""


def is_controller(name: str) -> bool:
    """Whether a service of this name is a controller."""
    return name == controller_name(pool_of(name))


def is_sensors(name: str) -> bool:
    """Whether a service of this name is a sensors service."""
    return name == sensors_name(pool_of(name))


def controllers(dedicated: Iterable[str]) -> tuple[str, ...]:
    """The names of all controllers; ``dedicated``: pools that have their own.

    The shared one is among them though there may be none where every pool has its own.
    """
    return (CONTROLLER, *(controller_name(pool) for pool in sorted(dedicated)))
