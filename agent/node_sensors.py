"""A node's own sensors: programs and Prometheus pages, each measured beside the heartbeat.

One thread per sensor (a greenlet in an agent), so that one that hangs holds up neither the
heartbeat nor another one. A beat takes what was measured last, with its age, until it is too
old; then there is no figure, never a zero.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.node_role import NodeSensor
from agent.sensor_text import MAX_OUTPUT, MAX_PAGE, MAX_PROBLEM, Measured, from_lines

log = logging.getLogger(__name__)

#: A value is told for so many of its sensor's intervals (and one time-out) after it was measured.
TOLD_FOR = 3


class SensorProblem(Exception):
    """A sensor could not be measured; one line says why."""


@dataclass(frozen=True, kw_only=True)
class SensorSight:
    """What a beat says of the sensors: figures, their ages in seconds, what is wrong."""

    figures: Mapping[str, float]
    ages: Mapping[str, float]
    problems: Mapping[str, str]


class NodeSensors:
    """Measures each sensor at its interval, from ``start`` on, until the process ends."""

    def __init__(
        self,
        sensors: Mapping[str, NodeSensor],
        directory: Path,
        environment: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sensors = dict(sensors)
        self._directory = directory
        self._environment = dict(environment)
        self._clock = clock
        self._latest: dict[str, tuple[float, Measured]] = {}
        self._problems: dict[str, str] = {}
        self._ended = threading.Event()

    def start(self) -> None:
        """Begin to measure; costs nothing without sensors."""
        for name, sensor in self._sensors.items():
            threading.Thread(target=self._measure_on, args=(name, sensor), daemon=True).start()

    def stop(self) -> None:
        """Measure no more; what runs just now ends by its time-out."""
        self._ended.set()

    def sight(self) -> SensorSight:
        """What is known now. Waits for nothing."""
        now = self._clock()
        figures: dict[str, float] = {}
        ages: dict[str, float] = {}
        for name, (at, measured) in list(self._latest.items()):
            sensor = self._sensors[name]
            if now - at <= TOLD_FOR * sensor.interval + sensor.timeout:
                figures.update(measured.figures)
                ages.update(dict.fromkeys(measured.figures, now - at))
        return SensorSight(figures=figures, ages=ages, problems=dict(self._problems))

    def _measure_on(self, name: str, sensor: NodeSensor) -> None:
        while not self._ended.is_set():
            began = self._clock()
            self.measure(name, sensor)
            self._ended.wait(max(sensor.interval - (self._clock() - began), 0.1))

    def measure(self, name: str, sensor: NodeSensor) -> None:
        """Measure one sensor now, within about its time-out. Never raises."""
        try:
            if sensor.program:
                text = run_program(
                    sensor.program, self._directory, self._environment, sensor.timeout
                )
                measured = from_lines(name, text, sensor.names)
            else:
                # Only where it is wanted: the library is a megabyte of an agent's memory.
                from agent.prometheus_page import measure_page

                measured = measure_page(name, read_page(sensor), sensor.names)
        except SensorProblem as problem:
            self._note(name, str(problem))
        except Exception as problem:  # noqa: BLE001 - a sensor may do what it likes but harm
            self._note(name, f"{type(problem).__name__}: {problem}")
        else:
            self._note(name, measured.problem)
            if measured.figures:
                self._latest[name] = (self._clock(), measured)

    def _note(self, name: str, problem: str) -> None:
        """Keep a sensor's problem, one line of it; the log hears of each new one once."""
        line = " ".join(problem.split())[:MAX_PROBLEM]
        if line and self._problems.get(name) != line:
            log.warning("sensor %s: %s", name, line)
        if line:
            self._problems[name] = line
        else:
            self._problems.pop(name, None)


def run_program(
    words: tuple[str, ...], directory: Path, environment: Mapping[str, str], timeout: float
) -> str:
    """What a program prints before it ends. Raises SensorProblem.

    After ``timeout`` s, or once it printed too much, its process group is killed. Nothing is
    waited for beyond that: a child that left the group and holds the pipe holds up nobody.
    """
    deadline = time.monotonic() + timeout
    try:
        process = subprocess.Popen(
            list(words),
            cwd=directory,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except (OSError, ValueError) as problem:
        raise SensorProblem(f"{words[0]} can't be run: {problem}") from None
    assert process.stdout is not None
    output = b""
    try:
        with process.stdout as pipe:
            while True:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise SensorProblem(f"no answer within {timeout:g} s")
                if not select.select([pipe], [], [], left)[0]:
                    continue
                piece = os.read(pipe.fileno(), 65536)
                if not piece:
                    break
                output += piece
                if len(output) > MAX_OUTPUT:
                    raise SensorProblem(f"prints more than {MAX_OUTPUT} bytes")
        try:
            code = process.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            raise SensorProblem(f"no end within {timeout:g} s") from None
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
    if code != 0:
        raise SensorProblem(f"exit code {code}")
    return output.decode("utf-8", "replace")


def read_page(sensor: NodeSensor) -> str:
    """The text of a page. Raises SensorProblem once its time-out has passed."""
    deadline = time.monotonic() + sensor.timeout
    # Straight there: a proxy of the environment has no business with a node's own page.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    page = b""
    try:
        with opener.open(sensor.prometheus, timeout=sensor.timeout) as answer:
            while piece := answer.read1(65536):
                page += piece
                if len(page) > MAX_PAGE:
                    raise SensorProblem(f"{sensor.prometheus} has more than {MAX_PAGE} bytes")
                if time.monotonic() > deadline:
                    raise SensorProblem(f"no whole answer within {sensor.timeout:g} s")
    except urllib.error.HTTPError as problem:
        raise SensorProblem(f"{sensor.prometheus} answers {problem.code}") from None
    except TimeoutError:
        raise SensorProblem(f"no answer within {sensor.timeout:g} s") from None
    except OSError as problem:
        if isinstance(getattr(problem, "reason", None), TimeoutError):
            raise SensorProblem(f"no answer within {sensor.timeout:g} s") from None
        raise SensorProblem(f"{sensor.prometheus} can't be read: {problem}") from None
    return page.decode("utf-8", "replace")
