"""The gate in front of EC2: who waits for whom."""

import threading
import time

import pytest

from coordinator.clouds.ec2_errors import Ec2Failure, Meaning
from coordinator.clouds.ec2_pacing import Pacing
from coordinator.clouds.ec2_rates import Bucket, Family
from coordinator.testing import FakeClock, eventually


def test_launches_wait_while_a_termination_does():
    clock = FakeClock(0.0)
    buckets = {family: Bucket.filled(1.0, 1.0, 0.0) for family in Family}
    pacing = Pacing(clock, buckets)
    pacing.take(Family.TERMINATE, 0.0)  # the next one has to wait a second
    ending = threading.Thread(target=pacing.take, args=(Family.TERMINATE, 100.0), daemon=True)
    ending.start()
    eventually(lambda: pacing.waiting(Family.TERMINATE), what="the termination waits")
    with pytest.raises(Ec2Failure) as refused:
        pacing.take(Family.RUN, clock.now)
    assert refused.value.meaning is Meaning.UNSENT
    clock.advance(5.0)
    pacing.take(Family.DESCRIBE, clock.now)  # whoever leaves the gate wakes the others
    ending.join(10.0)
    assert not ending.is_alive()
    pacing.take(Family.RUN, clock.now)


def test_who_would_wait_beyond_his_deadline_is_told_at_once():
    pacing = Pacing(time.monotonic, {f: Bucket.filled(0.001, 1.0, 0.0) for f in Family})
    pacing.take(Family.RUN, time.monotonic() + 60.0)
    began = time.monotonic()
    with pytest.raises(Ec2Failure, match="as fast as it lets us"):
        pacing.take(Family.RUN, time.monotonic() + 60.0)
    assert time.monotonic() - began < 30.0


def test_a_refusal_of_ec2_slows_only_its_own_family():
    clock = FakeClock(0.0)
    pacing = Pacing(clock, {family: Bucket.filled(2.0, 5.0, 0.0) for family in Family})
    pacing.throttled(Family.RUN)
    assert pacing.bucket(Family.RUN).rate == 1.0
    assert pacing.bucket(Family.DESCRIBE).rate == 2.0
