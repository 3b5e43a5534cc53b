"""The libcloud driver where the contract does not look: lost answers, errors, settings."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from libcloud.compute.base import NodeImage

from bootlevels.classic_iaas import cloud_settings
from coordinator.clouds.base import LaunchRequest
from coordinator.clouds.libcloud import LibcloudCloud
from coordinator.clouds.libcloud_terms import LibcloudSettings, failure, machine_name, read_name
from coordinator.errors import (
    ConfigProblem,
    CredentialsRejected,
    EpuError,
    InsufficientCapacity,
    LaunchRefused,
    NotFound,
    RetryLater,
)
from coordinator.testing import FakeClock, make_request
from tests.hard_ec2 import Fault, HardEc2, Lag
from tests.hard_ec2.account import IMAGE

WINDOW = 20.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def ec2(clock: FakeClock) -> Iterator[HardEc2]:
    with HardEc2(clock) as found:
        yield found


@pytest.fixture
def driver(ec2: HardEc2, clock: FakeClock, tmp_path: Path) -> LibcloudCloud:
    return driver_of(ec2, clock, tmp_path)


def driver_of(ec2: HardEc2, clock: FakeClock, state_dir: Path, **changes: Any) -> LibcloudCloud:
    given = {
        "provider": "ec2",
        "access_key": "AKIATEST",
        "secret_key": "very-secret",
        "endpoint": ec2.url,
        "consistency_window": WINDOW,
        **changes,
    }
    return LibcloudCloud(LibcloudSettings(**given), state_dir, clock=clock)


def wanted(**changes: Any) -> LaunchRequest:
    return make_request(settings={"image": IMAGE, "type": "c5.large"}, **changes)


def repeat(driver: LibcloudCloud, request: LaunchRequest, clock: FakeClock) -> None:
    """Until it succeeds, as the provisioner does."""
    for _ in range(20):
        try:
            driver.launch(request)
            return
        except RetryLater:
            clock.advance(5)
    raise AssertionError("it never succeeded")


@pytest.mark.parametrize(
    "fault",
    [Fault.lost_reply(), Fault.dropped(), Fault.broken(), Fault.broken(500, after_acting=True)],
    ids=["lost", "dropped", "broken before", "broken after"],
)
@pytest.mark.parametrize("honours_tokens", [True, False], ids=["tokens", "no tokens"])
def test_whatever_is_lost_there_is_one_machine_for_each_index(
    ec2: HardEc2, driver: LibcloudCloud, clock: FakeClock, fault: Fault, honours_tokens: bool
) -> None:
    ec2.world.honours_tokens = honours_tokens
    ec2.world.lag = Lag(seconds=WINDOW)
    ec2.fail_next("RunInstances", fault)
    request = wanted(count=2)
    repeat(driver, request, clock)
    clock.advance(WINDOW)
    shown = driver.list_instances("run-1")
    assert sorted(one.index for one in shown) == [0, 1]
    assert {one.cloud_id for one in shown} == {one.cloud_id for one in ec2.world.history}


def test_a_driver_that_died_before_its_record_finds_its_machine_again(
    ec2: HardEc2, driver: LibcloudCloud, clock: FakeClock, tmp_path: Path
) -> None:
    ec2.world.honours_tokens = False
    driver.launch(wanted())
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    again = driver_of(ec2, clock, tmp_path)
    again.launch(wanted())
    [machine] = again.list_instances("run-1")
    assert (machine.pool, machine.launch_id, machine.index) == ("sleepers", "launch-1", 0)
    assert [machine.cloud_id] == [one.cloud_id for one in ec2.world.history]


def test_a_machine_carries_tags_and_its_user_data(ec2: HardEc2, driver: LibcloudCloud) -> None:
    driver.launch(wanted(user_data="#cloud-config\n{}\n"))
    [machine] = ec2.machines
    assert machine.user_data == b"#cloud-config\n{}\n"
    assert machine.tags["epu:run"] == "run-1"
    assert machine.tags["epu:launch"] == "launch-1"


def test_a_strangers_machine_is_neither_listed_nor_ended(
    ec2: HardEc2, driver: LibcloudCloud
) -> None:
    driver.launch(wanted())
    stranger = driver._connect()
    size = next(one for one in stranger.list_sizes() if one.id == "c5.large")
    node = stranger.create_node(
        name="theirs", size=size, image=NodeImage(id=IMAGE, name="", driver=stranger)
    )
    driver.terminate([node.id])
    assert len(ec2.machines) == 2
    assert len(driver.list_instances("run-1")) == 1


def test_a_full_cloud_and_an_empty_one(
    ec2: HardEc2, driver: LibcloudCloud, clock: FakeClock
) -> None:
    ec2.account.capacity["c5.large"] = 0
    with pytest.raises(InsufficientCapacity):
        driver.launch(wanted())
    ec2.account.capacity.clear()
    driver.launch(wanted())  # at once: nothing was made, and that was proven
    assert len(ec2.machines) == 1


def test_a_launch_of_which_a_part_was_made_is_not_given_to_another_cloud(
    ec2: HardEc2, driver: LibcloudCloud
) -> None:
    ec2.account.capacity["c5.large"] = 1
    with pytest.raises(RetryLater):
        driver.launch(wanted(count=2))
    ec2.account.capacity["c5.large"] = 1
    driver.launch(wanted(count=2))
    assert len(ec2.world.history) == 2


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda ec2: ec2.account.credentials.clear(), CredentialsRejected),
        (lambda ec2: ec2.account.unauthorized.add("RunInstances"), CredentialsRejected),
        (lambda ec2: setattr(ec2, "skew", 3600.0), CredentialsRejected),
        (lambda ec2: ec2.account.images.clear(), LaunchRefused),
        (lambda ec2: setattr(ec2.account, "vcpu_quota", 0), InsufficientCapacity),
        (
            lambda ec2: ec2.fail_next(
                "RunInstances", Fault.refused("RequestLimitExceeded", "", 503)
            ),
            RetryLater,
        ),
    ],
    ids=["keys", "rights", "clock", "image", "quota", "throttle"],
)
def test_an_error_is_named_for_the_next_move(
    ec2: HardEc2,
    driver: LibcloudCloud,
    spoil: Callable[[HardEc2], None],
    error: type[EpuError],
) -> None:
    spoil(ec2)
    with pytest.raises(error) as caught:
        driver.launch(wanted())
    assert "very-secret" not in str(caught.value)
    assert not ec2.machines


def test_an_endpoint_that_hangs_ends_in_retry_later(
    ec2: HardEc2, clock: FakeClock, tmp_path: Path
) -> None:
    driver = driver_of(ec2, clock, tmp_path, timeout=0.3)
    ec2.hang()
    with pytest.raises(RetryLater):
        driver.list_instances("run-1")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"settings": {"type": "c5.large"}}, "image is missing"),
        ({"settings": {"image": IMAGE, "type": "c5.largo"}}, "c5.large"),
        ({"settings": {"image": IMAGE, "typ": "x"}}, "did you mean 'type'"),
        (
            {"settings": {"image": IMAGE, "type": "c5.large", "options": '{"ex_spt": true}'}},
            "ex_spot",
        ),
        ({"settings": {"image": IMAGE, "type": "c5.large", "options": "[]"}}, "JSON object"),
    ],
)
def test_a_machine_that_can_not_be_is_refused_with_a_remedy(
    driver: LibcloudCloud, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(LaunchRefused, match=said):
        driver.launch(make_request(**changes))


def test_user_data_that_would_not_arrive_is_refused(tmp_path: Path) -> None:
    driver = LibcloudCloud(LibcloudSettings(provider="dummy", access_key="0"), tmp_path)
    request = make_request(settings={"image": "1", "type": "1"})
    with pytest.raises(LaunchRefused, match="user-data"):
        driver.launch(request)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({}, "provider"),
        ({"provider": "digitalozean"}, "provider"),
        ({"provider": "ec2", "endpoint": "harbour"}, ""),
        ({"provider": "ec2", "regoin": "x"}, "regoin"),
        ({"provider": "ec2", "arguments": "x"}, ""),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, settings: dict[str, str], key: str) -> None:
    with pytest.raises(ConfigProblem) as caught:
        LibcloudCloud.from_settings(settings, tmp_path)
    assert caught.value.problems[0].key == key


def test_the_iaas_keys_of_a_classic_plan_are_understood(ec2: HardEc2, tmp_path: Path) -> None:
    settings = cloud_settings("libcloud-ec2", ec2.url, "AKIATEST", "secret")
    assert settings.pop("driver") == "libcloud"
    driver = LibcloudCloud.from_settings(settings, tmp_path)
    own = {"image": IMAGE, "type": "c5.large", "key_name": "epu", "security_groups": "default"}
    driver.launch(make_request(settings=own))
    [machine] = ec2.machines
    assert machine.key == "epu"


def test_without_the_library_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "libcloud.compute.providers", None)
    with pytest.raises(ConfigProblem, match=r"pip install epu\[libcloud\]"):
        LibcloudCloud.from_settings({"provider": "ec2"}, tmp_path)


def test_a_name_can_be_read_again_and_fits_everywhere() -> None:
    for launch in ("sleepers-3f2a", "a" * 80, "Über_Pool-1", "x-"):
        name = machine_name("run-1", launch, 12)
        assert len(name) <= 63
        found = read_name([None, "theirs", name])
        assert found and found[0] == name and found[1].number == 12
    assert machine_name("a", "x", 0) != machine_name("b", "x", 0)
    assert read_name(["epu-theirs", 5]) is None


@pytest.mark.parametrize(
    ("kind", "status", "text", "launching", "expected"),
    [
        ("BaseHTTPError", 409, "conflict", True, RetryLater),
        ("BaseHTTPError", 400, "bad flavour", True, LaunchRefused),
        ("BaseHTTPError", 400, "bad flavour", False, RetryLater),
        ("BaseHTTPError", 404, "not found", False, NotFound),
        ("BaseHTTPError", 403, "Quota exceeded for cores", True, InsufficientCapacity),
        ("BaseHTTPError", 403, "Forbidden", True, CredentialsRejected),
        ("ConnectionError", None, "connection reset", True, RetryLater),
        ("AttributeError", None, "no attribute 'text'", True, RetryLater),
    ],
)
def test_errors_of_other_providers(
    kind: str, status: int | None, text: str, launching: bool, expected: type[EpuError]
) -> None:
    assert type(failure(kind, status, text, launching)) is expected
