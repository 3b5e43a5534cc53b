"""Engines that are not ours run in processes of their own: late or dead, they hurt nobody."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agent.messages import HealthStatus, InstanceState
from agent.wire import to_wire
from coordinator.controller.engine_process import EngineProcess, engine_for
from coordinator.engines.base import Decision, PoolView, ViewedInstance, ViewedReading
from coordinator.engines.combined import Combined
from coordinator.errors import EngineFailed
from coordinator.pool_spec import parse_pool, unchecked

STRANGE = "tests.unit.coordinator.controller.misbehaving:Engine"
VIEW = PoolView(
    pool="strange",
    now=1_790_000_000.123456789,
    instances=(
        ViewedInstance(
            node_id="a-0",
            state=InstanceState.RUNNING,
            health=HealthStatus.OK,
            busy=True,
            figures={"cpu_percent": 12.5},
            heard_age=0.1,
        ),
    ),
    readings={"queue.work.ready": ViewedReading(value=float("nan"), age=1e-9, sample="7")},
    history={"queue.work.ready": ((1.5, 2.5),)},
    previous=Decision(size=3, reason="before", memory={"asked": 4}, seen={"on": "7"}),
)

Made = Callable[..., EngineProcess]


@pytest.fixture
def made() -> Iterator[Made]:
    engines: list[EngineProcess] = []

    def make(how: str, deadline: float = 10.0) -> EngineProcess:
        section = {"type": STRANGE, "how": how}
        engines.append(EngineProcess(section, deadline))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_hosted_engine_sees_the_whole_view_and_its_decision_comes_back_whole(made: Made) -> None:
    engine = made("well")
    found = engine.decide(VIEW)
    assert found == Decision(
        size=2,
        reason="asked at 1790000000.1234567",
        victims=("a-0",),
        memory={"asked": 5, "figure": 0.1 + 0.2},
    )
    assert engine.decide(VIEW) == found
    pid = engine.pid
    assert pid is not None and not gone(pid)
    engine.close()
    assert gone(pid)


@pytest.mark.parametrize("how", ["sleep", "regex", "power", "loop"])
def test_an_engine_that_hangs_is_killed_at_its_deadline_and_not_asked_again_at_once(
    made: Made, how: str
) -> None:
    engine = made(how, deadline=0.3)
    seen: list[int | None] = []
    asked = threading.Thread(target=lambda: seen.append(_pid_while_deciding(engine)))
    asked.start()
    with pytest.raises(EngineFailed, match=r"gave no answer within 0\.3 s and was killed"):
        engine.decide(VIEW)
    asked.join()
    assert seen[0] is not None and gone(seen[0])
    with pytest.raises(EngineFailed, match="gave no answer"):
        engine.decide(VIEW)
    assert engine.pid is None


def _pid_while_deciding(engine: EngineProcess) -> int | None:
    for _ in range(100_000):
        if engine.pid is not None:
            return engine.pid
        threading.Event().wait(0.001)
    return None


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("broken", "LookupError: no such thing"),
        ("leave", "SystemExit: 0"),
        ("crash", "its process died"),
        ("absurd", "it wants -1 workers"),
        ("large", "its answer can't be used: it is longer than 1000000 bytes"),
    ],
)
def test_what_goes_wrong_in_a_hosted_engine_is_said_by_name(
    made: Made, how: str, said: str
) -> None:
    with pytest.raises(Exception) as raised:
        made(how).decide(VIEW)
    name = "" if isinstance(raised.value, EngineFailed) else f"{type(raised.value).__name__}: "
    assert f"{name}{raised.value}" == said


def test_a_process_that_nobody_can_end_any_more_ends_itself() -> None:
    """As after ``kill -9`` of the controller in the middle of a decision."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        host = subprocess.Popen(
            [sys.executable, "-m", "coordinator.controller.engine_host", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
        )
        first = {
            "section": {"type": STRANGE, "how": "power"},
            "where": "",
            "key": "engine",
            "path": sys.path,
            "load_within": 60.0,
            "deadline": -4.5,
        }
        for message in (first, to_wire(VIEW)):
            ours.sendall(json.dumps(message).encode() + b"\n")
    assert host.wait(30) == -signal.SIGALRM


def test_only_engines_that_are_not_ours_cost_a_process() -> None:
    def engine(section: dict[str, Any]) -> Any:
        return engine_for(parse_pool("p", {"engine": section}, foreign=unchecked), 5.0)

    ours = {"type": "n_preserving", "preserve_n": 2}
    foreign = {"type": STRANGE}
    both = {"type": "combined", "engines": {"a": ours, "b": {"type": "combined", "engines": {}}}}
    both["engines"]["b"]["engines"]["c"] = foreign  # type: ignore[index]
    assert isinstance(engine({"type": "combined", "engines": {"a": ours}}), Combined)
    assert isinstance(engine(both), EngineProcess)
    assert isinstance(engine(foreign), EngineProcess)
