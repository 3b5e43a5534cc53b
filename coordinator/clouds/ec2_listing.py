"""From EC2's description of an instance to ours. PURE."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from coordinator.clouds.base import CloudInstance, MachineState
from coordinator.clouds.ec2_offerings import Market
from coordinator.clouds.ec2_request import COUNT, INDEX_BASE, LAUNCH, POOL, PRICE, RUN
from coordinator.clouds.ec2_settings import Ec2Machine

_STATES = {
    "pending": MachineState.PENDING,
    "running": MachineState.RUNNING,
    "shutting-down": MachineState.STOPPING,
    "stopping": MachineState.STOPPING,
    "stopped": MachineState.STOPPING,
    "terminated": MachineState.GONE,
}


@dataclass(frozen=True, kw_only=True)
class Ec2Instance:
    """A machine with what only EC2 knows of it: the call that made it, and its market."""

    instance: CloudInstance
    base: int
    count: int
    market: Market


def as_instance(
    found: Mapping[str, Any], machine: Ec2Machine, private_first: bool = False
) -> Ec2Instance | None:
    """One entry of DescribeInstances; None when it is no machine of ours.

    ``machine``: the cloud's own settings, whose prices hold where a launch had none.
    """
    tags = {tag["Key"]: tag.get("Value", "") for tag in found.get("Tags", ())}
    base, count = tags.get(INDEX_BASE, "0"), tags.get(COUNT, "1")
    state = _STATES.get(found.get("State", {}).get("Name", ""))
    if state is None or not all(tags.get(key) for key in (RUN, POOL, LAUNCH)):
        return None
    if not (base.isdigit() and count.isdigit()):
        return None
    market = Market.SPOT if found.get("InstanceLifecycle") == "spot" else Market.ON_DEMAND
    launched = found.get("LaunchTime")
    price = _number(tags.get(PRICE, ""))
    return Ec2Instance(
        instance=CloudInstance(
            cloud_id=found["InstanceId"],
            run=tags[RUN],
            pool=tags[POOL],
            launch_id=tags[LAUNCH],
            index=int(base) + int(found.get("AmiLaunchIndex", 0)),
            state=state,
            addresses=_addresses(found, private_first),
            launched_at=launched.timestamp() if isinstance(launched, datetime) else None,
            price=machine.price(found.get("InstanceType", ""), market) if price is None else price,
            problem=_problem(found, state),
        ),
        base=int(base),
        count=int(count),
        market=market,
    )


def _addresses(found: Mapping[str, Any], private_first: bool) -> tuple[str, ...]:
    keys = ["PublicIpAddress", "PrivateIpAddress", "Ipv6Address"]
    if private_first:
        keys[:2] = reversed(keys[:2])
    return tuple(dict.fromkeys(found[key] for key in keys if found.get(key)))


def _problem(found: Mapping[str, Any], state: MachineState) -> str:
    """Why it is not, or no longer, there."""
    if state in (MachineState.PENDING, MachineState.RUNNING):
        return ""
    if found["State"]["Name"] == "stopped":
        return "stopped, not terminated: its volumes still cost"
    reason = found.get("StateReason", {}).get("Message", "")
    return str(reason or found.get("StateTransitionReason", ""))


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text) else None
