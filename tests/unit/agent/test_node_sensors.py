"""Sensors that hang, break or overflow: nobody waits for them, and nothing becomes zero."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from agent.node_role import NodeSensor
from agent.node_sensors import NodeSensors


def python(code: str, **settings: Any) -> NodeSensor:
    return NodeSensor(program=(sys.executable, "-c", code), **{"timeout": 20.0, **settings})


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def measured(tmp_path: Path) -> Callable[..., NodeSensors]:
    """The sensors after one measurement of each."""

    def measure(clock: Clock | None = None, **sensors: NodeSensor) -> NodeSensors:
        found = NodeSensors(sensors, tmp_path, {"PATH": "/usr/bin:/bin"}, clock or Clock())
        for name, sensor in sensors.items():
            found.measure(name, sensor)
        return found

    return measure


def test_a_program_is_run_in_the_nodes_directory_with_its_environment(
    measured: Callable[..., NodeSensors], tmp_path: Path
) -> None:
    (tmp_path / "depth").write_text("7")
    sight = measured(depth=python("print(open('depth').read())")).sight()
    assert (sight.figures, sight.ages, sight.problems) == ({"depth": 7.0}, {"depth": 0.0}, {})


@pytest.mark.parametrize(
    ("sensor", "problem"),
    [
        (python("import time; print(1, flush=True); time.sleep(600)", timeout=0.5), "within 0.5 s"),
        (python("while True: print('x' * 1000)"), "more than 65536 bytes"),
        (python("print(1); raise SystemExit(3)"), "exit code 3"),
        (NodeSensor(program=("/no/such/program",)), "can't be run"),
        (NodeSensor(prometheus="http://127.0.0.1:9/", names=("x",)), "can't be read"),
    ],
    ids=["hangs", "endless", "fails", "missing", "refused"],
)
def test_a_broken_sensor_has_no_figure_and_says_why(
    measured: Callable[..., NodeSensors], sensor: NodeSensor, problem: str
) -> None:
    sight = measured(bad=sensor, good=python("print(1)")).sight()
    assert sight.figures == {"good": 1.0}
    assert problem in sight.problems["bad"]


def test_what_a_sensor_started_ends_with_it_and_a_child_that_left_holds_up_nobody(
    measured: Callable[..., NodeSensors], tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    code = (
        "import subprocess, sys\n"
        "stay = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
        "inside = subprocess.Popen(stay)\n"
        "left = subprocess.Popen(stay, start_new_session=True)\n"
        "open('pids', 'w').write(f'{inside.pid} {left.pid}')\n"
        "print(5)\n"
    )
    began = time.monotonic()
    sight = measured(forks=python(code, timeout=3.0)).sight()
    inside, left = map(int, (tmp_path / "pids").read_text().split())
    psutil.Process(left).kill()
    assert time.monotonic() - began < 30
    assert "within 3 s" in sight.problems["forks"]
    eventually(lambda: not runs(inside), 20, "what the sensor started runs on")


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_value_is_told_with_its_age_for_three_intervals_and_then_is_missing(
    measured: Callable[..., NodeSensors],
) -> None:
    clock = Clock()
    sensors = measured(clock, depth=python("print(7)", interval=10.0, timeout=5.0))
    clock.now += 35.0
    assert (sensors.sight().figures, sensors.sight().ages) == ({"depth": 7.0}, {"depth": 35.0})
    clock.now += 0.1
    assert (sensors.sight().figures, sensors.sight().ages) == ({}, {})


# ------------------------------------------------------------------ pages


class Page(BaseHTTPRequestHandler):
    """``/good``, ``/large``, ``/error``, and ``/drip``: a byte now and then, for ever."""

    def do_GET(self) -> None:
        if self.path == "/error":
            self.send_error(503)
            return
        self.send_response(200)
        self.end_headers()
        if self.path == "/good":
            self.wfile.write(b"depth 4\n")
        elif self.path == "/large":
            self.wfile.write(b"# x\n" * 400_000)
        else:
            while not self.server.ended.wait(0.1):  # type: ignore[attr-defined]
                self.wfile.write(b"#")

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Page)
    server.ended = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.ended.set()  # type: ignore[attr-defined]
        server.shutdown()
        server.server_close()


def test_pages_that_are_large_slow_or_in_error_are_problems_and_no_figures(
    measured: Callable[..., NodeSensors],
) -> None:
    with serving() as url, socket.create_server(("127.0.0.1", 0)) as mute:
        page = {"names": ("depth",), "timeout": 1.0}
        stalls = f"http://127.0.0.1:{mute.getsockname()[1]}/"
        sight = measured(
            good=NodeSensor(prometheus=f"{url}/good", **page),
            large=NodeSensor(prometheus=f"{url}/large", **page),
            error=NodeSensor(prometheus=f"{url}/error", **page),
            stalls=NodeSensor(prometheus=stalls, **page),
            drips=NodeSensor(prometheus=f"{url}/drip", **page),
        ).sight()
    assert sight.figures == {"good.depth": 4.0}
    assert "more than" in sight.problems["large"]
    assert "answers 503" in sight.problems["error"]
    assert "within 1 s" in sight.problems["stalls"]
    assert "within 1 s" in sight.problems["drips"]


def test_a_sensor_that_hangs_holds_up_no_other(
    tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    hangs = python("import time; time.sleep(600)", timeout=60.0)
    counts = python(
        "import pathlib\np = pathlib.Path('n')\n"
        "n = int(p.read_text()) + 1 if p.exists() else 1\np.write_text(str(n))\nprint(n)",
        interval=1.0,
    )
    sensors = NodeSensors({"hangs": hangs, "counts": counts}, tmp_path, {"PATH": "/usr/bin"})
    sensors.start()
    eventually(lambda: sensors.sight().figures.get("counts", 0) >= 2, 60)
    assert "hangs" not in sensors.sight().figures
    sensors.stop()
    for child in psutil.Process().children():
        if "time.sleep(600)" in " ".join(child.cmdline()):
            child.kill()
