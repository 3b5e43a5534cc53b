"""What RunInstances is sent."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.clouds.ec2_offerings import Market, Offering
from coordinator.clouds.ec2_request import client_token, packed_user_data, run_parameters
from coordinator.clouds.ec2_settings import read_machine
from coordinator.errors import LaunchRefused
from coordinator.testing import make_request

MACHINE = read_machine(
    {
        "image": "ami-1",
        "type": "t3.small",
        "market": "spot",
        "spot_max_price": "0.01",
        "tags": "team=west",
        "prices": "t3.small:spot=0.006",
        "iam_profile": "worker",
        "root_device": "/dev/xvda",
        "root_volume_size": "20",
    },
    {},
)
SPOT = Offering(type="t3.small", market=Market.SPOT, zone="us-east-1a")


def tags_of(parameters, kind="instance"):
    [found] = [s for s in parameters["TagSpecifications"] if s["ResourceType"] == kind]
    return {tag["Key"]: tag["Value"] for tag in found["Tags"]}


def test_a_call_asks_for_all_or_nothing_and_requires_tokens_of_the_metadata_service():
    parameters = run_parameters(make_request(count=5), MACHINE, SPOT, 0, 5)
    assert (parameters["MinCount"], parameters["MaxCount"]) == (5, 5)
    assert parameters["MetadataOptions"] == {"HttpEndpoint": "enabled", "HttpTokens": "required"}
    assert parameters["InstanceInitiatedShutdownBehavior"] == "terminate"


def test_everything_is_tagged_as_it_is_made_volumes_too():
    parameters = run_parameters(make_request("l", run="r", pool="p"), MACHINE, SPOT, 0, 1)
    assert tags_of(parameters) == {
        "Name": "r/p",
        "team": "west",
        "epu:run": "r",
        "epu:pool": "p",
        "epu:launch": "l",
        "epu:index-base": "0",
        "epu:count": "1",
        "epu:price": "0.006",
    }
    assert tags_of(parameters, "volume") == tags_of(parameters)


def test_spot_machines_are_bought_once_at_a_bounded_price():
    parameters = run_parameters(make_request(), MACHINE, SPOT, 0, 1)
    assert parameters["InstanceMarketOptions"]["SpotOptions"] == {
        "SpotInstanceType": "one-time",
        "InstanceInterruptionBehavior": "terminate",
        "MaxPrice": "0.01",
    }
    on_demand = run_parameters(make_request(), MACHINE, SPOT.on(Market.ON_DEMAND), 0, 1)
    assert "InstanceMarketOptions" not in on_demand


def test_a_zone_is_a_placement_and_in_a_subnet_the_default_group_is_left_unsaid():
    zone = run_parameters(make_request(), MACHINE, SPOT, 0, 1)
    assert zone["Placement"] == {"AvailabilityZone": "us-east-1a"}
    assert zone["SecurityGroups"] == ["default"]
    subnet = run_parameters(make_request(), MACHINE, Offering(type="a", subnet="subnet-1"), 0, 1)
    assert subnet["SubnetId"] == "subnet-1"
    assert "SecurityGroups" not in subnet and "Placement" not in subnet


def test_machines_of_a_later_call_can_read_what_to_add_to_their_index():
    parameters = run_parameters(make_request(count=5), MACHINE, SPOT, 2, 3)
    assert parameters["MetadataOptions"]["InstanceMetadataTags"] == "enabled"
    assert tags_of(parameters)["epu:index-base"] == "2"


def test_a_tag_that_ec2_would_refuse_is_refused_here():
    with pytest.raises(LaunchRefused, match="epu:pool"):
        run_parameters(make_request(pool=""), MACHINE, SPOT, 0, 1)


@given(st.text(min_size=1, max_size=120), st.integers(1, 10**6))
def test_a_token_has_at_most_64_ascii_characters(launch_id, number):
    token = client_token(launch_id, number)
    assert len(token) <= 64 and token.isascii() and token.endswith(f".{number}")
    assert token != client_token(launch_id, number + 1)


def test_long_launch_ids_have_tokens_of_their_own():
    assert client_token("launch-1", 2) == "launch-1.2"
    assert client_token("x" * 80 + "a", 1) != client_token("x" * 80 + "b", 1)


def test_short_user_data_goes_as_it_is():
    assert packed_user_data("#cloud-config\n{}\n") == b"#cloud-config\n{}\n"


def test_long_user_data_is_packed_the_same_way_each_time():
    text = "#cloud-config\n" + "# a long comment\n" * 2000
    packed = packed_user_data(text)
    assert len(packed) <= 16_384
    assert gzip.decompress(packed).decode() == text
    assert packed[4:8] == b"\0\0\0\0", "no time of the day in it"
    assert packed == packed_user_data(text)


def test_user_data_that_is_too_long_either_way_is_refused_with_its_size():
    import random

    text = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=40_000))
    with pytest.raises(LaunchRefused, match=r"user-data of 40000 bytes is too large for EC2"):
        packed_user_data(text)
