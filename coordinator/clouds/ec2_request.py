"""What RunInstances is sent, byte for byte the same for the same launch. PURE."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from typing import Any

from coordinator.clouds.base import LaunchRequest
from coordinator.clouds.ec2_offerings import Market, Offering
from coordinator.clouds.ec2_settings import Ec2Machine
from coordinator.errors import LaunchRefused

RUN = "epu:run"
POOL = "epu:pool"
LAUNCH = "epu:launch"
#: Index of a call's first machine in its launch, where a launch takes several calls.
INDEX_BASE = "epu:index-base"
#: How many machines a call was for.
COUNT = "epu:count"
PRICE = "epu:price"

LARGEST_USER_DATA = 16_384
_LONGEST_TOKEN = 64
_LONGEST_TAG = 256


def client_token(launch_id: str, number: int) -> str:
    """The idempotency token of a launch's call ``number``: ``<launch id>.<number>``.

    At most 64 characters: longer launch ids are cut and told apart by a digest.
    """
    token = f"{launch_id}.{number}"
    if len(token) <= _LONGEST_TOKEN and token.isascii():
        return token
    digest = hashlib.sha256(launch_id.encode()).hexdigest()[:20]
    start = launch_id.encode("ascii", "replace").decode().replace("?", "-")[:32]
    return f"{start}-{digest}.{number}"


def packed_user_data(text: str) -> bytes:
    """User-data as sent, before base64: as it is, or gzip'ed when it is too long for EC2.

    cloud-init unpacks it. Raises LaunchRefused when it is too long either way.
    """
    data = text.encode()
    if len(data) <= LARGEST_USER_DATA:
        return data
    # Not the gzip module: its header holds the time, and a repeat must be the same bytes.
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = compressor.compress(data) + compressor.flush()
    if len(packed) <= LARGEST_USER_DATA:
        return packed
    raise LaunchRefused(
        f"user-data of {len(data)} bytes is too large for EC2: {len(packed)} gzip'ed, "
        f"{LARGEST_USER_DATA} allowed; let the machine fetch more of it"
    )


def run_parameters(
    request: LaunchRequest, machine: Ec2Machine, offering: Offering, base: int, count: int
) -> dict[str, Any]:
    """All of RunInstances but token and user-data, for machines ``base`` … of ``request``."""
    parameters: dict[str, Any] = {
        "ImageId": machine.image,
        "InstanceType": offering.type,
        "MinCount": count,
        "MaxCount": count,
        # A machine that shuts itself down is over, and must not cost anything any more.
        "InstanceInitiatedShutdownBehavior": "terminate",
        "MetadataOptions": {"HttpEndpoint": "enabled", "HttpTokens": "required"},
    }
    if base:
        # A machine knows only its index in the call; what to add to it is in this tag.
        parameters["MetadataOptions"]["InstanceMetadataTags"] = "enabled"
    if machine.key_name and machine.key_name != "none":
        parameters["KeyName"] = machine.key_name
    parameters |= _groups(machine, offering)
    if offering.subnet:
        parameters["SubnetId"] = offering.subnet
    elif offering.zone:
        parameters["Placement"] = {"AvailabilityZone": offering.zone}
    if machine.iam_profile:
        key = "Arn" if machine.iam_profile.startswith("arn:") else "Name"
        parameters["IamInstanceProfile"] = {key: machine.iam_profile}
    if machine.root_device:
        parameters["BlockDeviceMappings"] = [_root_volume(machine)]
    if offering.market is Market.SPOT:
        spot = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}
        if machine.spot_max_price:
            spot["MaxPrice"] = machine.spot_max_price
        parameters["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": spot}
    tags = [{"Key": k, "Value": v} for k, v in _tags(request, machine, offering, base, count)]
    parameters["TagSpecifications"] = [
        {"ResourceType": kind, "Tags": tags} for kind in ("instance", "volume")
    ]
    return parameters


def _groups(machine: Ec2Machine, offering: Offering) -> dict[str, Any]:
    ids = [group for group in machine.security_groups if group.startswith("sg-")]
    names = [group for group in machine.security_groups if not group.startswith("sg-")]
    found: dict[str, Any] = {}
    if ids:
        found["SecurityGroupIds"] = ids
    # In a subnet names are not taken, and `default` is what comes when nothing is said.
    if names and not offering.subnet:
        found["SecurityGroups"] = names
    return found


def _root_volume(machine: Ec2Machine) -> Mapping[str, Any]:
    volume: dict[str, Any] = {"DeleteOnTermination": True}
    if machine.root_volume_size:
        volume["VolumeSize"] = machine.root_volume_size
    if machine.root_volume_type:
        volume["VolumeType"] = machine.root_volume_type
    return {"DeviceName": machine.root_device, "Ebs": volume}


def _tags(
    request: LaunchRequest, machine: Ec2Machine, offering: Offering, base: int, count: int
) -> list[tuple[str, str]]:
    tags = {"Name": f"{request.run}/{request.pool}"[:_LONGEST_TAG], **dict(machine.tags)}
    tags |= {RUN: request.run, POOL: request.pool, LAUNCH: request.launch_id}
    tags |= {INDEX_BASE: str(base), COUNT: str(count)}
    price = machine.price(offering.type, offering.market)
    if price is not None:
        tags[PRICE] = f"{price:.9f}".rstrip("0").rstrip(".")
    for key in (RUN, POOL, LAUNCH):
        if not tags[key] or len(tags[key]) > _LONGEST_TAG:
            raise LaunchRefused(f"'{tags[key][:40]}' can't be the tag {key}: 1 to 256 characters")
    return sorted(tags.items())
