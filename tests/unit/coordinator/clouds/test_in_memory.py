from collections import Counter

import pytest

from coordinator.clouds.base import MachineState
from coordinator.clouds.in_memory import InMemoryCloud, InMemorySettings
from coordinator.errors import (
    ConfigProblem,
    CredentialsRejected,
    InsufficientCapacity,
    RetryLater,
)
from coordinator.testing import FakeClock, make_request

RUN = "run-1"


@pytest.fixture
def clock():
    return FakeClock()


def make_cloud(clock, **settings):
    return InMemoryCloud(InMemorySettings(**{"lag": 0.0, **settings}), clock)


def ids(listing):
    return [machine.cloud_id for machine in listing]


def test_a_launch_is_real_at_once_and_listed_after_the_lag(clock):
    cloud = make_cloud(clock, lag=5.0)
    cloud.launch(make_request())
    assert len(cloud.machines) == 1
    clock.advance(4.9)
    assert not cloud.list_instances(RUN)
    clock.advance(0.1)
    assert ids(cloud.list_instances(RUN)) == ids(cloud.machines)


def test_an_end_is_listed_after_the_lag_as_gone_and_later_not_at_all(clock):
    cloud = make_cloud(clock, lag=5.0, gone_listed_for=60.0)
    cloud.launch(make_request())
    clock.advance(10)
    cloud.terminate(ids(cloud.machines))
    assert not cloud.machines
    assert [m.state for m in cloud.list_instances(RUN)] == [MachineState.RUNNING]
    clock.advance(5)
    assert [m.state for m in cloud.list_instances(RUN)] == [MachineState.GONE]
    clock.advance(60)
    assert not cloud.list_instances(RUN)
    assert [machine.ended_at for machine in cloud.history] == [clock.now - 65]


def test_it_lags_by_default():
    assert InMemoryCloud().consistency_window > 0


def test_listings_of_many_replicas_go_backwards_within_the_lag_and_never_beyond(clock):
    cloud = make_cloud(clock, lag=10.0, backwards=True)
    cloud.launch(make_request())
    clock.advance(5)
    seen = [len(cloud.list_instances(RUN)) for _ in range(50)]
    assert (1, 0) in set(zip(seen, seen[1:], strict=False))
    clock.advance(5)
    assert all(cloud.list_instances(RUN) for _ in range(50))


def test_without_replicas_a_listing_never_goes_backwards_even_if_the_clock_does(clock):
    cloud = make_cloud(clock, lag=5.0)
    cloud.launch(make_request())
    clock.advance(5)
    assert cloud.list_instances(RUN)
    clock.advance(-3600)
    assert cloud.list_instances(RUN)


def test_blinking_omits_live_machines_from_some_listings_only(clock):
    cloud = make_cloud(clock, blink=0.3, seed=1)
    cloud.launch(make_request(count=10))
    counts = Counter(len(cloud.list_instances(RUN)) for _ in range(100))
    assert len(counts) > 1
    assert len(cloud.machines) == 10


def test_a_lost_reply_has_acted(clock):
    cloud = make_cloud(clock, lose_replies=1.0)
    with pytest.raises(RetryLater):
        cloud.launch(make_request())
    [machine] = cloud.machines
    with pytest.raises(RetryLater):
        cloud.terminate([machine.cloud_id])
    assert not cloud.machines


@pytest.mark.parametrize(("honours_launch_id", "machines"), [(True, 1), (False, 2)])
def test_a_repeat_after_a_lost_reply_doubles_only_without_idempotency(
    clock, honours_launch_id, machines
):
    cloud = make_cloud(clock, honours_launch_id=honours_launch_id)
    cloud.fail_next("launch", RetryLater("time-out"), after_acting=True)
    with pytest.raises(RetryLater):
        cloud.launch(make_request())
    cloud.launch(make_request())
    assert len(cloud.machines) == machines


def test_errors_on_request_come_in_order_once_each_and_do_nothing(clock):
    cloud = make_cloud(clock)
    cloud.fail_next("launch", CredentialsRejected("no"), InsufficientCapacity("full"))
    with pytest.raises(CredentialsRejected):
        cloud.launch(make_request())
    with pytest.raises(InsufficientCapacity):
        cloud.launch(make_request())
    assert not cloud.machines
    cloud.launch(make_request())
    assert len(cloud.machines) == 1
    assert cloud.calls == ["launch"] * 3


def test_capacity_is_all_or_nothing_and_comes_back(clock):
    cloud = make_cloud(clock, capacity=3)
    cloud.launch(make_request("a", count=2))
    with pytest.raises(InsufficientCapacity):
        cloud.launch(make_request("b", count=2))
    assert len(cloud.machines) == 2
    cloud.vanish(cloud.machines[0].cloud_id)
    cloud.launch(make_request("b", count=2))
    assert len(cloud.machines) == 3


def test_throttling_refuses_beyond_the_burst_and_recovers_with_time(clock):
    cloud = make_cloud(clock, throttle=2.0, burst=3)
    for _ in range(3):
        cloud.list_instances(RUN)
    with pytest.raises(RetryLater, match="throttled"):
        cloud.list_instances(RUN)
    cloud.terminate([])  # a bucket of its own
    clock.advance(0.5)
    cloud.list_instances(RUN)
    with pytest.raises(RetryLater):
        cloud.list_instances(RUN)


def test_prices_are_listed_by_type(clock):
    cloud = make_cloud(clock, price=0.1, prices={"large": 0.4})
    cloud.launch(make_request("a"))
    cloud.launch(make_request("b", settings={"type": "large"}))
    assert [machine.price for machine in cloud.list_instances(RUN)] == [0.1, 0.4]


def test_a_machine_boots_for_its_time(clock):
    cloud = make_cloud(clock, boot_time=30.0)
    cloud.launch(make_request())
    assert [m.state for m in cloud.list_instances(RUN)] == [MachineState.PENDING]
    clock.advance(30)
    assert [m.state for m in cloud.list_instances(RUN)] == [MachineState.RUNNING]


def test_the_same_seed_misbehaves_the_same(clock):
    def story(seed):
        cloud = make_cloud(clock, blink=0.5, seed=seed)
        cloud.launch(make_request(count=8))
        return [ids(cloud.list_instances(RUN)) for _ in range(10)]

    assert story(3) == story(3)
    assert story(3) != story(4)


def test_what_a_machine_says_is_on_its_console(clock):
    cloud = make_cloud(clock)
    cloud.launch(make_request())
    [machine] = cloud.machines
    cloud.say(machine.cloud_id, "kernel panic\n")
    assert cloud.console_output(machine.cloud_id) == "kernel panic\n"
    assert cloud.console_output("m-999999") is None


def test_settings_are_read_from_text(tmp_path):
    cloud = InMemoryCloud.from_settings({"lag": "2.5", "capacity": "7", "seed": "1"}, tmp_path)
    assert cloud.consistency_window == 2.5
    assert cloud.settings.capacity == 7


def test_wrong_settings_are_all_named(tmp_path):
    with pytest.raises(ConfigProblem) as problem:
        InMemoryCloud.from_settings({"lagg": "2", "blink": "often"}, tmp_path)
    assert {p.key for p in problem.value.problems} == {"lagg", "blink"}
