"""Hosts one pool's engine: ``python -m coordinator.controller.engine_host <fd>``.

Wire: JSON lines over the inherited socket ``<fd>``. The first line has a pool's ``engine:``
section, the path on which to look for it and the deadlines; its answer says which queues the
loaded engine follows, or what is wrong with the section. Each further
line is a PoolView without settings, and its answer a Decision, or what was raised. At the
end of the stream (the controller ended, however) the process ends, and a process that
nobody can end because its engine hangs ends itself: the kernel's alarm needs no bytecode.
"""

from __future__ import annotations

import json
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.wire import from_wire, to_wire
from coordinator.controller.decision import usable
from coordinator.engines.base import DecisionEngine, PoolView
from coordinator.errors import ConfigProblem, EngineFailed
from coordinator.pool_spec import parse_engine, queues_of

#: Seconds after the deadline until the alarm ends us: by then the controller is gone, or it
#: would have done so.
_ALARM_AFTER = 5.0


def serve(connection: socket.socket) -> None:
    """Load the engine that the first line names, then decide until the stream's end."""
    lines = connection.makefile("r", encoding="utf-8", newline="\n")
    first = lines.readline()
    if not first:
        return
    asked = json.loads(first)
    sys.path[:] = asked["path"]
    signal.setitimer(signal.ITIMER_REAL, asked["load_within"] + _ALARM_AFTER)
    try:
        engine, settings = parse_engine(asked["section"], asked["where"], asked["key"])
        queues = [str(queue) for queue in queues_of(settings)]
    except ConfigProblem as problem:
        _send(connection, {"problems": to_wire(problem.problems)})
        return
    except BaseException as problem:  # anybody's module may raise anything as it is imported
        _send(connection, _raised(problem))
        return
    signal.setitimer(signal.ITIMER_REAL, 0)
    _send(connection, {"queues": queues})
    for line in lines:
        signal.setitimer(signal.ITIMER_REAL, asked["deadline"] + _ALARM_AFTER)
        _send(connection, _decided(engine, settings, json.loads(line)))
        signal.setitimer(signal.ITIMER_REAL, 0)


def _decided(engine: DecisionEngine, settings: Any, view: Mapping[str, Any]) -> Any:
    whole = replace(from_wire(PoolView, view), settings=settings)
    try:
        return to_wire(usable(engine.decide(whole)))
    except BaseException as problem:  # SystemExit too: this is the engine's answer, not ours
        return _raised(problem)


def _raised(problem: BaseException) -> dict[str, str]:
    plain = isinstance(problem, (ConfigProblem, EngineFailed))  # it speaks for itself
    name = EngineFailed.__name__ if plain else type(problem).__name__
    try:
        text = str(problem)[:1000]
    except Exception:  # noqa: BLE001 - its own words may be as broken as it is
        text = "(its text can't be read)"
    return {"raised": name, "text": text}


def _send(connection: socket.socket, message: Mapping[str, Any]) -> None:
    with suppress(OSError):  # the other end is gone; the stream's end ends this process
        connection.sendall(json.dumps(message).encode() + b"\n")


def main(descriptor: str) -> None:
    """Serve on the inherited socket ``descriptor``."""
    # A person's Ctrl-C is for the controller; what ends this process is the stream's end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError):
        # An engine that eats memory is the first to go, before anything that keeps pools.
        Path("/proc/self/oom_score_adj").write_text("800")
    with socket.socket(fileno=int(descriptor)) as connection:
        connection.set_inheritable(False)
        connection.setblocking(True)  # eventlet made it otherwise on the other side
        serve(connection)


if __name__ == "__main__":
    main(sys.argv[1])
