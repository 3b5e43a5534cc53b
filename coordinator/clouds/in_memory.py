"""The ``in_memory`` cloud: machines that exist only as values, in a world that misbehaves.

It lags, blinks, goes backwards, refuses, loses replies after acting, throttles and runs
out of capacity: on request, or at random from a seed. ``machines`` is what is really
there, ``list_instances`` is what a client gets to see of it. For tests, dry runs and the
simulator; it lags by default, because a listing that is exact hides every defect.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from coordinator.clouds.base import CloudInstance, LaunchRequest, MachineState
from coordinator.errors import EpuError, InsufficientCapacity, LaunchRefused, RetryLater
from coordinator.settings import parse_settings


@dataclass(frozen=True, kw_only=True)
class InMemorySettings:
    """How the world misbehaves. Times in seconds, shares between 0 and 1.

    ``lag``: a change is not in listings before. ``backwards``: every listing draws its own
    lag between 0 and ``lag``, so one may be older than the one before. ``blink``: share of
    live machines that a listing omits. ``lose_replies``: share of launches and
    terminations whose reply is lost after they were done. ``throttle``: calls per second
    of each method beyond ``burst``. ``capacity``: live machines at most. ``price``: per
    machine and hour, unless ``prices`` has the request's setting ``type``.
    ``batch_limit``: machines of one launch at most; with 1 it does not batch.
    ``honours_launch_id`` off shows what repeats do in a cloud without idempotency.
    """

    lag: float = 5.0
    backwards: bool = False
    blink: float = 0.0
    lose_replies: float = 0.0
    throttle: float | None = None
    burst: int = 5
    capacity: int | None = None
    boot_time: float = 0.0
    gone_listed_for: float = 60.0
    price: float | None = None
    prices: dict[str, float] = field(default_factory=dict)
    honours_launch_id: bool = True
    seed: int = 0
    batch_limit: int = 100

    def __post_init__(self) -> None:
        for name in ("lag", "boot_time", "gone_listed_for"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")
        if self.batch_limit < 1:
            raise ValueError("batch_limit must be at least 1")
        for name in ("blink", "lose_replies"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share between 0 and 1")


@dataclass
class SimulatedMachine:
    """One machine of the simulated world. ``ended_at`` is None while it runs."""

    cloud_id: str
    request: LaunchRequest
    index: int
    launched_at: float
    price: float | None = None
    ended_at: float | None = None
    console: str = ""

    @property
    def alive(self) -> bool:
        return self.ended_at is None


@dataclass
class _Bucket:
    """A token bucket: ``level`` calls are free at time ``at``."""

    level: float
    at: float


class InMemoryCloud:
    """A scripted cloud (see the module). Safe for threads.

    Promises, unless its settings or ``fail_next`` say otherwise: launches idempotent in
    launch id, all machines of a launch or none, a change listed after ``lag`` seconds.
    Machines that ended are listed as GONE for ``gone_listed_for`` seconds. Everything is
    forgotten with the object.
    """

    user_data_form = "agent-config"

    def __init__(
        self,
        settings: InMemorySettings | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings or InMemorySettings()
        self.consistency_window = self.settings.lag
        self.batch_limit = self.settings.batch_limit
        self.batches = self.settings.batch_limit > 1
        #: Method names in the order in which they were called, refused calls included.
        self.calls: list[str] = []
        self._clock = clock
        self._random = random.Random(self.settings.seed)
        self._world: dict[str, SimulatedMachine] = {}
        self._launched: dict[str, str] = {}
        self._before: dict[str, deque[EpuError]] = {}
        self._after: dict[str, deque[EpuError]] = {}
        self._buckets: dict[str, _Bucket] = {}
        self._horizon = float("-inf")
        self._lock = threading.RLock()

    @classmethod
    def from_settings(cls, settings: Mapping[str, str], state_dir: Path) -> InMemoryCloud:
        """The keys of InMemorySettings, as text. Raises ConfigProblem."""
        return cls(parse_settings(InMemorySettings, settings))

    # -------------------------------------------------------------- the driver

    def launch(self, request: LaunchRequest) -> None:
        """Create ``request.count`` machines, unless the launch id was used before."""
        with self._lock:
            self._begin("launch")
            if request.count > self.settings.batch_limit:
                raise LaunchRefused(f"at most {self.settings.batch_limit} machines of one launch")
            used_by = self._launched.get(request.launch_id)
            if used_by is not None and used_by != request.run:
                raise LaunchRefused(f"launch id {request.launch_id} was used by another run")
            if used_by is None or not self.settings.honours_launch_id:
                self._create(request)
            self._finish("launch")

    def list_instances(
        self, run: str, launch_ids: Sequence[str] | None = None
    ) -> Sequence[CloudInstance]:
        """The world as it was up to ``lag`` seconds ago, blinking where told to."""
        with self._lock:
            self._begin("list_instances")
            at = self._moment_shown()
            shown = [
                instance
                for machine in self._world.values()
                if machine.request.run == run
                and (launch_ids is None or machine.request.launch_id in launch_ids)
                and (instance := self._seen_at(machine, at)) is not None
                and not (machine.alive and self._random.random() < self.settings.blink)
            ]
            self._finish("list_instances")
            return shown

    def terminate(self, cloud_ids: Sequence[str]) -> None:
        """End these machines."""
        with self._lock:
            self._begin("terminate")
            for cloud_id in cloud_ids:
                self.vanish(cloud_id)
            self._finish("terminate")

    def console_output(self, cloud_id: str) -> str | None:
        """What ``say`` let the machine print; None for an unknown machine."""
        with self._lock:
            self._begin("console_output")
            machine = self._world.get(cloud_id)
            return machine.console if machine else None

    # -------------------------------------------------------------- for whoever scripts it

    @property
    def machines(self) -> list[SimulatedMachine]:
        """What really runs now, oldest first."""
        with self._lock:
            return [machine for machine in self._world.values() if machine.alive]

    @property
    def history(self) -> list[SimulatedMachine]:
        """Every machine that ever was, oldest first."""
        with self._lock:
            return list(self._world.values())

    def vanish(self, cloud_id: str) -> None:
        """The machine ends by itself. Unknown and ended machines stay as they are."""
        with self._lock:
            machine = self._world.get(cloud_id)
            if machine is not None and machine.alive:
                machine.ended_at = self._clock()

    def say(self, cloud_id: str, text: str) -> None:
        """The machine prints ``text`` on its console. Raises KeyError."""
        with self._lock:
            self._world[cloud_id].console += text

    def fail_next(self, method: str, *errors: EpuError, after_acting: bool = False) -> None:
        """The next calls of ``method`` raise ``errors``, one each.

        ``after_acting``: each does its work first, as when the reply is lost.
        """
        with self._lock:
            script = self._after if after_acting else self._before
            script.setdefault(method, deque()).extend(errors)

    # -------------------------------------------------------------- inside

    def _begin(self, method: str) -> None:
        self.calls.append(method)
        if self._before.get(method):
            raise self._before[method].popleft()
        if self.settings.throttle is not None:
            self._take_token(method, self.settings.throttle)

    def _finish(self, method: str) -> None:
        if self._after.get(method):
            raise self._after[method].popleft()
        if method != "list_instances" and self._random.random() < self.settings.lose_replies:
            raise RetryLater(f"the reply to {method} was lost")

    def _take_token(self, method: str, rate: float) -> None:
        now, burst = self._clock(), float(self.settings.burst)
        bucket = self._buckets.setdefault(method, _Bucket(burst, now))
        bucket.level = min(burst, bucket.level + max(0.0, now - bucket.at) * rate)
        bucket.at = now
        if bucket.level < 1:
            raise RetryLater(f"throttled: more than {rate:g} calls of {method} in a second")
        bucket.level -= 1

    def _create(self, request: LaunchRequest) -> None:
        capacity = self.settings.capacity
        if capacity is not None and len(self.machines) + request.count > capacity:
            raise InsufficientCapacity(f"no room for {request.count} more of {capacity} machines")
        self._launched[request.launch_id] = request.run
        price = self.settings.prices.get(request.settings.get("type", ""), self.settings.price)
        for index in range(request.count):
            cloud_id = f"m-{len(self._world) + 1:06d}"
            self._world[cloud_id] = SimulatedMachine(cloud_id, request, index, self._clock(), price)

    def _moment_shown(self) -> float:
        """The moment whose state this listing shows."""
        now, lag = self._clock(), self.settings.lag
        if self.settings.backwards:
            return now - self._random.uniform(0, lag)
        self._horizon = max(self._horizon, now - lag)
        return self._horizon

    def _seen_at(self, machine: SimulatedMachine, at: float) -> CloudInstance | None:
        if machine.launched_at > at:
            return None
        state, problem = MachineState.RUNNING, ""
        if machine.ended_at is not None and machine.ended_at <= at:
            if at - machine.ended_at >= self.settings.gone_listed_for:
                return None
            state, problem = MachineState.GONE, "ended"
        elif at - machine.launched_at < self.settings.boot_time:
            state = MachineState.PENDING
        number = int(machine.cloud_id.removeprefix("m-"))
        return CloudInstance(
            cloud_id=machine.cloud_id,
            run=machine.request.run,
            pool=machine.request.pool,
            launch_id=machine.request.launch_id,
            index=machine.index,
            state=state,
            addresses=(f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",),
            launched_at=machine.launched_at,
            price=machine.price,
            problem=problem,
        )
