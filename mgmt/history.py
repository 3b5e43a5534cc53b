"""One history out of the components' event logs: merged by time, source and sequence."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from agent.keeper_names import is_controller
from agent.messages import Event
from agent.rpc_client import CallFailed, UnknownService
from agent.wire import from_wire
from coordinator.errors import EpuError
from mgmt.answers import LEAST_SHARE, SHARED_TIMEOUT, SINGLE_TIMEOUT, Call, ask
from mgmt.keepers import components, may_be_absent

SOURCES = ("provisioner", "controller", "sensors", "registrar")
PAGE = 1000
#: How many of a source's newest events are looked at, at least, when none were seen before.
#: Older ones are in the components' log files.
LOOKED_AT = 2000


def events(
    call: Call,
    since: float | None = None,
    pool: str | None = None,
    node: str | None = None,
    name: str | None = None,
    limit: int = 200,
    after: Mapping[str, int] | None = None,
    dedicated: Sequence[str] = (),
) -> dict[str, Any]:
    """The newest ``limit`` events that fit, oldest first.

    ``dedicated``: pools that have a controller of their own.

    ``since``: epoch seconds; ``after``: the ``cursor`` of an earlier answer, to be told
    only what is new. ``missing`` names the sources that did not answer, so a reader never
    takes a gap for peace.
    """
    after = after or {}
    found: list[Event] = []
    missing: dict[str, str] = {}
    cursor = dict(after)
    sources = sources_of(dedicated)
    deadline = time.monotonic() + SINGLE_TIMEOUT
    for at, source in enumerate(sources):
        share = max(deadline - time.monotonic(), 0.0) / (len(sources) - at)
        within = min(SHARED_TIMEOUT, max(share, LEAST_SHARE))
        try:
            own = _newest_of(call, source, int(after.get(source, 0)), max(limit, LOOKED_AT), within)
        except (CallFailed, EpuError) as problem:
            if not (isinstance(problem, UnknownService) and source in may_be_absent(dedicated)):
                missing[source] = str(problem)
            continue
        if own:
            cursor[source] = own[-1].sequence
        found += [event for event in own if fits(event, since, pool, node, name)]
    return {**newest_of(found, limit), "missing": missing, "cursor": cursor}


def newest_of(found: Sequence[Event], limit: int) -> dict[str, Any]:
    """The newest ``limit`` of events that fit as JSON values, and how many more there are."""
    newest = merged(found)[-limit:] if limit > 0 else []
    return {
        "events": [{**asdict(event), "id": event.id} for event in newest],
        "omitted": len(found) - len(newest),
    }


def sources_of(dedicated: Sequence[str]) -> tuple[str, ...]:
    """Every source of events; sensors services judge nothing and keep no history."""
    own = [name for name in components(dedicated) if name not in SOURCES and is_controller(name)]
    return (*SOURCES, *own)


def _newest_of(call: Call, source: str, after: int, most: int, within: float) -> list[Event]:
    """The newest events of one source, oldest first; with a cursor all that came after it.

    Without one at most ``most`` are read, so that a full log costs no more. Pages that
    came before the deadline are kept: the cursor goes on from there. Raises what ``ask``
    raises when nothing came at all.
    """
    if not after:
        page = ask(call, source, "events", 0, -most, timeout=within)
        return [from_wire(Event, line) for line in page]
    deadline = time.monotonic() + within
    found: list[Event] = []
    while True:
        left = max(deadline - time.monotonic(), 0.05)
        try:
            page = ask(call, source, "events", after, PAGE, timeout=left)
        except CallFailed:
            if found:
                return found
            raise
        found += [from_wire(Event, line) for line in page]
        if len(page) < PAGE:
            return found
        after = found[-1].sequence


def fits(
    event: Event, since: float | None, pool: str | None, node: str | None, name: str | None
) -> bool:
    """Whether an event passes the filters; a filter that is None passes everything."""
    return (
        (since is None or event.time >= since)
        and pool in (None, event.pool)
        and node in (None, event.node)
        and name in (None, event.name)
    )


def merged(found: Iterable[Event]) -> list[Event]:
    """By time; events of one source always in the order in which it wrote them.

    A source whose clock was set back would otherwise seem to act before its cause.
    """
    last: dict[str, float] = {}
    placed: list[tuple[float, str, int, Event]] = []
    for event in sorted(found, key=lambda event: (event.source, event.sequence)):
        moment = max(event.time, last.get(event.source, event.time))
        last[event.source] = moment
        placed.append((moment, event.source, event.sequence, event))
    return [event for *_, event in sorted(placed, key=lambda item: item[:3])]
