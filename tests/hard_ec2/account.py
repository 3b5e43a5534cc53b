"""What an account has and may: images, keys, groups, subnets, capacity, quotas, credentials."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.hard_ec2.query import ApiError, Query, tag_set

IMAGE = "ami-0123456789abcdef0"
VPC = "vpc-0000000000000000a"
_TYPE = re.compile(r"[a-z][a-z0-9-]*\.(?:nano|micro|small|medium|large|metal|[0-9]*xlarge)\Z")
_IMAGE_ID = re.compile(r"ami-(?:[0-9a-f]{8}|[0-9a-f]{17})\Z")


def vcpus(instance_type: str) -> int:
    """How many of the vCPU quota a machine of this type takes."""
    size = instance_type.partition(".")[2]
    if size.endswith("xlarge"):
        return 4 * int(size.removesuffix("xlarge") or 1)
    return 1 if size in ("nano", "micro", "small", "medium") else 2


@dataclass
class Account:
    """Everything here may be changed while a test runs; the next call finds it so.

    ``capacity``: free places by (type, zone), by type or by zone; what is not named is
    endless. ``unsupported``: (type, zone) that is not offered at all. Quotas count live
    machines. ``credentials``: access key → session token ("" where there is none);
    ``expired``: access keys whose time is over.
    """

    region: str = "us-east-1"
    images: set[str] = field(default_factory=lambda: {IMAGE})
    key_pairs: set[str] = field(default_factory=lambda: {"epu"})
    groups: dict[str, str] = field(default_factory=lambda: {"default": "sg-0000000000000000a"})
    subnets: dict[str, str] = field(default_factory=dict)
    capacity: dict[tuple[str, str] | str, int] = field(default_factory=dict)
    unsupported: set[tuple[str, str]] = field(default_factory=set)
    instance_quota: int | None = None
    vcpu_quota: int | None = None
    spot_quota: int | None = None
    credentials: dict[str, str] = field(default_factory=lambda: {"AKIATEST": ""})
    expired: set[str] = field(default_factory=set)
    unauthorized: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        if not self.subnets:
            self.subnets = {f"subnet-0000000000000000{x}": self.region + x for x in "abc"}

    @property
    def zones(self) -> list[str]:
        return sorted(set(self.subnets.values()))

    # ---------------------------------------------------------------- who asks

    def authenticate(self, access_key: str, session_token: str) -> None:
        if access_key in self.expired:
            raise ApiError("ExpiredToken", "The provided token has expired.")
        if self.credentials.get(access_key) != session_token:
            what = "AWS was not able to validate the provided access credentials"
            raise ApiError("AuthFailure", what, 401)

    def authorize(self, action: str) -> None:
        if action in self.unauthorized:
            what = "You are not authorized to perform this operation."
            raise ApiError("UnauthorizedOperation", what, 403)

    # ---------------------------------------------------------------- what a launch names

    def check_image(self, image: str) -> None:
        if not _IMAGE_ID.match(image):
            what = f'Invalid id: "{image}" (expecting "ami-...")'
            raise ApiError("InvalidAMIID.Malformed", what)
        if image not in self.images:
            raise ApiError("InvalidAMIID.NotFound", f"The image id '[{image}]' does not exist")

    def check_type(self, instance_type: str, zone: str) -> None:
        if not _TYPE.match(instance_type):
            what = f"Invalid value '{instance_type}' for InstanceType."
            raise ApiError("InvalidParameterValue", what)
        if (instance_type, zone) in self.unsupported:
            what = f"Your requested instance type ({instance_type}) is not supported in {zone}."
            raise ApiError("Unsupported", what)

    def check_key(self, name: str) -> None:
        if name and name not in self.key_pairs:
            raise ApiError("InvalidKeyPair.NotFound", f"The key pair '{name}' does not exist")

    def groups_of(self, query: Query) -> dict[str, str]:
        """Group id → name of the groups that a launch names; ``default`` when it names none."""
        interfaces = query.sections("NetworkInterface")
        ids = query.texts("SecurityGroupId")
        for interface in interfaces:
            ids += interface.texts("SecurityGroupId")
        names = query.texts("SecurityGroup")
        if not ids and not names:
            names = ["default"]
        by_id = {group_id: name for name, group_id in self.groups.items()}
        for group in names:
            if group not in self.groups:
                what = f"The security group '{group}' does not exist in VPC '{VPC}'"
                raise ApiError("InvalidGroup.NotFound", what)
        for group in ids:
            if group not in by_id:
                what = f"The security group ID '{group}' does not exist"
                raise ApiError("InvalidGroup.NotFound", what)
        return {**{self.groups[n]: n for n in names}, **{g: by_id[g] for g in ids}}

    def place_of(self, query: Query) -> tuple[str, str]:
        """Subnet and zone of a launch."""
        zone = query.text("Placement.AvailabilityZone")
        subnet = query.text("SubnetId")
        for interface in query.sections("NetworkInterface"):
            subnet = subnet or interface.text("SubnetId")
        if subnet:
            if subnet not in self.subnets:
                what = f"The subnet ID '{subnet}' does not exist"
                raise ApiError("InvalidSubnetID.NotFound", what)
            if zone and self.subnets[subnet] != zone:
                what = f"The subnet is not in the Availability Zone {zone}"
                raise ApiError("InvalidParameterValue", what)
            return subnet, self.subnets[subnet]
        zone = zone or self.zones[0]
        if zone not in self.zones:
            what = f"Invalid availability zone: [{zone}]"
            raise ApiError("InvalidParameterValue", what)
        return next(one for one, where in self.subnets.items() if where == zone), zone

    # ---------------------------------------------------------------- is there room

    def check_room(
        self,
        count: int,
        instance_type: str,
        zone: str,
        spot: bool,
        live: Iterable[tuple[str, bool]],
    ) -> None:
        """``live``: type and spot-ness of every live machine."""
        there = list(live)
        spots = sum(one[1] for one in there)
        if spot and self.spot_quota is not None and spots + count > self.spot_quota:
            raise ApiError("MaxSpotInstanceCountExceeded", "Max spot instance count exceeded")
        if (
            not spot
            and self.instance_quota is not None
            and len(there) + count > self.instance_quota
        ):
            what = f"Your quota allows for {self.instance_quota} more running instance(s)."
            raise ApiError("InstanceLimitExceeded", what)
        used = sum(vcpus(one[0]) for one in there) + count * vcpus(instance_type)
        if not spot and self.vcpu_quota is not None and used > self.vcpu_quota:
            what = f"You have requested more vCPU capacity than your limit of {self.vcpu_quota}"
            raise ApiError("VcpuLimitExceeded", what)
        for key in ((instance_type, zone), instance_type, zone):
            if self.capacity.get(key, count) < count:
                what = (
                    f"We currently do not have sufficient {instance_type} capacity in the "
                    f"Availability Zone you requested ({zone})."
                )
                raise ApiError("InsufficientInstanceCapacity", what, 500)

    def take_room(self, count: int, instance_type: str, zone: str) -> None:
        """``count`` places are taken, or given back when negative."""
        for key in ((instance_type, zone), instance_type, zone):
            if key in self.capacity:
                self.capacity[key] -= count

    # ---------------------------------------------------------------- what may be asked of it

    def describe_images(self, query: Query) -> dict[str, object]:
        wanted = query.texts("ImageId")
        for image in wanted:
            self.check_image(image)
        names = query.filters().get("image-id", wanted)
        shown = [image for image in sorted(self.images) if not names or image in names]
        return {
            "imagesSet": [
                {
                    "imageId": image,
                    "imageState": "available",
                    "isPublic": False,
                    "name": f"image {image}",
                    "architecture": "x86_64",
                    "rootDeviceType": "ebs",
                    "rootDeviceName": "/dev/xvda",
                    "virtualizationType": "hvm",
                    "imageOwnerId": "123456789012",
                    "tagSet": [],
                }
                for image in shown
            ]
        }

    def describe_key_pairs(self, query: Query) -> dict[str, object]:
        wanted = query.texts("KeyName")
        for name in wanted:
            self.check_key(name)
        names = query.filters().get("key-name", wanted)
        shown = [name for name in sorted(self.key_pairs) if not names or name in names]
        return {"keySet": [{"keyName": x, "keyPairId": f"key-{x}"} for x in shown]}

    def describe_groups(self, query: Query) -> dict[str, object]:
        named = {"SecurityGroup": "GroupName", "SecurityGroupId": "GroupId"}
        given = {to: query.texts(name) for to, name in named.items()}
        renamed = {f"{to}.{i + 1}": x for to, all_ in given.items() for i, x in enumerate(all_)}
        asked = any(given.values())
        found = (
            self.groups_of(Query(renamed))
            if asked
            else {group_id: name for name, group_id in self.groups.items()}
        )
        filters = query.filters()
        for name, values in filters.items():
            if name == "group-name":
                found = {i: n for i, n in found.items() if n in values}
            elif name == "group-id":
                found = {i: n for i, n in found.items() if i in values}
        opened = [
            {
                "ipProtocol": "-1",
                "ipRanges": [{"cidrIp": "0.0.0.0/0"}],
                "groups": [],
            }
        ]
        return {
            "securityGroupInfo": [
                {
                    "ownerId": "123456789012",
                    "groupId": group_id,
                    "groupName": name,
                    "groupDescription": name,
                    "vpcId": VPC,
                    "ipPermissions": opened,
                    "ipPermissionsEgress": opened,
                    "tagSet": tag_set({}),
                }
                for group_id, name in found.items()
            ]
        }

    def describe_subnets(self, query: Query) -> dict[str, object]:
        wanted = query.texts("SubnetId") or query.filters().get("subnet-id", [])
        for subnet in wanted:
            if subnet not in self.subnets:
                what = f"The subnet ID '{subnet}' does not exist"
                raise ApiError("InvalidSubnetID.NotFound", what)
        zones = query.filters().get("availability-zone", [])
        return {
            "subnetSet": [
                {
                    "subnetId": subnet,
                    "state": "available",
                    "vpcId": VPC,
                    "cidrBlock": "10.0.0.0/16",
                    "availableIpAddressCount": 60_000,
                    "availabilityZone": zone,
                    "defaultForAz": True,
                    "tagSet": [],
                }
                for subnet, zone in self.subnets.items()
                if (not wanted or subnet in wanted) and (not zones or zone in zones)
            ]
        }

    def describe_zones(self, query: Query) -> dict[str, object]:
        return {
            "availabilityZoneInfo": [
                {"zoneName": zone, "zoneState": "available", "regionName": self.region}
                for zone in self.zones
            ]
        }
