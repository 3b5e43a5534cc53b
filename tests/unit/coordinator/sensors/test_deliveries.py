"""How many jobs a node has in hand, from the broker's listings."""

from __future__ import annotations

from typing import Any

from coordinator.sensors.deliveries import InHand


def consumer(node: str, channel: str, queue: str = "jobs", tag: str = "x") -> dict[str, Any]:
    user = f"node-{node}" if node else "shared"
    return {
        "consumer_tag": tag,
        "queue": {"name": queue},
        "channel_details": {"name": channel, "user": user},
    }


def channel(name: str, jobs: int | None) -> dict[str, Any]:
    return {"name": name} if jobs is None else {"name": name, "messages_unacknowledged": jobs}


def jobs_of(in_hand: InHand, node: str, now: float = 1.0) -> int | None:
    return in_hand.of(node, "jobs", now, 3.0).jobs


def test_the_jobs_of_all_copies_count_and_those_of_other_channels_do_not() -> None:
    in_hand = InHand()
    consumers = [consumer("a-0", "1"), consumer("a-0", "2"), consumer("a-0", "rpc", "rpc-agent")]
    in_hand.take(consumers, [channel("1", 1), channel("2", 2), channel("rpc", 9)], {"jobs"}, 1.0)
    assert jobs_of(in_hand, "a-0") == 3


def test_a_worker_that_has_left_the_consumers_still_has_its_job_in_hand() -> None:
    in_hand = InHand()
    in_hand.take([consumer("a-0", "1")], [channel("1", 1)], {"jobs"}, 1.0)
    in_hand.take([], [channel("1", 1)], {"jobs"}, 2.0)
    assert jobs_of(in_hand, "a-0", 2.0) == 1
    in_hand.take([], [], {"jobs"}, 3.0)
    assert jobs_of(in_hand, "a-0", 3.0) is None, "nothing is known of it any more"


def test_what_is_not_known_is_not_idle() -> None:
    in_hand = InHand()
    assert in_hand.of("a-0", "jobs", 0.0, 3.0).busy is None
    in_hand.take([consumer("a-0", "1"), consumer("b-0", "2")], [channel("1", None)], {"jobs"}, 1.0)
    assert "no figures" in in_hand.of("a-0", "jobs", 1.0, 3.0).problem
    assert "no consumer" in in_hand.of("b-0", "jobs", 1.0, 3.0).problem
    in_hand.take([consumer("a-0", "1")], [channel("1", 0)], {"jobs"}, 2.0)
    assert in_hand.of("a-0", "jobs", 2.0, 3.0).busy is False
    assert in_hand.of("a-0", "jobs", 9.0, 3.0).busy is None, "the listing is old"


def test_it_is_busy_since_it_took_the_first_job() -> None:
    in_hand = InHand()
    for now, jobs in ((1.0, 0), (2.0, 1), (3.0, 2), (4.0, 0)):
        in_hand.take([consumer("a-0", "1")], [channel("1", jobs)], {"jobs"}, now)
        since = in_hand.of("a-0", "jobs", now, 3.0).since
        assert since == {1.0: 1.0, 2.0: 2.0, 3.0: 2.0, 4.0: 4.0}[now]


def test_where_all_share_one_account_the_consumer_tag_says_whose_it_is() -> None:
    in_hand = InHand()
    in_hand.take([consumer("", "1", tag="a-0.0.1")], [channel("1", 1)], {"jobs"}, 1.0)
    assert jobs_of(in_hand, "a-0") == 1
