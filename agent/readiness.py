"""Verification of a node by itself: its programs run, its checks pass.

Plain blocking code with deadlines; under eventlet its waits yield. The result says which
step failed and shows the last lines of what the step printed.
"""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from agent.child import run_child
from agent.messages import CheckSpec, ProcessState

#: Seconds a program is given to be RUNNING, on top of its own ``start_seconds``. Must be
#: longer than supervisord's four tries take, so that a bad program is seen to be FATAL.
PROGRAM_GRACE = 30.0
_POLL = 0.2


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Ready (``ok``), or which step was not and why (several lines)."""

    ok: bool
    step: str = ""
    problem: str = ""


class NotYet(Exception):
    """A check does not pass (yet); the text says why."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What checks and their waits need of the world. ``tell(step, detail)``: where they are."""

    directory: Path
    environment: Mapping[str, str]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    tell: Callable[[str, str], None] = lambda step, detail: None


# ------------------------------------------------------------------ programs


def judge_programs(
    names: Collection[str], processes: tuple[ProcessState, ...] | None
) -> Verdict | None:
    """Of the named processes: all RUNNING, one FATAL, or None: wait. PURE."""
    if processes is None:
        return None
    seen = {process.name: process for process in processes}
    for name in sorted(names):
        if name in seen and seen[name].state == "FATAL":
            found = seen[name]
            return Verdict(ok=False, step=f"program {name}", problem=_why_fatal(found))
    if all(name in seen and seen[name].state == "RUNNING" for name in names):
        return Verdict(ok=True)
    return None


def _why_fatal(process: ProcessState) -> str:
    """Why a program was given up, with its own last words in the first line. PURE.

    That line is all that lists and events show; supervisord's phrase for a program that ends
    at once, every time, names a file that nobody who reads it has at hand.
    """
    why = process.problem or "it is FATAL"
    if why.startswith("Exited too quickly"):
        why = "ends right after each start"
    said = [line for line in process.stderr_tail.splitlines() if line.strip()]
    if not said:
        return f"{why}, and printed nothing" if process.problem else why
    first = f"{why}: {said[-1].strip()}"
    return "\n".join([first, *said]) if len(said) > 1 else first


def await_programs(
    names: Collection[str],
    look: Callable[[], tuple[ProcessState, ...] | None],
    timeout: float,
    around: Surroundings,
) -> Verdict:
    """Wait until ``judge_programs`` knows, at most ``timeout`` seconds."""
    deadline = around.clock() + timeout
    processes: tuple[ProcessState, ...] | None = None
    while True:
        if names:
            processes = look()
        verdict = judge_programs(names, processes if names else ())
        if waited := _awaited(names, processes):
            around.tell(*waited)
        if verdict is not None:
            return verdict
        if around.clock() >= deadline:
            return _not_running(names, processes, timeout)
        around.sleep(_POLL)


def _awaited(
    names: Collection[str], processes: tuple[ProcessState, ...] | None
) -> tuple[str, str] | None:
    """The first program that is not RUNNING, as a step of the start."""
    seen = {process.name: process for process in processes or ()}
    for name in sorted(names):
        if name not in seen or seen[name].state != "RUNNING":
            return f"program {name}", seen[name].state if name in seen else "not known yet"
    return ("programs", "all are RUNNING") if names else None


def _not_running(
    names: Collection[str], processes: tuple[ProcessState, ...] | None, timeout: float
) -> Verdict:
    if processes is None:
        return Verdict(ok=False, step="programs", problem="the node's supervisord does not answer")
    seen = {process.name: process for process in processes}
    for name in sorted(names):
        found = seen.get(name)
        if found is None or found.state != "RUNNING":
            state = found.state if found else "unknown to supervisord"
            tail = f"\n{found.stderr_tail}" if found and found.stderr_tail else ""
            return Verdict(
                ok=False,
                step=f"program {name}",
                problem=f"not RUNNING after {timeout:g} s: {state}{tail}",
            )
    raise AssertionError("called although all programs are RUNNING")


# ------------------------------------------------------------------ checks


def check_name(check: CheckSpec) -> str:
    """How a check is called in messages."""
    for kind in ("tcp", "http", "file"):
        if getattr(check, kind):
            return f"{kind} {getattr(check, kind)}"
    return f"run {' '.join(check.run or ())}"


def await_check(check: CheckSpec, around: Surroundings) -> Verdict:
    """Try a check each ``interval`` until it passes, at most ``timeout`` seconds."""
    deadline = around.clock() + check.timeout
    why = ""
    while True:
        left = max(deadline - around.clock(), 0.05)
        try:
            _try(check, left, around)
            around.tell(f"check {check_name(check)}", "passed")
            return Verdict(ok=True)
        except TimeoutError as problem:
            # The last try is cut short by the deadline; an earlier answer says more.
            why = why or str(problem) or "no answer"
        except (NotYet, OSError, http.client.HTTPException, ValueError) as problem:
            why = str(problem) or type(problem).__name__
        around.tell(f"check {check_name(check)}", f"failing: {why}")
        if around.clock() + check.interval >= deadline:
            text = f"still failing after {check.timeout:g} s: {why}"
            return Verdict(ok=False, step=f"check {check_name(check)}", problem=text)
        around.sleep(check.interval)


def await_checks(checks: tuple[CheckSpec, ...], around: Surroundings) -> Verdict:
    """All checks in their order; the verdict of the first that fails."""
    for check in checks:
        verdict = await_check(check, around)
        if not verdict.ok:
            return verdict
    return Verdict(ok=True)


def _try(check: CheckSpec, timeout: float, around: Surroundings) -> None:
    if check.tcp:
        _try_tcp(check.tcp, timeout)
    elif check.http:
        _try_http(check.http, timeout)
    elif check.file:
        if not (around.directory / check.file).exists():
            raise NotYet("it does not exist")
    elif check.run:
        _try_run(check.run, timeout, around)


def _try_tcp(address: str, timeout: float) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise NotYet(f"'{address}' is not host:port")
    socket.create_connection((host.strip("[]"), int(port)), timeout=timeout).close()


def _try_http(url: str, timeout: float) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise NotYet(f"'{url}' is not an http or https URL")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=timeout)
    try:
        path = parts.path or "/"
        connection.request("GET", f"{path}?{parts.query}" if parts.query else path)
        status = connection.getresponse().status
    finally:
        connection.close()
    if status >= 400:
        raise NotYet(f"it answers {status}")


def _try_run(words: tuple[str, ...], timeout: float, around: Surroundings) -> None:
    """Run a command to its end. It has a process group of its own, killed at the deadline."""
    ending = run_child(
        words, around.directory, around.environment, timeout, around.clock, around.sleep
    )
    if ending.code is None:
        raise TimeoutError(f"it did not end in {timeout:.1f} s")
    if ending.code != 0:
        raise NotYet(f"exit status {ending.code}" + (f"\n{ending.tail}" if ending.tail else ""))
