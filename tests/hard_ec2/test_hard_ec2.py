"""The stand-in itself, seen with raw boto3: is it as nasty as it says, and no nastier?"""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from coordinator.testing import FakeClock, eventually
from tests.hard_ec2 import Chaos, Fault, HardEc2, Lag
from tests.hard_ec2.account import IMAGE

ONCE = Config(retries={"total_max_attempts": 1}, read_timeout=30)


@pytest.fixture
def ec2() -> Iterator[HardEc2]:
    with HardEc2() as found:
        yield found


def client_of(ec2: HardEc2, **changes: Any) -> Any:
    given = {
        "endpoint_url": ec2.url,
        "region_name": "us-east-1",
        "aws_access_key_id": "AKIATEST",
        "aws_secret_access_key": "secret",
        "config": ONCE,
        **changes,
    }
    return boto3.client("ec2", **given)


@pytest.fixture
def client(ec2: HardEc2) -> Any:
    return client_of(ec2)


def run(client: Any, count: int = 1, **changes: Any) -> list[dict[str, Any]]:
    request = {
        "ImageId": IMAGE,
        "InstanceType": "c5.large",
        "MinCount": count,
        "MaxCount": count,
        **changes,
    }
    found: list[dict[str, Any]] = client.run_instances(**request)["Instances"]
    return found


def listed(client: Any, **request: Any) -> dict[str, str]:
    """Instance id → state, over all pages."""
    pages = client.get_paginator("describe_instances").paginate(**request)
    return {
        one["InstanceId"]: one["State"]["Name"]
        for page in pages
        for reservation in page["Reservations"]
        for one in reservation["Instances"]
    }


def error_of(call: Any, *args: Any, **request: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(*args, **request)
    return str(caught.value.response["Error"]["Code"])


# ------------------------------------------------------------------ machines


def test_a_machine_is_what_was_asked_for(client: Any) -> None:
    tags = [{"Key": "epu:run", "Value": "harbour"}]
    run(
        client,
        KeyName="epu",
        SecurityGroups=["default"],
        Placement={"AvailabilityZone": "us-east-1b"},
        InstanceMarketOptions={"MarketType": "spot"},
        MetadataOptions={"HttpTokens": "required"},
        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
    )
    [reservation] = client.describe_instances()["Reservations"]
    [machine] = reservation["Instances"]
    assert machine["Tags"] == tags
    assert machine["KeyName"] == "epu"
    assert machine["InstanceLifecycle"] == "spot"
    assert machine["MetadataOptions"]["HttpTokens"] == "required"
    assert machine["Placement"]["AvailabilityZone"] == "us-east-1b"
    assert machine["SecurityGroups"][0]["GroupName"] == "default"
    assert machine["PrivateIpAddress"].startswith("10.")


def test_machines_of_one_call_have_each_launch_index_once(client: Any) -> None:
    assert sorted(one["AmiLaunchIndex"] for one in run(client, 5)) == [0, 1, 2, 3, 4]


def test_a_machine_goes_through_its_states() -> None:
    clock = FakeClock()
    with HardEc2(clock) as ec2:
        ec2.world.boot_time, ec2.world.shutdown_time, ec2.world.gone_listed_for = 10.0, 5.0, 60.0
        client = client_of(ec2)
        [machine] = run(client)
        name = machine["InstanceId"]
        seen = [listed(client)[name]]
        clock.advance(11)
        seen.append(listed(client)[name])
        client.terminate_instances(InstanceIds=[name])
        seen.append(listed(client)[name])
        clock.advance(6)
        seen.append(listed(client)[name])
        clock.advance(61)
        assert seen == ["pending", "running", "shutting-down", "terminated"]
        assert not listed(client)


def test_user_data_is_what_the_machine_reads(ec2: HardEc2, client: Any) -> None:
    run(client, UserData="#cloud-config\n{}\n")
    assert ec2.machines[0].user_data == b"#cloud-config\n{}\n"


def test_user_data_beyond_16_kib_is_refused(ec2: HardEc2, client: Any) -> None:
    run(client, UserData=b"x" * 16_384)
    assert error_of(run, client, UserData=b"x" * 16_385) == "InvalidParameterValue"
    assert len(ec2.machines) == 1


def test_the_console_says_what_the_machine_said(ec2: HardEc2, client: Any) -> None:
    [machine] = run(client)
    ec2.machines[0].console = "login: ü\n"
    said = client.get_console_output(InstanceId=machine["InstanceId"])["Output"]
    assert said in ("login: ü\n", base64.b64encode("login: ü\n".encode()).decode())


def test_the_catalogue_is_motos(client: Any) -> None:
    [found] = client.describe_instance_types(InstanceTypes=["c5.large"])["InstanceTypes"]
    assert found["VCpuInfo"]["DefaultVCpus"] == 2
    assert error_of(client.describe_instance_types, InstanceTypes=["c5.huge"])


# ------------------------------------------------------------------ the client token


def test_a_token_is_good_for_one_launch_for_ever(ec2: HardEc2, client: Any) -> None:
    first = [one["InstanceId"] for one in run(client, 2, ClientToken="launch-1.1")]
    again = [one["InstanceId"] for one in run(client, 2, ClientToken="launch-1.1")]
    client.terminate_instances(InstanceIds=first)
    after = run(client, 2, ClientToken="launch-1.1")
    assert again == first == [one["InstanceId"] for one in after]
    assert {one["State"]["Name"] for one in after} == {"terminated"}
    assert not ec2.machines


def test_a_token_with_other_parameters_is_refused(ec2: HardEc2, client: Any) -> None:
    run(client, ClientToken="launch-1.1", UserData="a")
    code = error_of(run, client, ClientToken="launch-1.1", UserData="b")
    assert code == "IdempotentParameterMismatch"
    assert len(ec2.machines) == 1


def test_a_token_whose_machines_ended_may_be_refused_instead(ec2: HardEc2, client: Any) -> None:
    ec2.world.refuses_ended_tokens = True
    [machine] = run(client, ClientToken="launch-1.1")
    ec2.world.vanish(machine["InstanceId"])
    assert error_of(run, client, ClientToken="launch-1.1") == "IdempotentInstanceTerminated"


def test_the_same_token_from_several_callers_launches_once(ec2: HardEc2) -> None:
    clients = [client_of(ec2) for _ in range(4)]
    threads = [
        threading.Thread(target=run, args=(one, 3), kwargs={"ClientToken": "t"}) for one in clients
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(ec2.machines) == 3


def test_without_tokens_a_repeat_launches_twice(ec2: HardEc2, client: Any) -> None:
    ec2.world.honours_tokens = False
    run(client, ClientToken="t")
    run(client, ClientToken="t")
    assert len(ec2.machines) == 2


def test_a_refused_launch_does_not_use_its_token_up(ec2: HardEc2, client: Any) -> None:
    ec2.account.capacity["c5.large"] = 0
    assert error_of(run, client, ClientToken="t") == "InsufficientInstanceCapacity"
    ec2.account.capacity["c5.large"] = 1
    assert run(client, ClientToken="t")


# ------------------------------------------------------------------ listings


def test_a_listing_lags_by_a_number_of_listings(ec2: HardEc2, client: Any) -> None:
    ec2.world.lag = Lag(listings=3)
    [machine] = run(client)
    shown = [len(listed(client)) for _ in range(5)]
    client.terminate_instances(InstanceIds=[machine["InstanceId"]])
    states = [next(iter(listed(client).values())) for _ in range(5)]
    assert shown == [0, 0, 0, 1, 1]
    assert states == ["running"] * 3 + ["terminated"] * 2


def test_a_listing_that_goes_backwards_forgets_what_it_showed(ec2: HardEc2, client: Any) -> None:
    ec2.world.lag = Lag(listings=4, backwards=True)
    shown = []
    for _ in range(12):
        run(client)
        shown.append(len(listed(client)))
    assert any(later < earlier for earlier, later in pairwise(shown))
    for _ in range(5):
        listed(client)
    assert len(listed(client)) == 12


def test_live_machines_blink(ec2: HardEc2, client: Any) -> None:
    run(client, 50)
    ec2.world.lag = Lag(blink=0.2)
    assert 25 < len(listed(client)) < 50
    assert len(ec2.machines) == 50


def test_right_after_a_launch_the_machine_is_not_found(ec2: HardEc2, client: Any) -> None:
    ec2.world.lag = Lag(listings=1)
    [machine] = run(client)
    ids = [machine["InstanceId"]]
    assert error_of(client.describe_instances, InstanceIds=ids) == "InvalidInstanceID.NotFound"
    listed(client)
    assert listed(client, InstanceIds=ids)


def test_terminating_an_unknown_machine_terminates_none(ec2: HardEc2, client: Any) -> None:
    [machine] = run(client)
    ids = [machine["InstanceId"], "i-0fffffffffffffffe", "i-0ffffffffffffffff"]
    with pytest.raises(ClientError) as caught:
        client.terminate_instances(InstanceIds=ids)
    assert "'i-0fffffffffffffffe, i-0ffffffffffffffff'" in str(caught.value)
    assert len(ec2.machines) == 1


def test_pages_hold_what_they_are_told_and_count_as_one_listing(ec2: HardEc2, client: Any) -> None:
    run(client, 25)
    assert len(listed(client, PaginationConfig={"PageSize": 10})) == 25
    assert ec2.count("DescribeInstances") == 3
    assert ec2.world.listings == 1


def test_filters_choose_what_a_listing_shows(client: Any) -> None:
    def tagged(name: str) -> list[dict[str, Any]]:
        return [{"ResourceType": "instance", "Tags": [{"Key": "epu:run", "Value": name}]}]

    [mine] = run(client, TagSpecifications=tagged("a"), ClientToken="a.1")
    run(client, TagSpecifications=tagged("b"))
    by_tag = [{"Name": "tag:epu:run", "Values": ["a", "c"]}]
    by_token = [{"Name": "client-token", "Values": ["a.*"]}]
    assert list(listed(client, Filters=by_tag)) == [mine["InstanceId"]]
    assert list(listed(client, Filters=by_token)) == [mine["InstanceId"]]
    assert not listed(client, Filters=[{"Name": "instance-state-name", "Values": ["stopped"]}])
    unknown = [{"Name": "colour", "Values": ["red"]}]
    assert error_of(client.describe_instances, Filters=unknown) == "InvalidParameterValue"


def test_a_filter_of_more_than_200_values_is_refused(client: Any) -> None:
    values = [{"Name": "tag:epu:launch", "Values": [f"launch-{i}" for i in range(201)]}]
    assert error_of(client.describe_instances, Filters=values) == "FilterLimitExceeded"


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"ImageId": "ami-0fedcba9876543210"}, "InvalidAMIID.NotFound"),
        ({"ImageId": "debian"}, "InvalidAMIID.Malformed"),
        ({"InstanceType": "enormous"}, "InvalidParameterValue"),
        ({"KeyName": "nobodys"}, "InvalidKeyPair.NotFound"),
        ({"SecurityGroups": ["nobodys"]}, "InvalidGroup.NotFound"),
        ({"SubnetId": "subnet-nobodys"}, "InvalidSubnetID.NotFound"),
        ({"Placement": {"AvailabilityZone": "mars-1a"}}, "InvalidParameterValue"),
        ({"ClientToken": "x" * 65}, "InvalidParameterValue"),
        ({"DryRun": True}, "DryRunOperation"),
    ],
)
def test_what_can_not_be_launched_is_refused(
    ec2: HardEc2, client: Any, change: dict[str, Any], code: str
) -> None:
    assert error_of(run, client, **change) == code
    assert not ec2.machines


def test_an_image_can_go(ec2: HardEc2, client: Any) -> None:
    run(client)
    ec2.account.images.clear()
    assert error_of(run, client) == "InvalidAMIID.NotFound"


def test_capacity_is_by_type_and_zone_and_comes_back(ec2: HardEc2, client: Any) -> None:
    ec2.account.capacity[("c5.large", "us-east-1a")] = 2
    first = run(client, 2, Placement={"AvailabilityZone": "us-east-1a"})
    here = {"Placement": {"AvailabilityZone": "us-east-1a"}}
    assert error_of(run, client, **here) == "InsufficientInstanceCapacity"
    run(client, Placement={"AvailabilityZone": "us-east-1b"})
    client.terminate_instances(InstanceIds=[first[0]["InstanceId"]])
    run(client, **here)


def test_quotas_have_codes_of_their_own(ec2: HardEc2, client: Any) -> None:
    spot = {"InstanceMarketOptions": {"MarketType": "spot"}}
    ec2.account.spot_quota = 1
    run(client, **spot)
    assert error_of(run, client, **spot) == "MaxSpotInstanceCountExceeded"
    ec2.account.vcpu_quota = 3
    assert error_of(run, client) == "VcpuLimitExceeded"
    ec2.account.vcpu_quota, ec2.account.instance_quota = None, 1
    assert error_of(run, client) == "InstanceLimitExceeded"


def test_credentials_are_looked_at(ec2: HardEc2) -> None:
    wrong = client_of(ec2, aws_access_key_id="AKIAWRONG")
    assert error_of(run, wrong) == "AuthFailure"
    ec2.account.credentials["ASIATEMP"] = "session"
    temporary = client_of(ec2, aws_access_key_id="ASIATEMP", aws_session_token="session")
    run(temporary)
    ec2.account.expired.add("ASIATEMP")
    assert error_of(run, temporary) == "ExpiredToken"
    ec2.account.unauthorized.add("TerminateInstances")
    ids = [ec2.machines[0].cloud_id]
    assert error_of(client_of(ec2).terminate_instances, InstanceIds=ids) == "UnauthorizedOperation"


def test_a_clock_that_is_an_hour_off_is_refused() -> None:
    with HardEc2() as ec2:
        for ec2.skew in (3600.0, -3600.0):
            assert error_of(run, client_of(ec2)) == "RequestExpired"
        assert not ec2.machines


# ------------------------------------------------------------------ faults


def test_a_lost_reply_means_that_it_was_done(ec2: HardEc2, client: Any) -> None:
    ec2.fail_next("RunInstances", Fault.lost_reply(), Fault.dropped())
    for _ in range(2):
        with pytest.raises(ConnectionClosedError):
            run(client)
    assert len(ec2.machines) == 1
    assert ec2.count("RunInstances", "no reply") == 2


def test_an_internal_error_comes_before_or_after_the_work(ec2: HardEc2, client: Any) -> None:
    ec2.fail_next("RunInstances", Fault.broken(503), Fault.broken(500, after_acting=True))
    assert error_of(run, client) == "Unavailable"
    assert not ec2.machines
    assert error_of(run, client) == "InternalError"
    assert len(ec2.machines) == 1


def test_an_endpoint_that_hangs_answers_nobody_and_does_nothing(ec2: HardEc2) -> None:
    ec2.hang()
    hurried = client_of(
        ec2, config=Config(retries={"total_max_attempts": 1}, read_timeout=0.3, connect_timeout=1)
    )
    with pytest.raises(ReadTimeoutError):
        run(hurried)
    ec2.release()
    eventually(lambda: ec2.count("RunInstances") == 1)
    assert not ec2.machines
    assert run(hurried)


def test_chaos_is_the_same_for_the_same_seed() -> None:
    def outcomes(seed: int) -> list[str]:
        with HardEc2(seed=seed) as ec2:
            ec2.script.chaos = Chaos(lose_replies=0.3, errors_before=0.3, errors_after=0.3)
            client = client_of(ec2)
            for i in range(12):
                try:
                    run(client, ClientToken=f"t{i}")
                except (ClientError, ConnectionClosedError):
                    continue
            return [call.outcome for call in ec2.calls]

    assert outcomes(4) == outcomes(4)
    assert len(set(outcomes(4))) > 2


# ------------------------------------------------------------------ throttles


def test_calls_and_machines_draw_from_buckets_that_fill_again() -> None:
    clock = FakeClock()
    with HardEc2(clock) as ec2:
        ec2.throttle()
        client = client_of(ec2)
        for _ in range(5):
            run(client, 190)
        assert error_of(run, client) == "RequestLimitExceeded"
        clock.advance(1)  # two calls more, but only 52 machines
        assert error_of(run, client, 60) == "RequestLimitExceeded"
        assert len(run(client, 50)) == 50
        for _ in range(100):
            client.describe_instances(MaxResults=5)
        assert error_of(client.describe_instances, MaxResults=5) == "RequestLimitExceeded"
        client.terminate_instances(InstanceIds=[ec2.machines[0].cloud_id])
        assert ec2.count("RunInstances", "RequestLimitExceeded") == 2


def test_a_thousand_machines_come_and_are_listed(ec2: HardEc2, client: Any) -> None:
    run(client, 1000)
    assert len(listed(client, PaginationConfig={"PageSize": 1000})) == 1000
    client.terminate_instances(InstanceIds=[one.cloud_id for one in ec2.machines])
    assert not ec2.machines
