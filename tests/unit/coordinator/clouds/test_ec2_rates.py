"""Token buckets that learn: time is an argument."""

from hypothesis import given
from hypothesis import strategies as st

from coordinator.clouds.ec2_rates import RECOVERY, SLOWEST, Bucket


def test_a_burst_is_free_and_then_calls_come_at_the_rate():
    bucket = Bucket.filled(2.0, 3.0, 0.0)
    for _ in range(3):
        assert bucket.wait(0.0) == 0.0
        bucket = bucket.taken(0.0)
    assert bucket.wait(0.0) == 0.5
    assert bucket.wait(0.5) == 0.0


def test_a_refusal_halves_the_rate_and_time_brings_it_back():
    bucket = Bucket.filled(2.0, 3.0, 0.0).throttled(0.0)
    assert bucket.rate == 1.0
    assert bucket.wait(0.0) == 1.0
    assert bucket.throttled(0.0).rate == 0.5
    assert bucket.later(RECOVERY).rate == 2.0


def test_a_clock_that_steps_back_changes_nothing():
    bucket = Bucket.filled(2.0, 3.0, 100.0).taken(100.0)
    assert bucket.later(50.0) == bucket


@given(st.lists(st.tuples(st.sampled_from(["take", "throttle"]), st.floats(0, 30)), max_size=60))
def test_whatever_happens_no_more_calls_go_out_than_burst_and_rate_allow(steps):
    bucket, now, taken = Bucket.filled(2.0, 5.0, 0.0), 0.0, 0
    for what, pause in steps:
        now += pause
        if what == "throttle":
            bucket = bucket.throttled(now)
        elif bucket.wait(now) == 0.0:
            bucket, taken = bucket.taken(now), taken + 1
        assert 2.0 * SLOWEST <= bucket.rate <= 2.0
        assert 0.0 <= bucket.level <= 5.0
        assert bucket.wait(now) <= 1 / (2.0 * SLOWEST)
    assert taken <= 5 + 2.0 * now
