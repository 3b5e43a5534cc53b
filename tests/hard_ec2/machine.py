"""One machine: its facts, the filters that choose it, and how an answer shows it. PURE."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from tests.hard_ec2.account import VPC
from tests.hard_ec2.query import ApiError, tag_set

PENDING, RUNNING, SHUTTING_DOWN, TERMINATED = (
    (0, "pending"),
    (16, "running"),
    (32, "shutting-down"),
    (48, "terminated"),
)


@dataclass(frozen=True)
class Moment:
    """When something happened: the time, and how many listings had been made."""

    at: float
    listings: int


@dataclass
class Machine:
    """One machine. ``ended`` is None while it lives; ``user_data`` as the machine reads it."""

    cloud_id: str
    reservation: str
    token: str
    index: int
    created: Moment
    instance_type: str
    image: str
    zone: str
    subnet: str
    spot: bool
    key: str
    groups: dict[str, str]
    metadata_options: dict[str, str]
    tags: dict[str, str]
    user_data: bytes = field(repr=False)
    address: str = ""
    ended: Moment | None = None
    reason: tuple[str, str] | None = None
    console: str = ""

    @property
    def alive(self) -> bool:
        return self.ended is None


def before(change: Moment, moment: Moment) -> bool:
    return change.at <= moment.at and change.listings < moment.listings


def matches(machine: Machine, state: tuple[int, str], name: str, values: list[str]) -> bool:
    if name.startswith("tag:"):
        tag = machine.tags.get(name.removeprefix("tag:"))
        found = [] if tag is None else [tag]
    elif name == "tag-key":
        found = list(machine.tags)
    else:
        facts = {
            "instance-state-name": state[1],
            "instance-state-code": str(state[0]),
            "client-token": machine.token,
            "instance-id": machine.cloud_id,
            "reservation-id": machine.reservation,
            "launch-index": str(machine.index),
            "instance-type": machine.instance_type,
            "availability-zone": machine.zone,
            "image-id": machine.image,
            "subnet-id": machine.subnet,
            "key-name": machine.key,
        }
        if name not in facts:
            raise ApiError("InvalidParameterValue", f"The filter '{name}' is invalid")
        found = [facts[name]]
    return any(fnmatchcase(one, value) for one in found for value in values)


def state_element(state: tuple[int, str]) -> dict[str, object]:
    return {"code": state[0], "name": state[1]}


def timestamp(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(at))


def element(machine: Machine, state: tuple[int, str]) -> dict[str, object]:
    """One machine as DescribeInstances and RunInstances show it."""
    there = state in (PENDING, RUNNING)
    address = machine.address if there else None
    reason = None if there else machine.reason
    return {
        "instanceId": machine.cloud_id,
        "imageId": machine.image,
        "instanceState": state_element(state),
        "privateDnsName": f"ip-{address.replace('.', '-')}.ec2.internal" if address else "",
        "dnsName": "",
        "reason": reason[1] if reason else "",
        "keyName": machine.key or None,
        "amiLaunchIndex": machine.index,
        "instanceType": machine.instance_type,
        "launchTime": timestamp(machine.created.at),
        "placement": {"availabilityZone": machine.zone, "tenancy": "default"},
        "monitoring": {"state": "disabled"},
        "subnetId": machine.subnet if there else None,
        "vpcId": VPC if there else None,
        "privateIpAddress": address,
        "stateReason": {"code": reason[0], "message": reason[1]} if reason else None,
        "architecture": "x86_64",
        "rootDeviceType": "ebs",
        "rootDeviceName": "/dev/xvda",
        "instanceLifecycle": "spot" if machine.spot else None,
        "clientToken": machine.token,
        "tagSet": tag_set(machine.tags),
        "groupSet": [{"groupId": i, "groupName": n} for i, n in machine.groups.items()],
        "metadataOptions": {"state": "applied", **machine.metadata_options},
        "hypervisor": "xen",
        "virtualizationType": "hvm",
    }
