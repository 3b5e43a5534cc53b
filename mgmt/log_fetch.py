"""Collecting the logs of a run in one directory: its base's and its workers'.

What is on this machine is copied (logs of machines that are gone too), what is not is asked
of the nodes' agents. Each file is whole or not there, and is on a list when it is, so a fetch
that was interrupted goes on; a finished one that is repeated fetches everything anew, but
keeps what it can't get again: the last words of a node that has gone are the ones wanted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.rpc_client import BrokerUnreachable, CallFailed
from coordinator.errors import EpuError, NotFound
from mgmt.answers import Call, ask
from mgmt.broker_files import write_private

LIST_NAME = "fetched.json"
#: Lines of each log that are asked of a node, and seconds it has for them.
NODE_LINES, NODE_TIMEOUT = 2000, 7.0


@dataclass(frozen=True)
class LogSource:
    """One file to be: ``target`` is its path below the directory, ``read`` gives its bytes."""

    target: str
    read: Callable[[], bytes]


@dataclass
class FetchReport:
    """What came of it. ``silent``: node → why its logs are not there."""

    directory: Path
    fetched: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    silent: dict[str, str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    broker_dead: bool = False

    @property
    def whole(self) -> bool:
        """Whether nothing that was looked for is missing."""
        return not self.silent and not self.problems

    def document(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "directory": str(self.directory),
            "fetched": self.fetched,
            "kept": self.kept,
            "silent": self.silent,
            "problems": self.problems,
        }


def local_sources(run_directory: Path, state_dir: Path | None) -> Iterator[LogSource]:
    """Logs of a run that are files of this machine: what booted it, and all of its machines."""
    yield from _of_directory(run_directory / "logs", "base/boot")
    yield from _of_directory(run_directory / "broker" / "logs", "base/broker")
    if state_dir is not None:
        yield from _of_directory(state_dir / "logs", "base/coordinator")
        yield from _of_machines(state_dir / "clouds", "machines")
    for conf in sorted(run_directory.glob("*/supervisord.conf")):  # controllers of single pools
        if conf.parent != state_dir:
            yield from _of_directory(conf.parent / "logs", f"base/{conf.parent.name}")
    yield from _of_machines(run_directory / "clouds", "base/machines")


def _of_directory(directory: Path, target: str) -> Iterator[LogSource]:
    for path in sorted(directory.glob("*")) if directory.is_dir() else ():
        if path.is_file() and not path.is_symlink():
            yield LogSource(f"{target}/{path.name}", path.read_bytes)


def _of_machines(clouds: Path, target: str) -> Iterator[LogSource]:
    for logs in sorted(clouds.glob("*/*/logs")):
        yield from _of_directory(logs, f"{target}/{logs.parent.name}")


@dataclass
class LogFetch:
    """One fetch into ``directory``. ``call`` reaches the run's components, None: nobody to ask."""

    directory: Path
    call: Call | None
    say: Callable[[str], None]

    def perform(self, sources: Iterator[LogSource], base_nodes: list[str]) -> FetchReport:
        """Fetch all. ``base_nodes``: node ids of the levels' machines that have an agent.

        Raises OSError when the directory can't be written.
        """
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        report = FetchReport(self.directory)
        before = self._list()
        done: set[str] = set() if before.get("finished") else set(before.get("files", ()))
        for source in sources:
            self._take(source, done, report)
        for node, folder in self._nodes(base_nodes, report):
            self._take_node(node, f"{folder}/{node}/agent-answer.log", done, report)
            if report.broker_dead:
                break
        # Only a fetch that got everything begins anew when it is repeated.
        self._store(done, finished=report.whole)
        return report

    def _take(self, source: LogSource, done: set[str], report: FetchReport) -> None:
        if source.target in done:
            report.kept.append(source.target)
            return
        try:
            content = source.read()
        except FileNotFoundError:
            return  # rotated away, or its machine has just been cleared
        except OSError as problem:
            report.problems[source.target] = problem.strerror or str(problem)
            return
        self._write(source.target, content)
        report.fetched.append(source.target)
        done.add(source.target)
        self._store(done, finished=False)

    def _nodes(self, base_nodes: list[str], report: FetchReport) -> Iterator[tuple[str, str]]:
        if self.call is None:
            return
        for node in base_nodes:
            yield node, "base/machines"
        try:
            document = ask(self.call, "management", "nodes", None, False, timeout=NODE_TIMEOUT)
        except (CallFailed, EpuError) as problem:
            report.broker_dead = isinstance(problem, BrokerUnreachable)
            report.problems["workers"] = f"which there are can't be asked: {problem}"
            return
        for node in document["nodes"]:
            if node["state"] in ("BOOTING", "RUNNING", "DRAINING"):
                yield str(node["node_id"]), "machines"

    def _take_node(self, node: str, target: str, done: set[str], report: FetchReport) -> None:
        assert self.call is not None
        if target in done:
            report.kept.append(target)
            return
        try:
            words = ("management", "node_logs", node, "", NODE_LINES)
            document = ask(self.call, *words, timeout=NODE_TIMEOUT)
        except (CallFailed, EpuError) as problem:
            report.broker_dead = isinstance(problem, BrokerUnreachable)
            if not isinstance(problem, NotFound):  # it has gone while we were at it
                report.silent[node] = str(problem)
                self.say(f"{node} does not answer: {problem}")
            return
        self._take(LogSource(target, str(document["text"]).encode), done, report)

    def _write(self, target: str, content: bytes) -> None:
        path = self.directory / target
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        unfinished = path.with_name(f".{path.name}.part")
        handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        unfinished.replace(path)

    def _list(self) -> dict[str, Any]:
        try:
            found = json.loads((self.directory / LIST_NAME).read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _store(self, done: set[str], *, finished: bool) -> None:
        content = {"files": sorted(done), "finished": finished}
        write_private(self.directory / LIST_NAME, json.dumps(content, indent=1))
