"""The node's supervisord, asked over its unix socket. Every question has a deadline.

supervisor's own client library has no time-outs, so only its wire (XML-RPC over HTTP over
a unix socket) is used here, with the standard library.
"""

from __future__ import annotations

import http.client
import os
import re
import socket
import xmlrpc.client
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar
from xml.parsers.expat import ExpatError

from agent.messages import ProcessState

T = TypeVar("T")

#: Of the node's supervisord (``supervisor.xmlrpc.Faults``).
_BAD_NAME, _ALREADY_STARTED, _NOT_RUNNING, _ALREADY_ADDED = 10, 60, 70, 90
#: States in which the reason lies in what the program printed last.
_TROUBLED = frozenset({"BACKOFF", "FATAL", "EXITED"})
#: In supervisord's own log, of which so many bytes are read.
_EXIT = re.compile(r"exited: (\S+) \(exit status (\d+);")
_LOG_TAIL = 8000
#: Bytes of stderr that ride in a heartbeat.
_TAIL_IN_BEAT = 1000


class SupervisorUnreachable(Exception):
    """The node's supervisord does not answer (in time)."""


class SupervisorRefused(Exception):
    """supervisord answered that it can't do this; the text says why."""


class ProcessProbe:
    """Process states, start, stop, signal and log tails of one supervisord.

    Each question opens a connection of its own, so greenlets may share a probe. All
    methods raise SupervisorUnreachable within about ``timeout`` seconds, or
    SupervisorRefused.
    """

    def __init__(self, socket_path: Path, timeout: float = 5.0) -> None:
        self._path = socket_path
        self._timeout = timeout
        #: How those ended that are FATAL, as long as they are.
        self._ends: dict[str, int] = {}

    # -------------------------------------------------------------- looking

    def states(self) -> tuple[ProcessState, ...]:
        """All processes. Copies of a program are named ``<program>:<process>``."""
        return self._with_exits([_process_state(info) for info in self._infos()])

    def _with_exits(self, states: list[ProcessState]) -> tuple[ProcessState, ...]:
        """``states`` with the exit status of what is FATAL.

        supervisord forgets that of a program which ended too quickly; its log has it.
        """
        fatal = {one.name for one in states if one.state == "FATAL" and not one.exit_status}
        self._ends = {name: code for name, code in self._ends.items() if name in fatal}
        if fatal - self._ends.keys():
            try:
                log = str(self._ask(lambda server: server.supervisor.readLog(-_LOG_TAIL, 0)))
            except (SupervisorUnreachable, SupervisorRefused):
                log = ""
            found = {name: int(code) for name, code in _EXIT.findall(log)}
            self._ends |= {name: found.get(name.rpartition(":")[2], 0) for name in fatal}
        return tuple(
            replace(one, exit_status=self._ends[one.name]) if one.name in fatal else one
            for one in states
        )

    def tail(self, name: str, lines: int = 100) -> str:
        """The last ``lines`` lines of a process: of its stdout, then of its stderr."""
        info = self._ask(lambda server: server.supervisor.getProcessInfo(name))
        parts = []
        for channel in ("stdout", "stderr"):
            text = _last_lines(info.get(f"{channel}_logfile", ""), 256 * lines, lines)
            if text:
                parts.append(f"== {name} {channel}\n{text}")
        return "\n".join(parts)

    # -------------------------------------------------------------- acting

    def add_new_programs(self) -> tuple[str, ...]:
        """Let supervisord read its files again and take in the groups that are new there.

        Returns the groups that changed on disk but still run as they were. Can be repeated.
        """
        added, changed, _removed = self._ask(lambda server: server.supervisor.reloadConfig())[0]
        for group in added:
            self._add(group)
        return tuple(changed)

    def start(self, name: str) -> None:
        """Start a process and don't wait for it; one that runs already is no error."""
        self._settle(lambda s: s.supervisor.startProcess(name, False), _ALREADY_STARTED)

    def stop(self, name: str) -> None:
        """Send a process its stop signal and don't wait; one that is stopped is no error.

        supervisord kills it after its ``stopwaitsecs`` and does not restart it.
        """
        self._settle(lambda s: s.supervisor.stopProcess(name, False), _NOT_RUNNING)

    def signal(self, name: str, signal_name: str) -> None:
        """Send a process a signal by name (``HUP``); one that is stopped is no error."""
        self._settle(lambda s: s.supervisor.signalProcess(name, signal_name), _NOT_RUNNING)

    def shut_down(self) -> None:
        """Ask supervisord to end all its programs, then itself."""
        self._ask(lambda server: server.supervisor.shutdown())

    # -------------------------------------------------------------- the wire

    def _add(self, group: str) -> None:
        self._settle(lambda s: s.supervisor.addProcessGroup(group), _ALREADY_ADDED)

    def _infos(self) -> list[dict[str, Any]]:
        return list(self._ask(lambda server: server.supervisor.getAllProcessInfo()))

    def _settle(self, question: Callable[[Any], Any], fine: int) -> None:
        """Ask; the fault ``fine`` means that it is already so."""
        try:
            self._ask(question)
        except SupervisorRefused as refusal:
            cause = refusal.__cause__
            if not isinstance(cause, xmlrpc.client.Fault) or cause.faultCode != fine:
                raise

    def _ask(self, question: Callable[[Any], T]) -> T:
        transport = _UnixTransport(self._path, self._timeout)
        server = xmlrpc.client.ServerProxy("http://localhost", transport=transport)
        try:
            return question(server)
        except xmlrpc.client.Fault as fault:
            raise SupervisorRefused(fault.faultString) from fault
        except (OSError, http.client.HTTPException, xmlrpc.client.Error, ExpatError) as problem:
            what = str(problem) or type(problem).__name__
            raise SupervisorUnreachable(
                f"the supervisord at {self._path} does not answer: {what}"
            ) from problem
        finally:
            transport.close()


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__()
        self._path = path
        self._timeout = timeout

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        return _UnixConnection(self._path, self._timeout)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _process_state(info: dict[str, Any]) -> ProcessState:
    group, name = info["group"], info["name"]
    troubled = info["statename"] in _TROUBLED
    return ProcessState(
        name=name if group == name else f"{group}:{name}",
        state=info["statename"],
        pid=info["pid"],
        exit_status=info["exitstatus"],
        problem=info["spawnerr"] if troubled else "",
        stderr_tail=_last_words(info) if troubled else "",
    )


def _last_words(info: dict[str, Any]) -> str:
    """The end of what a program wrote to stderr; of one that complains on stdout, of that."""
    said = _last_lines(info["stderr_logfile"], _TAIL_IN_BEAT, 10)
    return said if said.strip() else _last_lines(info["stdout_logfile"], _TAIL_IN_BEAT, 10)


def _last_lines(path: str, max_bytes: int, lines: int) -> str:
    """The end of a log file, whatever bytes are in it; empty when there is none."""
    if not path or lines <= 0:
        return ""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - max_bytes))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
