"""T1 for the provisioner: killed at every store write and every cloud call, once per point.

The points are found by tracing one run that is not interrupted. What is judged is the
world: which machines run in the end, and how many were ever made.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from agent.messages import (
    Command,
    CommandBatch,
    DrainInstance,
    LaunchInstances,
    NodeRole,
    ReadyReport,
    TerminateInstance,
)
from agent.rpc_client import UnknownService
from coordinator.clouds.in_memory import InMemoryCloud, InMemorySettings
from coordinator.config import CoordinatorConfig
from coordinator.errors import NotFound
from coordinator.events import EventLog
from coordinator.provisioner.launcher import Launcher
from coordinator.provisioner.provisioner import Provisioner
from coordinator.store.session import open_store

POOL = "sleeper"
POLL = 5.0
#: Polls by which listings lag. What a lag of one can break one of two can: the extremes are
#: enumerated always, and what lies between them in the long tests.
LAGS = [0, pytest.param(1, marks=pytest.mark.soak), 2]
BOOT_TIME = 12.0
PATIENCE = 400


class Crash(BaseException):
    """kill -9: nothing in the product may catch it."""


class Points:
    """Counts the moments at which a process can die, and dies in one of them."""

    def __init__(self, die_at: int | None) -> None:
        self.seen = 0
        self.die_at = die_at
        self.died = False

    def reach(self) -> None:
        self.seen += 1
        if self.seen - 1 == self.die_at:
            self.died = True
            raise Crash


class WatchedCloud:
    """The cloud, with a point before each call and one after it acted."""

    user_data_form = "agent-config"
    batches = True
    batch_limit = 100

    def __init__(self, cloud: InMemoryCloud, points: Points, window: float | None) -> None:
        self._cloud = cloud
        self._points = points
        self.consistency_window = cloud.consistency_window if window is None else window

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            self._points.reach()
            answer = getattr(self._cloud, method)(*args)
            self._points.reach()
            return answer

        return call


@dataclass(frozen=True)
class Kept:
    """What was there when a prelude ended, for other lives to go on from."""

    store: bytes
    world: dict[str, Any]
    now: float
    accepted: frozenset[str]
    sent: int
    points: int
    made: int


class Life:
    """One pool's life on one cloud; its provisioner may die and is started again.

    ``window``: what the driver promises of its listings, where that is not the truth.
    """

    #: The prelude of an earlier life: it is the same in each, and half of what there is to do.
    kept: Kept | None = None

    def __init__(
        self, path: Path, die_at: int | None, window: float | None = None, **settings: Any
    ) -> None:
        self.now = 1_000_000.0
        self.path = path
        self.points = Points(die_at)
        self.window = window
        self.first_point = 0
        self.accepted: set[str] = set()
        self.cloud = InMemoryCloud(InMemorySettings(**settings), lambda: self.now)
        self.sent = 0
        self.engine: Engine | None = None
        self.part = self.started()

    def started(self) -> Provisioner:
        if self.engine is not None:
            self.engine.dispose()
        self.engine = open_store(self.path)
        event.listen(self.engine, "commit", lambda _connection: self.points.reach())
        return Provisioner(
            self.engine,
            {"cloud": WatchedCloud(self.cloud, self.points, self.window)},
            EventLog(self.engine, "provisioner", "run", lambda: self.now),
            CoordinatorConfig(run="run", accounts="", state_dir="", listing_interval=POLL),
            Launcher("run", b"key", {}, lambda *_: "user data"),
            self.call,
            lambda: self.now,
        )

    def keep(self, made: int) -> None:
        """A prelude ends here. Its provisioner goes, and one that is new goes on."""
        assert self.engine is not None
        self.engine.dispose()
        apart = ("_lock", "_clock")
        world = {name: one for name, one in vars(self.cloud).items() if name not in apart}
        self.kept = Kept(
            store=self.path.read_bytes(),
            world=copy.deepcopy(world),
            now=self.now,
            accepted=frozenset(self.accepted),
            sent=self.sent,
            points=self.points.seen,
            made=made,
        )
        self.part = self.started()

    def go_on_from(self, kept: Kept) -> int:
        """Be as a life was when it was kept; how many machines were made in it."""
        assert self.engine is not None
        self.engine.dispose()
        self.path.write_bytes(kept.store)
        vars(self.cloud).update(copy.deepcopy(kept.world))
        self.now, self.accepted, self.sent = kept.now, set(kept.accepted), kept.sent
        self.points.seen = kept.points
        self.part = self.started()
        return kept.made

    def surviving(self, act: Callable[[], Any]) -> Any:
        """What ``act`` gives; when the process dies in it, a new one is asked again."""
        try:
            return act()
        except Crash:
            self.part = self.started()
            return act()

    # ------------------------------------------------------------ the others

    def call(self, service: str, method: str, *_: Any, timeout: float | None = None) -> Any:
        node_id = service.removeprefix("agent-")
        if service == "sensors":
            signs = {node: {"node_id": node, "heard_age": 1.0} for node in self.machines}
            return {"blind": False, "observing_age": 10_000.0, "nodes": signs}
        if node_id in self.machines and method == "drain":
            return {"node_id": node_id, "draining": True, "drained": True}
        raise UnknownService(service)

    def agents_report(self) -> None:
        """Every agent that has not been accepted says that it is ready, as agents do."""
        up = [m for m in self.cloud.machines if self.now - m.launched_at >= BOOT_TIME]
        for node_id in {f"{m.request.launch_id}-{m.index}" for m in up} - self.accepted:
            try:
                self.part.node_enrolled(node_id, [])
                if self.part.node_ready(ReadyReport(node_id=node_id, ok=True))["accepted"]:
                    self.accepted.add(node_id)
            except NotFound:
                continue

    def send(self, *commands: Command) -> None:
        """As the controller does: the same batch id until there is an answer."""
        self.sent += 1
        batch_id = f"batch-{self.sent}"

        def once() -> str:
            snapshot = self.part.instances(POOL)
            batch = CommandBatch(
                batch_id=batch_id,
                pool=POOL,
                based_on=snapshot.version,
                epoch=snapshot.epoch,
                launches=tuple(c for c in commands if isinstance(c, LaunchInstances)),
                drains=tuple(c for c in commands if isinstance(c, DrainInstance)),
                terminations=tuple(c for c in commands if isinstance(c, TerminateInstance)),
            )
            return self.part.apply(batch).outcome

        assert self.surviving(once) in ("applied", "repeated")

    def tick(self) -> None:
        for cloud in self.part.due():
            self.part.reconcile(cloud)
        self.part.drain_step()
        self.agents_report()

    def until(self, reached: Callable[[], bool]) -> None:
        """Let time pass until it is so, then four more polls: it must stay so."""
        for _ in range(PATIENCE):
            if reached():
                break
            self.now += 1.0
            self.surviving(self.tick)
        for _ in range(int(4 * POLL)):
            self.now += 1.0
            self.surviving(self.tick)
        assert reached(), (self.machines, [(v.node_id, v.state.value) for v in self.views])

    # ------------------------------------------------------------ what is judged

    @property
    def machines(self) -> list[str]:
        return sorted(f"{m.request.launch_id}-{m.index}" for m in self.cloud.machines)

    @property
    def views(self) -> Sequence[Any]:
        return self.part.instances(POOL).instances

    def runs(self, *nodes: str) -> Callable[[], bool]:
        """Exactly these machines run, each RUNNING by its record, and no other is intended."""

        def reached() -> bool:
            if self.machines != sorted(nodes):
                return False
            final = ("TERMINATED", "LAUNCH_FAILED", "REJECTED")
            states = {
                view.node_id: view.state.value
                for view in self.views
                if view.state.value not in final
            }
            return states == dict.fromkeys(nodes, "RUNNING")

        return reached


def launch(launch_id: str, count: int) -> LaunchInstances:
    return LaunchInstances(
        command_id=f"c-{launch_id}",
        launch_id=launch_id,
        count=count,
        cloud="cloud",
        template="worker",
        reason="wanted",
        role=NodeRole(),
    )


def terminate(node_id: str) -> TerminateInstance:
    return TerminateInstance(command_id=f"t-{node_id}", node_id=node_id, reason="not wanted")


def boot(life: Life) -> int:
    life.send(launch("a", 3))
    life.until(life.runs("a-0", "a-1", "a-2"))
    return 3


def booted(life: Life) -> int:
    """A prelude that is not interrupted: ``boot`` has points of its own."""
    if life.kept is not None:
        return life.go_on_from(life.kept)
    made = boot(life)
    life.keep(made)
    life.first_point = life.points.seen
    return made


def replace(life: Life) -> int:
    made = booted(life)
    life.send(terminate("a-1"), launch("b", 1))
    life.until(life.runs("a-0", "a-2", "b-0"))
    return made + 1


def scale_out(life: Life) -> int:
    made = booted(life)
    life.send(launch("b", 2))
    life.until(life.runs("a-0", "a-1", "a-2", "b-0", "b-1"))
    return made + 2


def scale_in(life: Life) -> int:
    made = booted(life)
    life.send(DrainInstance(command_id="d", node_id="a-2", reason="fewer", drain_timeout=1000.0))
    life.until(life.runs("a-0", "a-1"))
    return made


def teardown(life: Life) -> int:
    made = booted(life)
    life.send(launch("late", 2))
    life.surviving(lambda: life.part.terminate_all())
    life.until(lambda: bool(life.part.progress()["done"]))
    assert life.machines == []
    return made + len([m for m in life.cloud.history if m.request.launch_id == "late"])


def problems_of(
    scenario: Callable[[Life], int], directory: Path, empty_store: Path, **settings: Any
) -> Iterator[tuple[int, str]]:
    """The points at which the process must not have died, each with what went wrong."""

    def new_life(die_at: int | None) -> Life:
        path = directory / f"{'whole' if die_at is None else die_at}.db"
        shutil.copy(empty_store, path)
        return Life(path, die_at, **settings)

    return problems_at_points(scenario, new_life)


def problems_at_points(
    scenario: Callable[[Life], int], new_life: Callable[[int | None], Life], step: int = 1
) -> Iterator[tuple[int, str]]:
    """Live ``scenario`` once whole, then once for each ``step``-th of its points, dying there.

    ``new_life(die_at)`` starts in an empty world.
    """
    whole = new_life(None)
    scenario(whole)
    assert whole.points.seen - whole.first_point > 10, "the trace found no points"
    for point in range(whole.first_point, whole.points.seen, step):
        interrupted = new_life(point)
        interrupted.kept = whole.kept
        problem = ""
        try:
            wanted = scenario(interrupted)
            made = len(interrupted.cloud.history)
            if made != wanted:
                problem = f"{made} machines were made for {wanted} intents"
        except AssertionError as found:
            problem = f"did not converge: {found}"
        assert interrupted.points.died or problem, f"point {point} was never reached"
        if problem:
            yield point, problem
