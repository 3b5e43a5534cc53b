"""The EC2 driver against the hard-mode EC2: what is really there after whatever goes wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coordinator.clouds.base import MachineState
from coordinator.clouds.ec2 import Ec2Cloud
from coordinator.errors import (
    ConfigProblem,
    CredentialsRejected,
    InsufficientCapacity,
    LaunchRefused,
    RetryLater,
)
from coordinator.testing import make_request
from tests.hard_ec2 import Fault, HardEc2, Lag
from tests.hard_ec2.account import IMAGE

RUN, POOL = "run-1", "sleepers"


@pytest.fixture
def ec2():
    with HardEc2(seed=1) as endpoint:
        yield endpoint


@pytest.fixture
def make_cloud(ec2: HardEc2, tmp_path: Path):
    """``make_cloud(**settings)``: a driver, all of one test with one record."""

    def make(**changes: str) -> Ec2Cloud:
        settings = {
            "region": "us-east-1",
            "endpoint": ec2.url,
            "access_key": "AKIATEST",
            "secret_key": "topsecret",
            "image": IMAGE,
            "type": "t3.small",
            "consistency_window": "0",
            **changes,
        }
        given = {key: value for key, value in settings.items() if value}
        return Ec2Cloud.from_settings(given, tmp_path / "cloud")

    return make


@pytest.fixture
def cloud(make_cloud):
    return make_cloud()


# ------------------------------------------------------------------ launching


def test_a_batch_is_one_call_with_one_token_and_machines_know_their_index(ec2, cloud):
    cloud.launch(make_request("l", count=20))
    assert ec2.count("RunInstances") == 1
    assert {machine.token for machine in ec2.machines} == {"l.1"}
    listed = cloud.list_instances(RUN)
    assert sorted(one.index for one in listed) == list(range(20))
    assert {(m.cloud_id, m.index) for m in ec2.machines} == {(o.cloud_id, o.index) for o in listed}


def test_machines_are_as_safe_as_ec2_can_make_them(ec2, cloud):
    cloud.launch(make_request("l"))
    [machine] = ec2.machines
    assert machine.metadata_options["httpTokens"] == "required"
    assert machine.tags["epu:run"] == RUN
    assert machine.tags["epu:launch"] == "l"


@pytest.mark.parametrize(
    "fault", [Fault.lost_reply(), Fault.broken(500, after_acting=True)], ids=["lost", "500"]
)
def test_a_launch_whose_reply_is_lost_is_not_made_twice(ec2, make_cloud, fault):
    request = make_request("l", count=3)
    ec2.fail_next("RunInstances", fault)
    with pytest.raises(RetryLater):
        make_cloud().launch(request)
    make_cloud().launch(request)
    make_cloud().launch(request)
    assert len(ec2.world.history) == 3


def test_a_call_that_never_arrived_is_made_later(ec2, cloud):
    ec2.fail_next("RunInstances", Fault.dropped(), Fault.refused("RequestLimitExceeded"))
    request = make_request("l")
    for _ in range(2):
        with pytest.raises(RetryLater):
            cloud.launch(request)
    cloud.launch(request)
    assert [machine.token for machine in ec2.machines] == ["l.1"]


def test_a_launch_that_was_killed_before_it_was_answered_goes_on_with_the_same_token(
    ec2, make_cloud, monkeypatch
):
    """As after kill -9: the call is on record, the process that made it is gone."""
    first, request = make_cloud(), make_request("l", count=2)

    def killed(*_: object, **__: object) -> None:
        raise SystemExit

    monkeypatch.setattr(first._api, "call", killed)
    monkeypatch.setattr(first._api, "instances", lambda *_: iter(()))
    with pytest.raises(SystemExit):
        first.launch(request)
    make_cloud(image="ami-0fffffffffffffff0").launch(request)
    assert [machine.token for machine in ec2.machines] == ["l.1", "l.1"]
    assert {machine.image for machine in ec2.machines} == {IMAGE}, "as it was written down"


def test_a_launch_without_the_token_would_be_made_twice(ec2, make_cloud):
    """What the token is for: the listing lags, so nothing else can tell."""
    ec2.world.honours_tokens = False
    ec2.world.lag = Lag(seconds=60.0)
    ec2.fail_next("RunInstances", Fault.lost_reply())
    with pytest.raises(RetryLater):
        make_cloud().launch(make_request("l"))
    make_cloud().launch(make_request("l"))
    assert len(ec2.machines) == 2


def test_who_lost_his_record_finds_the_launch_by_its_tags(ec2, make_cloud, tmp_path):
    ec2.account.capacity[("t3.small", "us-east-1a")] = 0
    settings = {"zones": "us-east-1a, us-east-1b"}
    make_cloud(**settings).launch(make_request("l"))  # in b, as attempt 2
    ec2.account.capacity.clear()
    (tmp_path / "cloud" / "launches.db").unlink()
    make_cloud(**settings).launch(make_request("l"))
    assert len(ec2.machines) == 1


def test_another_body_under_a_known_token_makes_nothing_and_finds_what_was_made(
    ec2, make_cloud, tmp_path
):
    ec2.world.lag = Lag(listings=1)
    make_cloud().launch(make_request("l", count=2))
    (tmp_path / "cloud" / "launches.db").unlink()
    make_cloud().launch(make_request("l", count=2, user_data="changed"))
    assert len(ec2.world.history) == 2
    assert "IdempotentParameterMismatch" in {outcome for _, outcome in ec2.counted()}


def test_ended_machines_are_not_launched_again_whatever_ec2_says_of_their_token(ec2, make_cloud):
    request = make_request("l")
    ec2.fail_next("RunInstances", Fault.lost_reply())
    with pytest.raises(RetryLater):
        make_cloud().launch(request)
    make_cloud().terminate([ec2.machines[0].cloud_id])
    ec2.world.refuses_ended_tokens = True
    make_cloud().launch(request)
    assert not ec2.machines


# ------------------------------------------------------------------ capacity and markets


def test_the_next_candidate_is_taken_when_one_has_no_room(ec2, make_cloud):
    ec2.account.capacity["us-east-1a"] = 0
    cloud = make_cloud(zones="us-east-1a, us-east-1b")
    cloud.launch(make_request("l", count=2))
    assert [(m.zone, m.token) for m in ec2.machines] == [("us-east-1b", "l.2")] * 2
    cloud.launch(make_request("m", count=2))
    assert ec2.machines[-1].token == "m.1", "the zone is skipped for a while, not asked again"


def test_when_nothing_has_room_every_offering_is_named_and_nothing_is_asked_again(ec2, make_cloud):
    ec2.account.capacity.update({"us-east-1a": 0, "us-east-1b": 0})
    cloud, request = make_cloud(zones="us-east-1a, us-east-1b"), make_request("l")
    for _ in range(3):
        with pytest.raises(InsufficientCapacity, match=r"us-east-1a: .*; .*us-east-1b: "):
            cloud.launch(request)
    assert ec2.count("RunInstances") == 2
    assert not ec2.machines


def test_a_quota_is_a_want_of_capacity(ec2, cloud):
    ec2.account.vcpu_quota = 0
    with pytest.raises(InsufficientCapacity, match="VcpuLimitExceeded"):
        cloud.launch(make_request("l"))


def test_a_pool_of_spot_has_its_base_on_demand_first(ec2, make_cloud):
    cloud = make_cloud(market="spot", on_demand_base="2")
    cloud.launch(make_request("a", count=5))
    cloud.launch(make_request("b", count=3))
    assert [m.spot for m in ec2.machines] == [False, False, True, True, True, True, True, True]
    listed = cloud.list_instances(RUN, ["a"])
    assert sorted(one.index for one in listed) == [0, 1, 2, 3, 4]
    assert [m.tags["epu:index-base"] for m in ec2.machines[:5]] == ["0", "0", "2", "2", "2"]


def test_spot_that_has_no_room_may_be_bought_on_demand(ec2, make_cloud):
    ec2.account.spot_quota = 0
    make_cloud(market="spot", on_demand_fallback="true").launch(make_request("l"))
    assert [m.spot for m in ec2.machines] == [False]


def test_a_batch_that_may_be_split_takes_what_room_there_is(ec2, make_cloud):
    ec2.account.capacity["t3.small"] = 7
    cloud, request = make_cloud(split_batches="true"), make_request("l", count=10)
    # Not InsufficientCapacity: that says that nothing was made, and another cloud is asked.
    with pytest.raises(RetryLater, match="a part of the launch was made"):
        cloud.launch(request)
    assert sorted(one.index for one in cloud.list_instances(RUN)) == list(range(7))


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"image": "ami-0aaaaaaaaaaaaaaa0"}, "InvalidAMIID.NotFound"),
        ({"image": "debian"}, "InvalidAMIID.Malformed"),
        ({"type": "huge"}, "InvalidParameterValue"),
        ({"key_name": "mine"}, "InvalidKeyPair.NotFound"),
        ({"security_groups": "web"}, "InvalidGroup.NotFound"),
    ],
)
def test_what_ec2_will_never_accept_is_refused(ec2, make_cloud, settings, code):
    with pytest.raises(LaunchRefused, match=code):
        make_cloud().launch(make_request("l", settings=settings))
    assert not ec2.machines


def test_a_launch_that_says_too_little_is_refused_here(ec2, make_cloud):
    with pytest.raises(LaunchRefused, match="'image' is missing"):
        make_cloud(image="").launch(make_request("l"))
    with pytest.raises(LaunchRefused, match="'type' is missing"):
        make_cloud(type="").launch(make_request("l"))
    with pytest.raises(LaunchRefused, match="did you mean 'image'"):
        make_cloud().launch(make_request("l", settings={"imag": "x"}))
    with pytest.raises(LaunchRefused, match="region: belongs to the cloud"):
        make_cloud().launch(make_request("l", settings={"region": "x"}))
    assert not ec2.count("RunInstances")


def test_a_requests_own_candidates_replace_the_clouds_types(ec2, make_cloud):
    cloud = make_cloud(type="t3.small", zones="us-east-1a")
    cloud.launch(make_request("l", settings={"candidates": "c5.large/us-east-1b"}))
    assert [(m.instance_type, m.zone) for m in ec2.machines] == [("c5.large", "us-east-1b")]


def test_rejected_credentials_are_said_without_showing_them(ec2, make_cloud):
    for settings in ({"access_key": "AKIAWRONG"}, {}):
        if not settings:
            ec2.account.expired.add("AKIATEST")
        with pytest.raises(CredentialsRejected) as rejected:
            make_cloud(**settings).list_instances(RUN)
        assert "topsecret" not in str(rejected.value)
        assert "AKIA" not in str(rejected.value)
    assert "topsecret" not in repr(make_cloud())


def test_credentials_that_are_rejected_after_a_lost_reply_prove_nothing(ec2, cloud):
    request = make_request("l")
    ec2.fail_next("RunInstances", Fault.lost_reply(), Fault.refused("AuthFailure"))
    with pytest.raises(RetryLater):
        cloud.launch(request)
    with pytest.raises(RetryLater, match="may have been: AuthFailure"):
        cloud.launch(request)
    cloud.launch(request)
    assert [machine.token for machine in ec2.world.history] == ["l.1"]


def test_a_first_call_that_is_rejected_leaves_nothing_behind(ec2, cloud):
    ec2.fail_next("RunInstances", Fault.refused("UnauthorizedOperation", status=403))
    with pytest.raises(CredentialsRejected):
        cloud.launch(make_request("l"))
    cloud.launch(make_request("l"))
    assert [machine.token for machine in ec2.world.history] == ["l.1"]


def test_a_clock_that_is_an_hour_off_is_named(ec2, cloud):
    ec2.skew = 3600.0
    with pytest.raises(CredentialsRejected, match="check this machine's clock"):
        cloud.list_instances(RUN)


def test_no_endpoint_is_retried_later(make_cloud):
    cloud = make_cloud(endpoint="http://127.0.0.1:9")
    with pytest.raises(RetryLater, match="EndpointConnectionError"):
        cloud.list_instances(RUN)
    with pytest.raises(RetryLater):
        cloud.launch(make_request("l"))
    with pytest.raises(RetryLater):
        cloud.terminate(["i-00000000000000001"])


def test_an_endpoint_that_hangs_is_given_up_before_the_host_of_the_driver_is(
    ec2, make_cloud, monkeypatch
):
    from coordinator.clouds import ec2 as driver
    from coordinator.clouds import ec2_api, ec2_launch
    from coordinator.provisioner.cloud_process import DEADLINES

    read = ec2_api.CONNECT_TIMEOUT + ec2_api.READ_TIMEOUT
    write = ec2_api.CONNECT_TIMEOUT + ec2_api.WRITE_TIMEOUT
    assert driver.LIST_BUDGET + read < DEADLINES["list_instances"]
    assert driver.LIST_BUDGET + read < DEADLINES["console_output"]
    assert driver.TERMINATE_BUDGET + write < DEADLINES["terminate"]
    assert ec2_launch.BUDGET + write + read < DEADLINES["launch"]

    monkeypatch.setattr(ec2_api, "READ_TIMEOUT", 0.2)
    ec2.hang()
    with pytest.raises(RetryLater, match="ReadTimeout"):
        make_cloud().list_instances(RUN)


# ------------------------------------------------------------------ listing and ending


def test_many_machines_are_listed_page_by_page(ec2, cloud):
    for number in range(3):
        cloud.launch(make_request(f"l{number}", count=500))
    before = ec2.count("DescribeInstances")
    assert len(cloud.list_instances(RUN)) == 1500
    assert ec2.count("DescribeInstances") - before == 2


def test_many_launch_ids_are_asked_for_in_as_many_filters_as_ec2_takes(ec2, cloud):
    cloud.launch(make_request("l7"))
    before = ec2.count("DescribeInstances")
    found = cloud.list_instances(RUN, [f"l{number}" for number in range(450)])
    assert [one.launch_id for one in found] == ["l7"]
    assert ec2.count("DescribeInstances", "ok") - before == 3


def test_a_machine_that_ended_by_itself_is_gone_and_says_why(ec2, cloud):
    cloud.launch(make_request("l"))
    ec2.world.vanish(ec2.machines[0].cloud_id, "Server.SpotInstanceTermination", "outbid")
    [gone] = cloud.list_instances(RUN)
    assert gone.state is MachineState.GONE
    assert "outbid" in gone.problem


def test_the_price_of_a_machine_is_that_of_its_launch(ec2, make_cloud):
    cloud = make_cloud(prices="t3.small=0.02")
    cloud.launch(make_request("l", settings={"prices": "t3.small=0.01"}))
    cloud.launch(make_request("m"))
    assert {o.launch_id: o.price for o in cloud.list_instances(RUN)} == {"l": 0.01, "m": 0.02}


def test_machines_of_other_people_are_not_listed(ec2, cloud, make_cloud):
    make_cloud().launch(make_request("l"))
    ec2.machines[0].tags.pop("epu:launch")
    assert not cloud.list_instances(RUN)


def test_an_unknown_machine_keeps_no_other_from_ending(ec2, cloud):
    cloud.launch(make_request("l", count=5))
    unknown = ["i-0ffffffffffffffff", "i-0fffffffffffffffe"]
    mine = [machine.cloud_id for machine in ec2.machines]
    cloud.terminate([*mine[:2], *unknown, *mine[2:], "nonsense"])
    assert not ec2.machines


def test_a_machine_that_must_not_be_ended_keeps_no_other_from_ending(ec2, cloud, monkeypatch):
    cloud.launch(make_request("l", count=4))
    protected = ec2.machines[2].cloud_id
    end = ec2.world.terminate_instances

    def refuse(query):
        from tests.hard_ec2.query import ApiError

        if protected in query.texts("InstanceId"):
            raise ApiError("OperationNotPermitted", f"The instance '{protected}' is protected")
        return end(query)

    monkeypatch.setattr(ec2.world, "terminate_instances", refuse)
    with pytest.raises(RetryLater, match=protected):
        cloud.terminate([machine.cloud_id for machine in ec2.machines])
    assert [machine.cloud_id for machine in ec2.machines] == [protected]


def test_the_console_is_what_the_machine_printed(ec2, cloud):
    cloud.launch(make_request("l"))
    ec2.machines[0].console = "login: ü\n"
    assert cloud.console_output(ec2.machines[0].cloud_id) == "login: ü\n"
    assert cloud.console_output("i-0ffffffffffffffff") is None


# ------------------------------------------------------------------ the record


def test_the_record_is_private_and_holds_no_secret(ec2, cloud, tmp_path):
    ec2.fail_next("RunInstances", Fault.lost_reply())
    with pytest.raises(RetryLater):
        cloud.launch(make_request("l", user_data="token: enrol-me"))
    for path in (tmp_path / "cloud").iterdir():
        assert path.stat().st_mode & 0o077 == 0
        for secret in (b"topsecret", b"AKIATEST", b"enrol-me"):
            assert secret not in path.read_bytes()


def test_nothing_is_launched_that_can_not_be_written_down_first(ec2, make_cloud, tmp_path):
    (tmp_path / "cloud").write_text("no directory")
    with pytest.raises(RetryLater, match="on record"):
        make_cloud().launch(make_request("l"))
    assert not ec2.count("RunInstances")


def test_nobody_is_asked_and_nothing_written_before_the_first_call(ec2, cloud, tmp_path):
    assert not ec2.calls
    assert not os.path.exists(tmp_path / "cloud")


def test_wrong_settings_are_all_named_at_once(make_cloud):
    with pytest.raises(ConfigProblem) as wrong:
        make_cloud(market="sport", regoin="x", endpoint="nowhere")
    assert {problem.key for problem in wrong.value.problems} == {"market", "regoin", "endpoint"}


def test_without_any_credentials_the_message_says_where_to_give_them(make_cloud, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    cloud = make_cloud(access_key="", secret_key="")
    with pytest.raises(CredentialsRejected, match="give access_key and secret_key"):
        cloud.list_instances(RUN)
    with pytest.raises(CredentialsRejected, match="profile"):
        make_cloud(access_key="", secret_key="", profile="nobody").launch(make_request("l"))


def test_a_run_whose_name_is_a_pattern_has_no_machines_of_others(ec2, cloud):
    cloud.launch(make_request("l"))
    assert not cloud.list_instances("run-*")
    assert not cloud.list_instances(RUN, ["?"])


def test_a_broken_file_of_awss_own_is_a_problem_of_the_settings(tmp_path, monkeypatch):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "config").write_text("[default\nregion")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with pytest.raises(ConfigProblem, match="Unable to parse config file"):
        Ec2Cloud.from_settings({"image": IMAGE}, tmp_path)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    with pytest.raises(ConfigProblem, match="region: is missing"):
        Ec2Cloud.from_settings({"image": IMAGE}, tmp_path)
