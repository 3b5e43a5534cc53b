"""What `epu validate` is told of a region, by moto's EC2."""

from __future__ import annotations

import shlex
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from coordinator.clouds.ec2 import Ec2Cloud

#: One of the images that moto has from the start; it is for x86_64.
IMAGE = "ami-12c6146b"


@pytest.fixture(scope="module")
def url():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def client(url: str) -> Any:
    keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
    made = boto3.client("ec2", region_name="us-east-1", endpoint_url=url, **keys)
    made.create_key_pair(KeyName="epu")
    return made


@pytest.fixture(scope="module")
def cloud(url: str, client: Any, tmp_path_factory: pytest.TempPathFactory) -> Ec2Cloud:
    settings = {
        "region": "us-east-1",
        "endpoint": url,
        "access_key": "AKIATEST",
        "secret_key": "x",
        "image": IMAGE,
        "type": "t3.small",
        "ports": "none",
    }
    return Ec2Cloud.from_settings(settings, tmp_path_factory.mktemp("cloud"))


def test_a_region_that_has_everything_has_no_problem(cloud):
    assert cloud.problems_of({}) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"image": "ami-0aaaaaaaaaaaaaaa0"}, "there is no image 'ami-0aaaaaaaaaaaaaaa0' here"),
        ({"type": "t3.tiny"}, "there is no type 't3.tiny' here"),
        ({"key_name": "it's mine"}, "there is no key pair 'it's mine' here; make it: "),
        ({"security_groups": "web"}, "there is no security group 'web' here; make it: "),
        ({"zones": "us-east-1x"}, "there is no zone 'us-east-1x' in us-east-1"),
        ({"subnets": "subnet-0ff"}, "there is no subnet 'subnet-0ff' here"),
    ],
)
def test_what_is_missing_is_said_with_a_command_that_helps(cloud, url, settings, words):
    [problem] = cloud.problems_of(settings)
    assert words in problem
    command = shlex.split(problem.partition(": aws ")[2])
    assert command[0] == "ec2"
    assert f"--region us-east-1 --endpoint-url {url}" in problem


def test_the_command_for_a_key_pair_is_complete(cloud, url):
    [problem] = cloud.problems_of({"key_name": "it's mine"})
    assert problem.partition("make it: ")[2] == (
        f"aws ec2 import-key-pair --region us-east-1 --endpoint-url {url} "
        """--key-name 'it'"'"'s mine' --public-key-material fileb://$HOME/.ssh/id_ed25519.pub"""
    )


def test_a_port_that_no_group_lets_anybody_in_on_is_named_until_it_is_open(cloud, client):
    problems = cloud.problems_of({"ports": "22, 5672"})
    assert [problem.partition(";")[0] for problem in problems] == [
        "security group 'default' lets nobody in on port 22",
        "security group 'default' lets nobody in on port 5672",
    ]
    assert "authorize-security-group-ingress" in problems[0]
    client.authorize_security_group_ingress(
        GroupName="default", IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="10.0.0.0/8"
    )
    [problem] = cloud.problems_of({"ports": "22, 5672"})
    assert "5672" in problem


def test_an_image_for_another_processor_is_named(cloud):
    [problem] = cloud.problems_of({"type": "t4g.small"})
    assert problem == f"image '{IMAGE}' is made for x86_64, and 't4g.small' is arm64"


def test_settings_that_are_not_understood_are_problems(cloud):
    assert "did you mean 'image'" in cloud.problems_of({"imag": "x"})[0]


def test_machines_can_be_launched_where_nothing_is_missing(cloud, client):
    """The whole request as a stranger's EC2 takes it, through real HTTP."""
    from coordinator.testing import make_request

    cloud.launch(make_request("l", run="r", count=2, settings={"tags": "team=west"}))
    found = client.describe_instances(Filters=[{"Name": "tag:epu:run", "Values": ["r"]}])
    machines = [one for r in found["Reservations"] for one in r["Instances"]]
    assert [one["AmiLaunchIndex"] for one in machines] == [0, 1]
    assert {one["ClientToken"] for one in machines} == {"l.1"}
    assert {one["MetadataOptions"]["HttpTokens"] for one in machines} == {"required"}
    assert {one["KeyName"] for one in machines} == {"epu"}
    tags = [{tag["Key"]: tag["Value"] for tag in one["Tags"]} for one in machines]
    assert tags[0]["team"] == "west" and tags[0]["epu:launch"] == "l"
    listed = cloud.list_instances("r")
    assert sorted(one.index for one in listed) == [0, 1]
    cloud.terminate([one.cloud_id for one in listed])
    assert {one.state.value for one in cloud.list_instances("r")} == {"GONE"}
