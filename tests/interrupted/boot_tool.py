"""T1 for the boot tool: killed at every record write and every cloud call, once per point.

The points are found by tracing one run that is not interrupted; then the same is done once
for each point with the process dying there. What is judged is the world: which machines run
in the end. Time is simulated, so that listings may lag without anybody waiting.
"""

from __future__ import annotations

import copy
import shutil
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from bootlevels.api import Run
from bootlevels.cloud_drivers import CloudDrivers
from bootlevels.moments import Outcome
from bootlevels.plan_choices import PlanChoices
from bootlevels.run_changes import plan_to_reload, reload_run
from bootlevels.run_history import clean, history_of
from coordinator.clouds.in_memory import InMemoryCloud, InMemorySettings
from coordinator.errors import NotFound

PLAN = """
    plan: site
    globals: {size: small}
    clouds: {there: {driver: in_memory}}
    defaults: {timeout: 60s}
    levels:
      - services:
          db: {cloud: there, transport: none}
          store: {cloud: there, transport: none, settings: {type: "${global.size}"}}
      - services:
          web: {cloud: there, transport: none, settings: {peer: "${db.private_ip}"}}
          spare: {cloud: there, transport: none}
"""
#: Seconds: none, one poll and two polls of the boot tool. What one poll's lag can break two can:
#: the extremes are enumerated always, and what lies between them in the long tests.
LAGS = [
    pytest.param(0.0, id="no lag"),
    pytest.param(1.0, id="one poll", marks=pytest.mark.soak),
    pytest.param(2.0, id="two polls"),
]
SERVICES = ["db", "spare", "store", "web"]
RELOADED = PLAN.replace("          store:", "          cache:").replace("peer:", "other:")


class Crash(BaseException):
    """kill -9: nothing in the product may catch it."""


class Points:
    """Counts the moments at which the process can die, and dies in one of them.

    Who is dead does nothing any more: every later point of that process is the end too.
    """

    def __init__(self) -> None:
        self.seen = 0
        self.die_at: int | None = None
        self.died = False
        self.is_dead = False

    def reach(self) -> None:
        if self.is_dead:
            raise Crash
        self.seen += 1
        if self.seen - 1 == self.die_at:
            self.died = self.is_dead = True
            raise Crash


class SimulatedTime:
    """In place of the module ``time``: passes only when somebody waits."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


class SimulatedStop(Event):
    """An Event whose waiting lets simulated time pass."""

    def __init__(self, time: SimulatedTime) -> None:
        super().__init__()
        self._time = time

    def wait(self, timeout: float | None = None) -> bool:
        self._time.now += timeout or 0.0
        return self.is_set()


class WatchedCloud:
    """The cloud, with a point before each call and one after it, if it acted."""

    user_data_form = "agent-config"
    batches = True

    def __init__(self, cloud: InMemoryCloud, points: Points) -> None:
        self._cloud = cloud
        self._points = points
        self.consistency_window = cloud.consistency_window

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            self._points.reach()
            answer = getattr(self._cloud, method)(*args)
            if method != "list_instances":  # after it the world is as before it
                self._points.reach()
            return answer

        return call


class Life:
    """One run in one cloud; the process that boots it may die and others follow."""

    def __init__(self, directory: Path, time: SimulatedTime, points: Points, lag: float) -> None:
        self.home = directory / "home"
        self.plan = directory / "plan.yaml"
        directory.mkdir(parents=True)
        self.plan.write_text(textwrap.dedent(PLAN))
        self.time = time
        self.points = points
        settings = InMemorySettings(lag=lag, gone_listed_for=5.0)
        self.cloud = InMemoryCloud(settings, lambda: time.now)
        self._lag = lag
        self._now = time.now

    def keep(self) -> None:
        """Remember which time it is, for lives that go on from here."""
        self._now = self.time.now

    def again(self, directory: Path) -> Life:
        """Another life in which the same has happened, and at the same time, as when it was kept.

        The run's files hold no path of theirs.
        """
        life = Life(directory, self.time, self.points, self._lag)
        shutil.rmtree(directory)
        shutil.copytree(self.plan.parent, directory)
        apart = ("_lock", "_clock")
        world = {name: one for name, one in vars(self.cloud).items() if name not in apart}
        vars(life.cloud).update(copy.deepcopy(world))
        self.time.now = self._now
        return life

    def _with_drivers(self, run: Run) -> Run:
        settings: Callable[[str], Mapping[str, str]] = lambda _: {}  # noqa: E731
        watched = WatchedCloud(self.cloud, self.points)
        run.drivers = CloudDrivers(settings, run.directory, {"there": watched})  # type: ignore[dict-item]
        return run

    @property
    def run(self) -> Run:
        """The run as a new process opens it. Raises NotFound."""
        return self._with_drivers(Run.open("site", self.home))

    @property
    def stop(self) -> Event:
        return SimulatedStop(self.time)

    # ------------------------------------------------------------ commands

    def boot(self) -> Outcome:
        run = self._with_drivers(Run.prepare(self.plan, home=self.home))
        return run.boot(stop=self.stop)

    def boot_early(self) -> Outcome:
        run = self._with_drivers(Run.prepare(self.plan, home=self.home))
        return run.boot(stop=self.stop, early=True)

    def repair(self) -> Outcome:
        try:
            return self.run.repair(stop=self.stop)
        except NotFound:
            return self.boot()  # it died before there was a run

    def terminate(self) -> Outcome:
        try:
            return self.run.terminate(stop=self.stop)
        except NotFound:
            return Outcome()

    def reload(self) -> Outcome:
        self.plan.write_text(textwrap.dedent(RELOADED))
        run = self.run
        _, wanted = plan_to_reload(run, self.plan, PlanChoices())
        return reload_run(run, wanted, stop=self.stop)[1]

    # ------------------------------------------------------------ the world

    def lose(self, service: str) -> None:
        """The machine of ``service`` ends by itself, and everybody can see it."""
        for machine in self.cloud.machines:
            if machine.request.pool == service:
                self.cloud.vanish(machine.cloud_id)
        self.time.now += 10.0

    @property
    def alive(self) -> list[str]:
        """Services of the machines that really run."""
        return sorted(machine.request.pool for machine in self.cloud.machines)


Command = Callable[[Life], Outcome]


def nothing(_: Life) -> None:
    return


def booted(life: Life) -> None:
    assert life.boot().ok


def broken(life: Life) -> None:
    booted(life)
    life.lose("db")


def reloaded(life: Life) -> None:
    booted(life)


def whole(life: Life) -> None:
    """Every service stands on one machine, and nothing else runs."""
    run = life.run
    services = sorted(service.spec.name for service in run.services())
    assert life.alive == services
    status = run.status()
    assert status.ok, status
    assert clean(run, stop=life.stop) == [], "something was left to be cleaned"
    peers = [m.request.settings for m in life.cloud.machines if m.request.pool == "web"]
    address = run.attributes("db")["private_ip"]
    assert address in peers[0].values(), "web was launched for a db that is gone"


def gone(life: Life) -> None:
    assert life.alive == []
    assert all(one.state == "GONE" for one in history_of(life.run) if one.kind == "machine")


def maybe_gone(life: Life) -> None:
    try:
        gone(life)
    except NotFound:
        assert life.alive == []


#: What happens before, what is interrupted, what is done then, and how the world must be.
Scenario = tuple[Callable[[Life], None], Command, Command, Callable[[Life], None]]


def problems_of(
    scenario: Scenario, directory: Path, time: SimulatedTime, points: Points, lag: float
) -> list[tuple[int, str]]:
    """The points at which the process must not have died, each with what went wrong."""
    before, interrupted, then, judge = scenario
    problems: list[tuple[int, str]] = []
    points.die_at, points.died, points.is_dead = None, False, False
    kept = Life(directory / "before", time, points, lag)
    before(kept)
    kept.keep()
    die_at, last = -1, 0
    while die_at < last:
        life = kept.again(directory / str(die_at))
        points.seen, points.died = 0, False
        points.die_at = die_at if die_at >= 0 else None
        try:
            assert interrupted(life).ok
            if die_at < 0:
                last = points.seen
                assert last > 10, "the trace found no points"
        except Crash:
            pass
        if die_at >= 0 and not points.died:
            problems.append((die_at, "was never reached"))
        points.die_at, points.is_dead = None, False
        try:
            outcome = then(life) if points.died or then is Life.terminate else Outcome()
            assert outcome.ok, outcome
            judge(life)
        except AssertionError as found:
            problems.append((die_at, str(found).splitlines()[0]))
        die_at += 1
    return problems
