"""T1 for a launch on EC2: killed before and after every write and call, one machine an index."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator.clouds.ec2_api import Ec2Api
from coordinator.clouds.ec2_launch import Launches
from coordinator.clouds.ec2_pacing import Pacing
from coordinator.clouds.ec2_rates import Bucket, Family
from coordinator.clouds.ec2_record import LaunchRecord
from coordinator.clouds.ec2_settings import Ec2Account, read_machine
from coordinator.errors import RetryLater
from coordinator.testing import FakeClock, make_request
from tests.hard_ec2 import Chaos, Fault, HardEc2, Lag
from tests.hard_ec2.account import IMAGE

#: A base on demand, the first zone full: three calls, the first of which makes nothing.
MACHINE = read_machine(
    {
        "image": IMAGE,
        "candidates": "t3.small/us-east-1a, t3.small/us-east-1b",
        "market": "spot",
        "on_demand_base": "1",
    },
    {},
)
REQUEST = make_request("l", run="r", count=4)
WINDOW = 30.0


class Killed(BaseException):
    """As kill -9: nothing that follows is done."""


class Kill:
    """Kills at the ``at``-th point; counts them when ``at`` is None."""

    def __init__(self, at: int | None) -> None:
        self.at = at
        self.points = 0

    def __call__(self) -> None:
        self.points += 1
        if self.points - 1 == self.at:
            raise Killed

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def killed(*arguments: Any, **named: Any) -> Any:
            self()
            result = function(*arguments, **named)
            self()
            return result

        return killed


@pytest.fixture(scope="module")
def endpoint() -> Iterator[HardEc2]:
    with HardEc2(FakeClock(), seed=3) as ec2:
        yield ec2


@pytest.fixture(scope="module")
def api(endpoint: HardEc2) -> Ec2Api:
    account = Ec2Account(
        endpoint=endpoint.url,
        access_key="AKIATEST",
        secret_key="x",
        consistency_window=WINDOW,
    )
    fast = {family: Bucket.filled(1e6, 1e6, 0.0) for family in Family}
    return Ec2Api(account, "us-east-1", Pacing(time.monotonic, fast))


class World:
    """One run of the launch after another, each as in a process of its own."""

    def __init__(self, endpoint: HardEc2, api: Ec2Api, directory: Path) -> None:
        self.ec2, self.api, self.directory = endpoint, api, directory
        self.clock = FakeClock()
        endpoint.forget(self.clock)
        endpoint.account.capacity = {"us-east-1a": 0}
        endpoint.world.lag = Lag(listings=2)

    def launches(self, kill: Kill | None = None) -> Launches:
        record = LaunchRecord(self.directory)
        made = Launches(self.api, record, self.clock, steady=self.clock)
        if kill is not None:
            killing = _KillingApi(self.api, kill)
            for name in ("begin", "write", "finish"):
                setattr(record, name, kill.around(getattr(record, name)))
            made._api = killing  # type: ignore[assignment]
        return made

    def converge(self) -> None:
        """Repeat it as the provisioner would, until it is accepted."""
        for _ in range(40):
            try:
                self.launches().make(REQUEST, MACHINE)
                return
            except RetryLater:
                self.clock.advance(5.0)
        raise AssertionError("never accepted")

    @property
    def indexes(self) -> list[int]:
        machines = self.ec2.world.history
        return sorted(int(m.tags["epu:index-base"]) + m.index for m in machines)


class _KillingApi:
    """The API of a process that is killed before or after one of its calls."""

    def __init__(self, api: Ec2Api, kill: Kill) -> None:
        self.account = api.account
        self.instances = kill.around(api.instances)
        self.call = kill.around(api.call)


def points(endpoint: HardEc2, api: Ec2Api, directory: Path) -> int:
    kill = Kill(None)
    World(endpoint, api, directory).launches(kill).make(REQUEST, MACHINE)
    return kill.points


def test_a_launch_that_is_killed_anywhere_has_one_machine_for_each_index(
    endpoint: HardEc2, api: Ec2Api, tmp_path: Path
) -> None:
    number = points(endpoint, api, tmp_path / "traced")
    assert number > 20
    for point in range(number):
        world = World(endpoint, api, tmp_path / f"{point}")
        with pytest.raises(Killed):
            world.launches(Kill(point)).make(REQUEST, MACHINE)
        world.converge()
        assert world.indexes == [0, 1, 2, 3], f"killed at point {point} of {number}"


def test_killed_anywhere_with_replies_lost_too(
    endpoint: HardEc2, api: Ec2Api, tmp_path: Path
) -> None:
    number = points(endpoint, api, tmp_path / "traced")
    for point in range(number):
        world = World(endpoint, api, tmp_path / f"{point}")
        endpoint.fail_next("RunInstances", Fault.lost_reply(), Fault.broken(503))
        with pytest.raises((Killed, RetryLater)):
            world.launches(Kill(point)).make(REQUEST, MACHINE)
        world.converge()
        assert world.indexes == [0, 1, 2, 3], f"killed at point {point} of {number}"


@pytest.mark.parametrize("seed", range(6))
def test_chaos_makes_no_machine_twice(
    endpoint: HardEc2, api: Ec2Api, tmp_path: Path, seed: int
) -> None:
    world = World(endpoint, api, tmp_path)
    endpoint.reseed(seed)
    endpoint.script.chaos = Chaos(lose_replies=0.3, errors_before=0.2, errors_after=0.2)
    world.converge()
    assert world.indexes == [0, 1, 2, 3]


def test_without_tokens_a_lost_reply_makes_machines_twice(
    endpoint: HardEc2, api: Ec2Api, tmp_path: Path
) -> None:
    """The test of the tests: what is asserted above would be seen to fail."""
    world = World(endpoint, api, tmp_path)
    endpoint.world.honours_tokens = False
    endpoint.fail_next("RunInstances", Fault.lost_reply(), Fault.lost_reply())
    world.converge()
    assert world.indexes == [0, 0, 1, 2, 3]
