"""T12: EC2's API budget is a token bucket that others empty, too. Deletes never starve; no storm.

As in production several threads of one driver ask at the same time, each repeats what it was
told to repeat, and the endpoint throttles as Amazon does, or harder.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coordinator.clouds.ec2 import Ec2Cloud
from coordinator.errors import EpuError, RetryLater
from coordinator.testing import make_request
from tests.hard_ec2 import HardEc2
from tests.hard_ec2.account import IMAGE
from tests.hard_ec2.script import Bucket

#: As the host of a driver has them.
LAUNCHERS = 4
THROTTLED = "RequestLimitExceeded"


@pytest.fixture
def ec2() -> Iterator[HardEc2]:
    with HardEc2() as found:
        found.throttle()
        yield found


@pytest.fixture
def cloud(ec2: HardEc2, tmp_path: Path) -> Ec2Cloud:
    settings = {
        "region": "us-east-1",
        "endpoint": ec2.url,
        "access_key": "AKIATEST",
        "secret_key": "secret",
        "image": IMAGE,
        "type": "t3.small",
        "consistency_window": "0",
    }
    return Ec2Cloud.from_settings(settings, tmp_path)


def until_done(act: Callable[[], object]) -> None:
    """Repeat as the provisioner does: after a second, and longer each time."""
    pause = 1.0
    while True:
        try:
            act()
            return
        except RetryLater:
            time.sleep(pause)
            pause = min(2 * pause, 8.0)


class Launchers:
    """Threads that launch ``number`` single machines, each until it is made."""

    def __init__(self, cloud: Ec2Cloud, number: int) -> None:
        self._cloud = cloud
        self._left = [f"l{i}" for i in range(number)]
        self.problems: list[EpuError] = []
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(LAUNCHERS)]
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        while self._left:
            launch_id = self._left.pop()
            try:
                until_done(lambda launch_id=launch_id: self._cloud.launch(make_request(launch_id)))
            except EpuError as problem:
                self.problems.append(problem)

    @property
    def busy(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(90)
        assert not self.busy
        assert not self.problems


def test_deletes_do_not_wait_for_the_launches_that_wait(ec2: HardEc2, cloud: Ec2Cloud) -> None:
    cloud.launch(make_request("old", count=6))
    old = [machine.cloud_id for machine in ec2.machines]
    launchers = Launchers(cloud, 12)  # the bucket has five and fills by two a second
    for cloud_id in old:
        cloud.terminate([cloud_id])
        assert launchers.busy, "launches were done before the deletes"
    launchers.join()
    assert {machine.cloud_id for machine in ec2.machines}.isdisjoint(old)
    assert len(ec2.machines) == 12
    assert ec2.count("TerminateInstances") == 6
    assert ec2.count("RunInstances", THROTTLED) <= 1


def test_a_budget_that_others_use_up_brings_no_storm(ec2: HardEc2, cloud: Ec2Cloud) -> None:
    ec2.script.buckets["RunInstances"] = Bucket(1, 0.8)  # much less than Amazon writes
    launchers = Launchers(cloud, 6)
    launchers.join()
    assert len(ec2.world.history) == 6
    # With back-off by half, each refusal slows what follows: never more in vain than done.
    assert ec2.count("RunInstances", THROTTLED) <= 6


def test_throttled_deletes_come_through(ec2: HardEc2, cloud: Ec2Cloud) -> None:
    cloud.launch(make_request("l", count=4))
    ec2.script.buckets["TerminateInstances"] = Bucket(1, 1)
    for machine in ec2.machines:
        until_done(lambda one=machine.cloud_id: cloud.terminate([one]))
    assert not ec2.machines
    assert ec2.count("TerminateInstances", THROTTLED) <= 4


def test_a_listing_costs_as_many_calls_as_it_has_pages(ec2: HardEc2, cloud: Ec2Cloud) -> None:
    ec2.script.buckets["instances"] = Bucket(2000, 2)
    for number in range(2):
        cloud.launch(make_request(f"l{number}", count=550))
    before = ec2.count("DescribeInstances")
    assert len(cloud.list_instances("run-1")) == 1100
    assert ec2.count("DescribeInstances") - before == 2
