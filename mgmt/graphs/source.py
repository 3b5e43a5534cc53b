"""Where the events and decisions of a graph come from: a running system, and log files."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.keeper_names import controller_name
from agent.keepers import KeeperCalls
from agent.messages import Event
from agent.rpc_client import BrokerUnreachable, CallFailed, UnknownService
from agent.wire import from_wire
from coordinator.errors import ConfigProblem, EpuError
from mgmt.answers import Call, ask
from mgmt.event_files import distinct, read_event_files
from mgmt.history import PAGE, merged, sources_of
from mgmt.keepers import dedicated_pools, every_pool, may_be_absent
from mgmt.run_events import LogPlace

#: Seconds for all pages of one component, and for one page.
SOURCE_WITHIN, PAGE_WITHIN = 20.0, 5.0
#: Decisions in one answer.
DECISIONS_PAGE = 500


@dataclass
class History:
    """What was found. ``missing``: component → why; ``broken``: lines that can't be read."""

    events: list[Event] = field(default_factory=list)
    decisions: list[dict[str, Any]] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def read_files(self, paths: Sequence[Path]) -> None:
        """Add the events of files and directories. Raises NotFound, OSError."""
        found = read_event_files(paths)
        self.events += found.events
        self.broken += found.broken

    def read_store(self, state_dir: Path | None) -> None:
        """Add the decisions in the controller's store of an ended run, where it still is."""
        from coordinator.simulation.replay_source import explanations_in

        store = None if state_dir is None else state_dir / "controller.db"
        if store is not None and store.exists():
            try:
                self.decisions += explanations_in(store)
            except ConfigProblem as problem:
                self.broken.append(str(problem))

    def ordered(self, since: float | None, pool: str | None) -> list[Event]:
        """Each event once, in the order of time; of one pool only when ``pool`` says which."""
        found = distinct(
            event
            for event in self.events
            if (since is None or event.time >= since) and pool in (None, event.pool)
        )
        numbered = merged([event for event in found if event.sequence])
        rest = [event for event in found if not event.sequence]
        return sorted([*numbered, *rest], key=lambda event: event.time)


def ask_history(call: Call, history: History, place: LogPlace) -> None:
    """Add all that the components know; of one that is silent, what its log file holds.

    Raises BrokerUnreachable when there is neither a broker nor a file.
    """
    dedicated = dedicated_pools(call)
    for source in sources_of(dedicated):
        try:
            history.events += _events(call, source)
        except (CallFailed, EpuError) as problem:
            paths = place.of(source)
            if isinstance(problem, BrokerUnreachable) and not paths:
                raise
            if isinstance(problem, UnknownService) and source in may_be_absent(dedicated):
                continue
            history.missing[source] = str(problem)
            history.read_files(paths)
    if not {"controller", *map(controller_name, dedicated)} <= history.missing.keys():
        to_keeper = KeeperCalls(call).call
        for name in every_pool(call).names:
            history.decisions += decisions_of(to_keeper, name)


def decisions_of(call: Call, pool: str) -> list[dict[str, Any]]:
    """Every stored decision of a pool, oldest first, or as many of them as come in time."""
    found: list[dict[str, Any]] = []
    deadline = time.monotonic() + SOURCE_WITHIN
    while time.monotonic() < deadline:
        since = float(found[-1]["time"]) if found else 0.0
        page = ask(
            call, "controller", "decisions", pool, since, DECISIONS_PAGE, timeout=PAGE_WITHIN
        )
        found += page
        if len(page) < DECISIONS_PAGE:
            break
    return found


def worker_logs(state_dir: Path | None) -> list[Path]:
    """Log directories of machines of this host, where workers write of their jobs."""
    return sorted((state_dir / "clouds").glob("*/*/logs")) if state_dir is not None else []


def _events(call: Call, source: str) -> list[Event]:
    found: list[Event] = []
    deadline = time.monotonic() + SOURCE_WITHIN
    while time.monotonic() < deadline:
        after = found[-1].sequence if found else 0
        page = ask(call, source, "events", after, PAGE, timeout=PAGE_WITHIN)
        found += [from_wire(Event, line) for line in page]
        if len(page) < PAGE:
            return found
    raise CallFailed(f"{source} has more events than come in {SOURCE_WITHIN:g} s")
