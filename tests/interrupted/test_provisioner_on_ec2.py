"""T1 and chaos for the provisioner on EC2: the real driver, boto3, and hard-mode EC2.

As ``test_provisioner``, whose lives these are; here a process also dies between any two
steps *inside* the driver: each call of EC2 and each write of the driver's own record.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from coordinator.clouds.base import LaunchRequest
from coordinator.clouds.ec2 import Ec2Cloud
from coordinator.store.session import open_store
from coordinator.testing import make_request
from tests.hard_ec2 import Chaos, HardEc2, Lag, Machine
from tests.hard_ec2.account import IMAGE
from tests.interrupted.provisioner_life import (
    POLL,
    Life,
    Points,
    boot,
    booted,
    problems_at_points,
    replace,
    teardown,
)

WINDOW = 2 * POLL
#: The library's client takes a third of a second to make; all drivers of this module share it.
_shared_clients: dict[str, dict[bool, Any]] = {}


@pytest.fixture(scope="module")
def ec2() -> Iterator[HardEc2]:
    with HardEc2(seed=3) as found:
        yield found


@dataclass(frozen=True)
class _Seen:
    """A machine of EC2 as ``Life`` judges it."""

    machine: Machine

    @property
    def request(self) -> LaunchRequest:
        return make_request(self.machine.tags["epu:launch"])

    @property
    def index(self) -> int:
        return self.machine.index

    @property
    def launched_at(self) -> float:
        return self.machine.created.at


class _Cloud:
    """What is asked of ``InMemoryCloud`` in lives: a driver and the world behind it."""

    def __init__(self, ec2: HardEc2, directory: Path, life: Ec2Life, window: float) -> None:
        self.consistency_window = window
        self._ec2 = ec2
        self._directory = directory
        self._life = life
        self._window = window
        self.driver = self.new_driver()

    def new_driver(self) -> Ec2Cloud:
        """What a restarted host is: the record on disk and the account, nothing else."""
        settings = {
            "region": "us-east-1",
            "endpoint": self._ec2.url,
            "access_key": "AKIATEST",
            "secret_key": "secret",
            "image": IMAGE,
            "type": "t3.small",
            "consistency_window": str(self._window),
        }
        driver = Ec2Cloud.from_settings(settings, self._directory)
        api, launches = driver._api, driver._launches
        api._clients = _shared_clients.setdefault(self._ec2.url, {})
        launches._clock = lambda: self._life.now  # type: ignore[assignment]
        api.call = self._watched(api.call)  # type: ignore[method-assign]
        for name in ("begin", "write", "finish"):
            setattr(launches._record, name, self._watched(getattr(launches._record, name)))
        return driver

    def _watched(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._life.points.reach()
            answer = method(*args, **kwargs)
            self._life.points.reach()
            return answer

        return call

    @property
    def machines(self) -> Sequence[_Seen]:
        return [_Seen(one) for one in self._ec2.machines]

    @property
    def history(self) -> Sequence[_Seen]:
        return [_Seen(one) for one in self._ec2.world.history]

    def launch(self, request: LaunchRequest) -> None:
        self.driver.launch(request)

    def list_instances(self, *args: Any) -> Any:
        return self.driver.list_instances(*args)

    def terminate(self, *args: Any) -> None:
        self.driver.terminate(*args)

    def console_output(self, *args: Any) -> Any:
        return self.driver.console_output(*args)


class Ec2Life(Life):
    """One pool's life on EC2, whose world begins empty."""

    def __init__(self, path: Path, die_at: int | None, ec2: HardEc2, window: float = WINDOW):
        self.now = 1_000_000.0
        self.path = path
        self.points = Points(None)
        self.window = None
        self.first_point = 0
        self.accepted: set[str] = set()
        ec2.forget(lambda: self.now)
        self.cloud = _Cloud(ec2, path.with_suffix(".cloud"), self, window)  # type: ignore[assignment]
        self.sent = 0
        self.engine = None
        self.part = self.started()
        self.points = Points(die_at)

    def keep(self, made: int) -> None:
        """Nothing: its world is a server's, and each life has all of it."""

    def started(self) -> Any:
        self.cloud.driver = self.cloud.new_driver()  # type: ignore[attr-defined]
        return super().started()


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "empty.db"
    open_store(path).dispose()
    return path


@pytest.fixture
def new_life(ec2: HardEc2, tmp_path: Path, empty_store: Path) -> Callable[..., Ec2Life]:
    """``new_life(die_at, window=…)``: on an empty account."""
    number = iter(range(1_000_000))

    def make(die_at: int | None = None, window: float = WINDOW) -> Ec2Life:
        path = tmp_path / f"{next(number)}.db"
        shutil.copy(empty_store, path)
        return Ec2Life(path, die_at, ec2, window)

    return make


def problems_of(
    scenario: Callable[[Life], int],
    new_life: Callable[..., Ec2Life],
    prepare: Callable[[], None],
    window: float = WINDOW,
    step: int = 1,
) -> Iterator[tuple[int, str]]:
    """The points, each ``step``-th, at which the process must not have died, and why."""

    def prepared(die_at: int | None) -> Life:
        life = new_life(die_at, window)
        prepare()
        return life

    return problems_at_points(scenario, prepared, step)


SCENARIOS = {"boot": boot, "replace": replace, "teardown": teardown}


def lagging(ec2: HardEc2, **world: Any) -> Callable[[], None]:
    def prepare() -> None:
        ec2.world.lag = Lag(seconds=WINDOW)
        for name, value in world.items():
            setattr(ec2.world, name, value)

    return prepare


@pytest.mark.parametrize(("name", "step"), [("boot", 3), ("replace", 6), ("teardown", 6)])
def test_a_provisioner_killed_at_some_points_leaks_and_doubles_nothing_on_ec2(
    name: str, step: int, ec2: HardEc2, new_life: Callable[..., Ec2Life]
) -> None:
    assert list(problems_of(SCENARIOS[name], new_life, lagging(ec2), step=step)) == []


@pytest.mark.soak
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_provisioner_killed_anywhere_leaks_and_doubles_nothing_on_ec2(
    name: str, ec2: HardEc2, new_life: Callable[..., Ec2Life]
) -> None:
    assert list(problems_of(SCENARIOS[name], new_life, lagging(ec2))) == []


def test_without_client_tokens_a_lagging_listing_doubles_machines(
    ec2: HardEc2, new_life: Callable[..., Ec2Life]
) -> None:
    """The test of the test: with a driver that promises more than listings keep."""
    without = lagging(ec2, honours_tokens=False)
    problems = problems_of(boot, new_life, without, window=0.0, step=2)
    assert any("machines were made for 3 intents" in problem for _, problem in problems)


def everybody_goes(life: Life) -> int:
    """As ``teardown``, judged by records and machines: ``done`` waits for a listing, too."""
    made = booted(life)
    life.part.terminate_all()
    life.until(lambda: not life.machines and {v.state.value for v in life.views} == {"TERMINATED"})
    return made


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("scenario", [replace, everybody_goes], ids=lambda one: one.__name__)
def test_in_whatever_chaos_a_pool_gets_where_it_is_wanted(
    scenario: Callable[[Life], int], seed: int, ec2: HardEc2, new_life: Callable[..., Ec2Life]
) -> None:
    life = new_life()
    ec2.reseed(seed)
    ec2.world.lag = Lag(seconds=WINDOW, backwards=True, blink=0.1)
    ec2.script.chaos = Chaos(lose_replies=0.2, errors_before=0.1, errors_after=0.1)
    assert scenario(life) == len(ec2.world.history)
