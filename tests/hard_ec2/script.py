"""What goes wrong, and what was asked: faults, chaos, token buckets, the log of calls."""

from __future__ import annotations

import random
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from tests.hard_ec2.query import ApiError


class Where(Enum):
    """When a fault strikes: the work was not begun, or it was done and nobody hears of it."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong with one call. ``error`` None: the connection is closed."""

    where: Where
    error: ApiError | None = None

    @classmethod
    def lost_reply(cls) -> Fault:
        """The work is done, then the connection closes without a byte."""
        return cls(Where.AFTER)

    @classmethod
    def dropped(cls) -> Fault:
        """The connection closes and nothing was done."""
        return cls(Where.BEFORE)

    @classmethod
    def refused(cls, code: str, message: str = "scripted", status: int = 400) -> Fault:
        """An error of the API; nothing was done."""
        return cls(Where.BEFORE, ApiError(code, message, status))

    @classmethod
    def broken(cls, status: int = 500, *, after_acting: bool = False) -> Fault:
        """An internal error of the service, before or after it did the work."""
        code = "Unavailable" if status == 503 else "InternalError"
        where = Where.AFTER if after_acting else Where.BEFORE
        return cls(where, ApiError(code, "An internal error has occurred", status))


@dataclass(frozen=True, kw_only=True)
class Chaos:
    """Shares, between 0 and 1, of all calls that are struck at random (seeded)."""

    lose_replies: float = 0.0
    errors_before: float = 0.0
    errors_after: float = 0.0

    def draw(self, chance: float) -> Fault | None:
        """The fault of a call whose ``chance`` is drawn evenly from [0, 1)."""
        for share, fault in (
            (self.lose_replies, Fault.lost_reply()),
            (self.errors_before, Fault.broken(503)),
            (self.errors_after, Fault.broken(500, after_acting=True)),
        ):
            if chance < share:
                return fault
            chance -= share
        return None


@dataclass
class Bucket:
    """A token bucket of ``size`` that fills by ``rate`` each second."""

    size: float
    rate: float
    level: float = field(init=False)
    at: float | None = None

    def __post_init__(self) -> None:
        self.level = self.size

    def take(self, wanted: float, now: float) -> bool:
        """Whether ``wanted`` tokens were there; they are gone then."""
        passed = 0.0 if self.at is None else max(0.0, now - self.at)
        self.at = now
        self.level = min(self.size, self.level + passed * self.rate)
        if self.level < wanted:
            return False
        self.level -= wanted
        return True


def amazons_buckets() -> dict[str, Bucket]:
    """The request limits of EC2's documentation, by family of calls."""
    return {
        "RunInstances": Bucket(5, 2),
        "instances": Bucket(1000, 2),
        "Describe": Bucket(100, 20),
        "TerminateInstances": Bucket(100, 5),
        "other": Bucket(50, 5),
    }


def family(action: str) -> str:
    """The bucket that a call draws from."""
    if action in ("RunInstances", "TerminateInstances"):
        return action
    return "Describe" if action.startswith(("Describe", "Get")) else "other"


@dataclass(frozen=True)
class Call:
    """One call as it was answered; ``outcome`` is ``ok``, an error's code or ``no reply``."""

    action: str
    at: float
    outcome: str


class Script:
    """Faults to come and calls that were. Safe for threads."""

    def __init__(self, clock: Callable[[], float], seed: int) -> None:
        self.chaos = Chaos()
        self.buckets: dict[str, Bucket] = {}
        self.calls: list[Call] = []
        self._clock = clock
        self.chance = random.Random(seed)
        self._next: dict[str, deque[Fault]] = {}
        self._lock = threading.Lock()

    def fail_next(self, action: str, *faults: Fault) -> None:
        with self._lock:
            self._next.setdefault(action, deque()).extend(faults)

    def fault_for(self, action: str) -> Fault | None:
        with self._lock:
            if waiting := self._next.get(action):
                return waiting.popleft()
            return self.chaos.draw(self.chance.random())

    def throttle(self, action: str, instances: int) -> None:
        """Raises ApiError when the family's bucket, or that of instances, is empty."""
        with self._lock:
            now = self._clock()
            wants = [(family(action), 1)]
            if instances:
                wants.append(("instances", instances))
            for name, wanted in wants:
                bucket = self.buckets.get(name)
                if bucket is not None and not bucket.take(wanted, now):
                    raise ApiError("RequestLimitExceeded", "Request limit exceeded.", 503)

    def note(self, action: str, outcome: str) -> None:
        with self._lock:
            self.calls.append(Call(action, self._clock(), outcome))

    def counted(self) -> Counter[tuple[str, str]]:
        """How many calls of each action had each outcome."""
        with self._lock:
            return Counter((call.action, call.outcome) for call in self.calls)
