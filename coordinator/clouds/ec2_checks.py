"""Whether EC2 has what machines would need; each lack with the command that ends it."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from coordinator.clouds.ec2_api import Ec2Api
from coordinator.clouds.ec2_errors import Ec2Failure, Meaning
from coordinator.clouds.ec2_rates import Family
from coordinator.clouds.ec2_settings import Ec2Machine

#: All the questions of one check begin within so long, s.
_BUDGET = 60.0


class Ec2Checks:
    """Questions about one kind of machine. Asks, changes nothing."""

    def __init__(self, api: Ec2Api, machine: Ec2Machine) -> None:
        self._api = api
        self._machine = machine
        self._deadline = time.monotonic() + _BUDGET

    def problems(self) -> list[str]:
        """What is missing, in words, with remedies. Raises Ec2Failure."""
        checks: Sequence[Callable[[], Iterator[str]]] = (
            self._image_and_types,
            self._key_pair,
            self._groups,
            self._subnets,
        )
        return [problem for check in checks for problem in check()]

    # ---------------------------------------------------------------- questions

    def _image_and_types(self) -> Iterator[str]:
        architecture = ""
        if not self._machine.image:
            yield "no image is named: write image: ami-…"
        else:
            image = self._first("describe_images", "Images", ImageIds=[self._machine.image])
            if image is None:
                command = self._command(
                    "describe-images", "--owners", "self", "--query", "Images[].[ImageId,Name]"
                )
                yield f"there is no image '{self._machine.image}' here; which there are: {command}"
            elif image.get("State") not in (None, "available"):
                yield f"image '{self._machine.image}' is {image['State']}"
            else:
                architecture = str(image.get("Architecture", ""))
        if not self._machine.candidates:
            yield "no type is named: write type: t3.small"
        for kind in dict.fromkeys(candidate.type for candidate in self._machine.candidates):
            yield from self._type(kind, architecture)

    def _type(self, kind: str, architecture: str) -> Iterator[str]:
        found = self._first("describe_instance_types", "InstanceTypes", InstanceTypes=[kind])
        if found is None:
            command = self._command(
                "describe-instance-type-offerings",
                *("--filters", f"Name=instance-type,Values={kind.partition('.')[0]}.*"),
            )
            yield f"there is no type '{kind}' here; which there are: {command}"
            return
        built = found.get("ProcessorInfo", {}).get("SupportedArchitectures", ())
        if architecture and built and architecture not in built:
            yield (
                f"image '{self._machine.image}' is made for {architecture}, "
                f"and '{kind}' is {' or '.join(built)}"
            )

    def _key_pair(self) -> Iterator[str]:
        name = self._machine.key_name
        if not name or name == "none":
            return
        if self._first("describe_key_pairs", "KeyPairs", KeyNames=[name]) is None:
            command = self._command("import-key-pair", "--key-name", name)
            key = "--public-key-material fileb://$HOME/.ssh/id_ed25519.pub"
            yield f"there is no key pair '{name}' here; make it: {command} {key}"

    def _groups(self) -> Iterator[str]:
        groups = []
        for group in self._machine.security_groups:
            by_id = group.startswith("sg-")
            asked = {"GroupIds" if by_id else "GroupNames": [group]}
            found = self._first("describe_security_groups", "SecurityGroups", **asked)
            if found is not None:
                groups.append(found)
                continue
            what = f"there is no security group '{group}' here"
            if by_id:
                command = self._command("describe-security-groups", "--output", "table")
                yield f"{what}; which there are: {command}"
            else:
                command = self._command(
                    "create-security-group", "--group-name", group, "--description", "epu"
                )
                yield f"{what}; make it: {command}"
        if len(groups) < len(self._machine.security_groups):
            return
        for port in self._machine.ports:
            if not any(_lets_in(group, port) for group in groups):
                command = self._command(
                    "authorize-security-group-ingress",
                    *("--group-id", str(groups[0].get("GroupId", ""))),
                    *("--protocol", "tcp", "--port", str(port)),
                )
                names = ", ".join(self._machine.security_groups)
                yield (
                    f"security group '{names}' lets nobody in on port {port}; "
                    f"open it: {command} --cidr <your network>, or say which it "
                    "must let in on: ports: none"
                )

    def _subnets(self) -> Iterator[str]:
        wanted = (candidate.subnet for candidate in self._machine.candidates)
        for subnet in dict.fromkeys(name for name in wanted if name):
            if self._first("describe_subnets", "Subnets", SubnetIds=[subnet]) is None:
                command = self._command(
                    "describe-subnets", "--query", "Subnets[].[SubnetId,AvailabilityZone]"
                )
                yield f"there is no subnet '{subnet}' here; which there are: {command}"
        wanted = (candidate.zone for candidate in self._machine.candidates)
        for zone in dict.fromkeys(name for name in wanted if name):
            found = self._first(
                "describe_availability_zones", "AvailabilityZones", ZoneNames=[zone]
            )
            if found is None or found.get("ZoneName") != zone:
                yield (
                    f"there is no zone '{zone}' in {self._api.region}; which there are: "
                    f"{self._command('describe-availability-zones')}"
                )

    # ---------------------------------------------------------------- inside

    def _first(self, operation: str, key: str, **parameters: Any) -> Mapping[str, Any] | None:
        """The one thing asked for; None when EC2 has no such thing."""
        try:
            answer = self._api.call(Family.OTHER, operation, self._deadline, **parameters)
        except Ec2Failure as failure:
            if failure.meaning is Meaning.REFUSED:  # Invalid….NotFound, .Malformed, and so on
                return None
            raise
        found = answer.get(key) or [None]
        first: Mapping[str, Any] | None = found[0]
        return first

    def _command(self, *words: str) -> str:
        """A command of AWS's own tool, for this region and endpoint."""
        where = ["--region", self._api.region]
        if self._api.account.endpoint:
            where += ["--endpoint-url", self._api.account.endpoint]
        if self._api.account.profile:
            where += ["--profile", self._api.account.profile]
        return shlex.join(["aws", "ec2", words[0], *where, *words[1:]])


def _lets_in(group: Mapping[str, Any], port: int) -> bool:
    """Whether anybody but the group's own members may come in on ``port``."""
    for rule in group.get("IpPermissions", ()):
        every = rule.get("IpProtocol") == "-1"
        some = rule.get("IpProtocol") == "tcp" and (
            rule.get("FromPort", 0) <= port <= rule.get("ToPort", -1)
        )
        others = [
            pair
            for pair in rule.get("UserIdGroupPairs", ())
            if pair.get("GroupId") != group.get("GroupId")
        ]
        ranges = [rule.get(key) for key in ("IpRanges", "Ipv6Ranges", "PrefixListIds")]
        if (every or some) and (others or any(ranges)):
            return True
    return False
