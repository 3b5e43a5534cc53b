"""The gate in front of EC2: nobody asks faster than EC2 answers, and deletes go first."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping

from coordinator.clouds.ec2_errors import Ec2Failure, Meaning
from coordinator.clouds.ec2_rates import Bucket, Family, initial_buckets


class Pacing:
    """One for all threads of a driver. ``clock`` is steady, s; ``buckets``: how to begin."""

    def __init__(
        self, clock: Callable[[], float], buckets: Mapping[Family, Bucket] | None = None
    ) -> None:
        self._clock = clock
        self._buckets = dict(buckets or initial_buckets(clock()))
        self._waiting: Counter[Family] = Counter()
        self._changed = threading.Condition()

    def take(self, family: Family, deadline: float) -> None:
        """Wait until a call may be made. Raises Ec2Failure when that is not before ``deadline``.

        Launches also wait while a termination does.
        """
        with self._changed:
            self._waiting[family] += 1
            try:
                while True:
                    now = self._clock()
                    wait = self._buckets[family].wait(now)
                    behind = family is Family.RUN and self._waiting[Family.TERMINATE] > 0
                    if wait <= 0 and not behind:
                        self._buckets[family] = self._buckets[family].taken(now)
                        return
                    left = deadline - now
                    if wait > left or left <= 0:
                        what = f"we ask EC2 to {family.value} as fast as it lets us"
                        raise Ec2Failure(Meaning.UNSENT, "OwnRateLimit", what)
                    self._changed.wait(left if behind else min(wait, left))
            finally:
                self._waiting[family] -= 1
                self._changed.notify_all()

    def throttled(self, family: Family) -> None:
        """EC2 refused a call as one too many."""
        with self._changed:
            self._buckets[family] = self._buckets[family].throttled(self._clock())

    def waiting(self, family: Family) -> int:
        """How many wait for their turn."""
        with self._changed:
            return self._waiting[family]

    def bucket(self, family: Family) -> Bucket:
        """How things stand now."""
        with self._changed:
            return self._buckets[family].later(self._clock())
