"""What ``epu doctor --fix`` does. Each repair may be repeated."""

from __future__ import annotations

import time

from coordinator.errors import EpuError
from mgmt.answers import ask
from mgmt.doctor.evidence import Action, Repair
from mgmt.doctor.look import ANSWER_WITHIN, Place
from mgmt.run_teardown import clouds_of, end_listed
from mgmt.teardown_record import Listing

#: Seconds until machines that were asked to end must not be listed any more.
END_WITHIN = 120.0
_LOOK_EVERY = 2.0


class NotRepaired(EpuError):
    """A repair was tried and did not help; the text says why."""


def perform(repair: Repair, place: Place) -> str:
    """Do it; what was done, in words. Raises EpuError, CallFailed, OSError."""
    match repair.action:
        case Action.START_BROKER:
            return _start_broker(place)
        case Action.START_COORDINATOR:
            return _start_coordinator(place)
        case Action.UNFREEZE:
            _ask(place, "management", "unfreeze")
            return "the pools' engines decide again"
        case Action.ENABLE:
            _ask(place, "provisioner", "enable")
            return "launches are enabled"
        case Action.RESUME_POOL:
            for pool in repair.subjects:
                _ask(place, "management", "resume_pool", pool)
            return f"resumed {', '.join(repair.subjects)}"
        case Action.END_MACHINES:
            return _end_machines(place, frozenset(repair.subjects))


def _ask(place: Place, service: str, method: str, *args: object) -> None:
    client = place.client()
    if client is None:
        raise NotRepaired(place.no_system)
    with client:
        ask(client.call, service, method, *args, timeout=ANSWER_WITHIN)


def _start_broker(place: Place) -> str:
    from mgmt.broker import start_broker

    assert place.system is not None and place.system.accounts is not None
    access = start_broker(place.system.accounts.parent, place.name)
    return f"the broker runs at {access.public_url}"


def _start_coordinator(place: Place) -> str:
    import yaml

    from coordinator.config import config_of
    from mgmt.serve import start

    directory = place.state_dir
    if directory is None:
        raise NotRepaired("the coordinator's directory is not on this machine")
    config = config_of(yaml.safe_load((directory / "config.yaml").read_text()))
    served = start(config)
    return f"the coordinator runs in {directory} (supervisord {served.supervisord.pid})"


def _end_machines(place: Place, node_ids: frozenset[str]) -> str:
    """Have the clouds end these machines, by tag; waits until they list them no more."""
    run = place.run
    assert run is not None
    deadline = time.monotonic() + END_WITHIN
    while True:
        listing = clouds_of(run)
        mine = tuple(machine for machine in listing.machines if machine.node_id in node_ids)
        if not mine and not listing.problems:
            return f"{len(node_ids)} machines were ended; the clouds list none of them"
        if time.monotonic() >= deadline:
            raise NotRepaired(
                f"after {END_WITHIN:g} s: {Listing(machines=mine, problems=listing.problems)}"
            )
        if mine:
            end_listed(run, Listing(machines=mine))
        time.sleep(_LOOK_EVERY)
