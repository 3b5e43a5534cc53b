"""What is wrong with a role although each of its keys is well by itself. PURE."""

from __future__ import annotations

import re
from collections.abc import Iterator

from agent.node_role import HOST_FIGURES, MAX_SENSORS, NodeRole
from coordinator.pool_values import HealthSettings

#: As ``agent.programs`` has it: what supervisord takes as a program's name.
_PROGRAM_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*\Z")


def role_problems(role: NodeRole, health: HealthSettings) -> Iterator[tuple[str, str]]:
    """(key, what is wrong with it), for people."""
    for name in role.sensors:
        if not _PROGRAM_NAME.match(name) or name in HOST_FIGURES or len(name) > 40:
            what = "a name has up to 40 letters, digits, - and _, and is no figure of every node"
            yield f"sensors.{name}", what
    if len(role.sensors) > MAX_SENSORS:
        yield "sensors", f"a node has at most {MAX_SENSORS} sensors, not {len(role.sensors)}"
    for name in role.programs:
        if not _PROGRAM_NAME.match(name) or name == "agent":
            yield f"programs.{name}", "a name has letters, digits, - and _ and is not 'agent'"
    if role.busy_file is not None and not _is_below(role.busy_file):
        yield "busy_file", "must be a path below the node's directory, without '..'"
    yield from _busy_problems(role)
    yield from _hook_problems(role, health)


def _busy_problems(role: NodeRole) -> Iterator[tuple[str, str]]:
    busy = role.busy
    if busy is not None:
        if role.busy_file is not None:
            yield "busy_file", "say it in busy: file, or leave busy away; not both"
        if busy.file and not _is_below(busy.file):
            yield "busy.file", "must be a path below the node's directory, without '..'"
        if busy.socket:
            host, _, port = busy.socket.rpartition(":")
            if not (host and port.isdigit()) and not _is_below(busy.socket):
                yield "busy.socket", "must be host:port, or a path below the node's directory"
    if role.drain is None:
        return
    if role.busy_source is None:
        yield "drain", "needs busy: what says when the work that is in hand has ended"
    elif role.busy_queue:
        what = "needs a busy source that the node itself can ask: file, socket, program or cpu"
        yield "drain", what


def _hook_problems(role: NodeRole, health: HealthSettings) -> Iterator[tuple[str, str]]:
    if role.on_ready is not None and role.on_ready.at_most >= health.boot_timeout:
        yield (
            "on_ready",
            f"may take {role.on_ready.at_most:g} s, and health.boot_timeout "
            f"({health.boot_timeout:g} s) ends the boot before: raise that",
        )
    if role.on_drain is not None and role.on_drain.at_most > role.drain_timeout:
        yield (
            "on_drain",
            f"may take {role.on_drain.at_most:g} s, and drain_timeout "
            f"({role.drain_timeout:g} s) ends the drain before: raise that",
        )


def _is_below(text: str) -> bool:
    parts = text.split("/")
    return not text.startswith("/") and ".." not in parts and parts[-1] not in ("", ".")
